# SPDX-License-Identifier: Apache-2.0
"""The table at the end of a test run: which parts were skipped for want of tools, and what installs them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

PACKAGES = "sudo scripts/ci_packages.sh"
DEV = "pip install -e '.[dev]'"
# By the reason of a skip: the part of the tests, and the command that installs what it needs. The first that fits.
PARTS: tuple[tuple[str, str, str], ...] = (
    (r"Chromium", "the page in a browser", PACKAGES),
    (r"^cpp: ", "the C++ client", PACKAGES),
    (r"^go: |stubs for go|^go is not", "the Go client", "install Go (https://go.dev/dl)"),
    (r"^java: |^mvn is not", "the Java client", "apt-get install maven default-jdk-headless"),
    (r"^typescript: |stubs for typescript|^npm is not", "the TypeScript client", "apt-get install nodejs npm"),
    (r"^rust: |stubs for rust|^cargo is not", "the Rust client", "install Rust (https://rustup.rs)"),
    (r"extra captum", "comparison with Captum", "pip install 'lstm-explain[captum]'"),
    (
        r"extra \[ray\]|'build'|'twine'|matplotlib|pandas|mkdocs|array_api_strict|opentelemetry|triton|the site needs",
        "Python",
        DEV,
    ),
    (r"[Bb]uf is not|hadolint|kubectl|kubernetes|kserve|compose", "deployment files", "make deploy-check"),
    (r"openssl is not", "certificates", "apt-get install openssl"),
)


def table(reasons: Iterable[str]) -> list[str]:
    """A line per part that was skipped, with the number of tests and the command; empty if there is none. Skips that no
    installation would cure are not counted.
    """
    found: Counter[tuple[str, str]] = Counter()
    for reason in reasons:
        reason = reason.removeprefix("Skipped: ")
        part = next(((name, cure) for pattern, name, cure in PARTS if re.search(pattern, reason)), None)
        if part is not None:
            found[part] += 1
    if not found:
        return []
    width = max(len(name) for name, _ in found)
    rows = (f"{name:{width}}  {count:5}  {cure}" for (name, cure), count in sorted(found.items()))
    return [f"{'skipped':{width}}  tests  to run them", *rows]
