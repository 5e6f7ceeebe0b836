# SPDX-License-Identifier: Apache-2.0
"""Writes one version to all packages: `scripts/release.py 0.2.0`; `--check` only compares.

It needs nothing but Python, so that a workflow can run it before anything is installed.
"""

from __future__ import annotations

import datetime as dt
import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSION = r"\d+\.\d+\.\d+(?:[a-z]+\d+)?"
# By file, what stands before the version and after it; the first place counts, and the first two in package-lock.json.
PLACES = {
    "pyproject.toml": (r'^version = "', '"', 1),
    "Dockerfile": (r"^ARG VERSION=", "$", 1),
    "deploy/helm/lstm-explain/Chart.yaml": (r"^(?:version: |appVersion: \")", r"\"?$", 2),
    "CITATION.cff": (r"^version: ", "$", 1),
    "client/typescript/package.json": (r'^  "version": "', '"', 1),
    "client/typescript/package-lock.json": (r'^ +"version": "', '"', 2),
    "client/rust/Cargo.toml": (r'^version = "', '"', 1),
    "client/rust/Cargo.lock": (r'^name = "lstm-explain-client"\nversion = "', '"', 1),
    "client/java/pom.xml": (r"<artifactId>lstm-explain-client</artifactId>\n  <version>", "</version>", 1),
    "client/java/README.md": (r"<artifactId>lstm-explain-client</artifactId>\n      <version>", "</version>", 1),
    "client/typescript/README.md": (r"lstm-explain-client-", r"\.tgz", 1),
}
UNRELEASED = "## [Unreleased]\n"


def versions(root: Path) -> dict[str, str]:
    """The version in each file; "?" where there is none."""
    return {name: (found[0] if (found := _places(root, name)) else "?") for name in PLACES}


def write(root: Path, version: str, today: dt.date) -> None:
    for name, (before, after, count) in PLACES.items():
        path = root / name
        pattern = re.compile(f"({before}){VERSION}({after})", re.MULTILINE)
        text, changed = pattern.subn(rf"\g<1>{version}\g<2>", path.read_text(encoding="utf-8"), count=count)
        if changed != count:
            sys.exit(f"release: {name} states the version {changed} times, expected {count}")
        path.write_text(text, encoding="utf-8")
    log = root / "CHANGELOG.md"
    text = log.read_text(encoding="utf-8")
    log.write_text(text.replace(UNRELEASED, f"{UNRELEASED}\n## [{version}] - {today}\n", 1), encoding="utf-8")


def _places(root: Path, name: str) -> list[str]:
    before, after, count = PLACES[name]
    pattern = re.compile(f"{before}({VERSION}){after}", re.MULTILINE)
    return pattern.findall((root / name).read_text(encoding="utf-8"))[:count]


def main() -> None:
    check, arguments = "--check" in sys.argv, [a for a in sys.argv[1:] if a != "--check"]
    if len(arguments) != 1 or not re.fullmatch(VERSION, arguments[0]):
        sys.exit(f"usage: {Path(sys.argv[0]).name} [--check] VERSION, such as 0.2.0")
    if not check:
        write(ROOT, arguments[0], dt.datetime.now(dt.UTC).date())
    wrong = [f"{name} says {found}" for name, found in versions(ROOT).items() if found != arguments[0]]
    if wrong:
        sys.exit(f"release: the version is {arguments[0]}, but {'; '.join(wrong)}")


if __name__ == "__main__":
    main()
