"""Checks that every source file states its licence in its first lines; `--write` adds what is missing.

Generated files and the wire format are left out: a comment at the top of a proto would become part of all stubs.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LINE = "SPDX-License-Identifier: Apache-2.0"
COMMENTS = {
    "#": (".py", ".sh"),
    "//": (".go", ".java", ".ts", ".rs", ".cpp", ".hpp", ".js"),
}
MARKERS = ("do not edit", "DO NOT EDIT", "@generated", "Code generated")
LEFT_OUT = ("proto/", "client/rust/src/proto/", "tests/zoo/", "tests/exports/", "tests/cases/")


def missing(root: Path) -> list[Path]:
    """The source files under version control without the line."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    return [path for name in filter(None, listed.split("\0")) if wants(path := root / name, name)]


def wants(path: Path, name: str) -> bool:
    if name.startswith(LEFT_OUT) or not comment_of(path) or not path.is_file():
        return False
    top = path.read_text(encoding="utf-8")[:1000]
    return bool(top.strip()) and LINE not in top and not any(marker in top for marker in MARKERS)


def comment_of(path: Path) -> str:
    return next((comment for comment, suffixes in COMMENTS.items() if path.suffix in suffixes), "")


def with_line(text: str, comment: str) -> str:
    """Return the text with the line at the top, below a `#!` line. In languages where a comment at the top may document
    what follows, an empty line separates the two.
    """
    first, newline, rest = text.partition("\n")
    line = f"{comment} {LINE}\n" + ("\n" if comment == "//" else "")
    return f"{first}{newline}{line}{rest}" if text.startswith("#!") else line + text


def main() -> None:
    found = missing(ROOT)
    if "--write" in sys.argv:
        for path in found:
            path.write_text(with_line(path.read_text(encoding="utf-8"), comment_of(path)), encoding="utf-8")
        print(f"{len(found)} files now state their licence")
    elif found:
        names = ", ".join(str(path.relative_to(ROOT)) for path in found[:10])
        sys.exit(f"{len(found)} files do not state their licence ({names}, …): python3 scripts/spdx.py --write")


if __name__ == "__main__":
    main()
