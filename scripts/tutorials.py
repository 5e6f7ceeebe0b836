# SPDX-License-Identifier: Apache-2.0
"""Runs the tutorials of docs/tutorials as a reader would, and compares or writes their output.

A tutorial is a Markdown file whose first line names the packages that it needs from PyPI. Its blocks run in order, in
an empty folder: `python` blocks with a title become files, `sh` blocks run, and the `text` block after an `sh` block is
its output.

    python scripts/tutorials.py                # all tutorials, each group of packages in an environment of its own
    python scripts/tutorials.py --no-packages  # those that need only lstm-explain, which is installed
    python scripts/tutorials.py --write        # writes the output into the pages
    python scripts/tutorials.py --there DIR    # with packages that lie in DIR, which pip does not install again

It prints how long each command took, and how many lead from nothing to the first picture.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FOLDER = ROOT / "docs" / "tutorials"
NEEDS = re.compile(r"<!-- tutorial: needs (.+) -->\n")
BLOCK = re.compile(r'^```(sh|python|text)(?: title="([^"]+)")?\n(.*?)^```\n', re.MULTILINE | re.DOTALL)
NOTHING = "nothing"
SECONDS = 300  # from nothing to a picture, on a machine that has nothing else to do


@dataclass(frozen=True)
class Block:
    """kind: sh, python or text. start, end: where the block lies in the page."""

    kind: str
    title: str
    body: str
    start: int
    end: int


@dataclass(frozen=True)
class Done:
    """What a block of commands printed, and how many seconds it took."""

    block: Block
    output: str
    seconds: float


@dataclass
class Tutorial:
    """needs: packages from PyPI; none for a tutorial that uses the clone itself."""

    path: Path
    text: str
    needs: list[str]
    blocks: list[Block] = field(default_factory=list)

    def commands(self) -> Iterator[str]:
        """The commands up to the first picture in a file."""
        for block in self.blocks:
            if block.kind == "sh":
                for line in block.body.splitlines():
                    yield line
                    if "--html" in line:
                        return


def tutorials() -> list[Tutorial]:
    found = []
    for path in sorted(FOLDER.glob("*.md")):
        text = path.read_text(encoding="utf-8")
        first = NEEDS.match(text)
        if first is not None:
            needs = [] if first[1] == NOTHING else first[1].split()
            blocks = [Block(m[1], m[2] or "", m[3], m.start(), m.end()) for m in BLOCK.finditer(text)]
            found.append(Tutorial(path, text, needs, blocks))
    return found


def run(tutorial: Tutorial, folder: Path, environment: dict[str, str]) -> Iterator[Done]:
    """Run each command block. Raises CalledProcessError."""
    for block in tutorial.blocks:
        if block.kind == "python":
            (folder / block.title).write_text(block.body, encoding="utf-8")
        elif block.kind == "sh":
            started = time.monotonic()
            done = subprocess.run(
                ["bash", "-euo", "pipefail", "-c", block.body],
                cwd=folder,
                env=environment,
                capture_output=True,
                text=True,
                check=False,
            )
            seconds = time.monotonic() - started
            print(f"  {seconds:6.1f} s  {block.body.splitlines()[-1][:90]}", flush=True)
            if done.returncode:
                print(done.stdout, done.stderr, sep="\n", file=sys.stderr)
                done.check_returncode()
            output = "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines()).strip("\n")
            yield Done(block, output, seconds)


def until_picture(blocks: list[Done], installed: float) -> float:
    """The seconds from nothing to the first picture in a file. installed: what making the environment took, which is
    the first block of the tutorial that made it.
    """
    last = next(i for i, done in enumerate(blocks) if "--html" in done.block.body)
    return installed + sum(done.seconds for done in blocks[1 : last + 1])


def written(tutorial: Tutorial, blocks: list[Done]) -> str:
    """The page with these outputs."""
    page = tutorial.text
    for block, output in ((done.block, done.output) for done in reversed(blocks)):
        place = tutorial.blocks.index(block) + 1
        following = tutorial.blocks[place] if place < len(tutorial.blocks) else None
        has_output = following is not None and following.kind == "text"
        end = following.end if following is not None and has_output else block.end
        shown = f"\n```text\n{output}\n```\n" if output else ""
        page = page[: block.end] + shown + page[end:]
    return page


def _rough(page: str) -> str:
    """The page without numbers in scientific notation, which are rounding or diverge, differently on each processor."""
    return re.sub(r"[+−-]?\d\.\d+e[+−-]?\d+", "#", page)


def environment_of(needs: list[str], folder: Path, wheel: Path | None) -> dict[str, str]:
    """The variables for the commands: plain output of 100 columns, and the programs of the reader's environment."""
    programs = Path(sys.executable).parent if not needs else folder / ".venv" / "bin"
    variables = {"COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb", "PATH": f"{programs}:{os.environ['PATH']}"}
    if wheel is not None:  # lstm-explain as it is here; all else from PyPI
        variables["PIP_FIND_LINKS"] = str(wheel)
    return {**os.environ, **variables}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("names", nargs="*", help="names of tutorials, such as reading; default: all")
    parser.add_argument("--no-packages", action="store_true", help="only those that need no other packages")
    parser.add_argument("--write", action="store_true", help="write the output into the pages")
    parser.add_argument("--there", type=Path, metavar="DIR", help="packages that need not be installed")
    given = parser.parse_args()
    chosen = [t for t in tutorials() if not given.names or t.path.stem in given.names]
    with tempfile.TemporaryDirectory(prefix="tutorials-") as work:
        runs = Runs(Path(work), given.write, given.no_packages, given.there)
        failed = [tutorial.path.name for tutorial in chosen if not runs.one(tutorial)]
    if runs.pictures:
        print("from nothing to a picture (seconds, of them for the environment; commands):")
        for name, line in runs.pictures.items():
            print(f"  {name:20} {line}")
    if failed:
        sys.exit(f"tutorials: not as their pages say: {', '.join(failed)}")


@dataclass
class Runs:
    """Those with the same needs share a folder, and so the environment that the first one makes.

    there: a folder of packages that the environments see.
    """

    work: Path
    write: bool
    plain: bool
    there: Path | None
    installed: dict[Path, float] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)

    def one(self, tutorial: Tutorial) -> bool:
        """Run one tutorial; false if it prints something else than its page says."""
        name = tutorial.path.name
        if self.plain and tutorial.needs:
            print(f"{name}: skipped, it needs {', '.join(tutorial.needs)} (make tutorials runs it)")
            return True
        print(name, flush=True)
        folder = self.work / "-".join(tutorial.needs or [NOTHING])
        if not folder.exists():
            folder.mkdir()
            self._prepare(folder, tutorial)
        wheel = self._wheel() if tutorial.needs else None
        blocks = list(run(tutorial, folder, environment_of(tutorial.needs, folder, wheel)))
        if tutorial.needs:
            installed = self.installed.setdefault(folder, blocks[0].seconds)
            seconds, commands = until_picture(blocks, installed), len(list(tutorial.commands()))
            late = ", which is longer than promised" * (seconds > SECONDS)
            self.pictures[name] = f"{seconds:6.1f} {installed:6.1f} {commands:3}{late}"
        page = written(tutorial, blocks)
        if self.write:
            tutorial.path.write_text(page, encoding="utf-8")
        elif not tutorial.needs and _rough(page) != _rough(
            tutorial.text
        ):  # a training gives other numbers with every version
            print(page)
            return False
        return True

    def _prepare(self, folder: Path, tutorial: Tutorial) -> None:
        if not tutorial.needs:
            (folder / "models").symlink_to(ROOT / "models")
        elif self.there is not None:
            subprocess.run(["python3", "-m", "venv", str(folder / ".venv")], check=True)
            (packages,) = (folder / ".venv" / "lib").glob("python*/site-packages")
            (packages / "there.pth").write_text(f"{self.there.resolve()}\n", encoding="utf-8")

    def _wheel(self) -> Path:
        """The folder with the wheel of lstm-explain as it is here."""
        wheel = self.work / "wheel"
        if not wheel.exists():
            command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(wheel), str(ROOT)]
            subprocess.run([sys.executable, *command], check=True)
        return wheel


if __name__ == "__main__":
    main()
