# SPDX-License-Identifier: Apache-2.0
"""The documentation site: its links, its reference, and what it makes of the protos."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import lstm_explain
import lstm_explain_client
from lstm_explain_client import method_types

pytest.importorskip("mkdocs", reason="the site needs: pip install 'lstm-explain[docs]'")

from scripts import docs_site

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("module", "page", "elsewhere"),
    [
        (lstm_explain, "engine", {"evaluate"}),
        (lstm_explain_client, "client", {"render", "Method", *method_types.__all__}),
    ],
)
def test_the_reference_has_every_public_name(module: object, page: str, elsewhere: set[str]) -> None:
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text()
    assert set(re.findall(rf"^::: {module.__name__}\.(\w+)$", text, re.MULTILINE)) >= set(module.__all__) - elsewhere


def test_the_protocol_has_every_message_with_its_comments() -> None:
    page = "\n".join(docs_site.protocol())
    for path in (ROOT / "proto" / "lstm_explain" / "v1").glob("*.proto"):
        for name in re.findall(r"^\s*(?:message|enum|service) (\w+)", path.read_text(), re.MULTILINE):
            assert re.search(rf"^#+ {name}$", page, re.MULTILINE), name
    assert "| `Explain` | `ExplainRequest` | `ExplainResponse` |" in page
    assert "| `ImportModel` | stream of `ImportModelRequest` |" in page
    assert "One of `method`. " in page


@pytest.mark.parametrize(
    ("here", "link", "there"),
    [
        ("methods.md", "operators.md", "operators.md"),
        ("methods.md", "../models/README.md", "models.md"),
        ("tutorials/reading.md", "../methods.md", "../methods.md"),
        ("index.md", "docs/methods.md#lrp", "methods.md#lrp"),
        ("index.md", "client/go/README.md", "clients/go.md"),
        ("clients/go.md", "../../docs/security.md", "../security.md"),
        ("index.md", "LICENSE", "https://example.org/blob/main/LICENSE"),
        ("index.md", "missing.md", "missing.md"),
        ("index.md", "https://arxiv.org/abs/1909.12114", "https://arxiv.org/abs/1909.12114"),
    ],
)
def test_links_lead_to_pages_or_to_the_repository(here: str, link: str, there: str) -> None:
    class Named:
        def __init__(self, **fields: object) -> None:
            self.__dict__.update(fields)

    pages = [Named(src_uri=path.relative_to(ROOT / "docs").as_posix()) for path in (ROOT / "docs").rglob("*.md")]
    page, config = Named(file=Named(src_uri=here)), Named(repo_url="https://example.org/")
    assert docs_site.on_page_markdown(f"see [it]({link})", page, config, pages) == f"see [it]({there})"


def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    """With the configuration of the site, on two pages."""
    docs = tmp_path / "docs"
    docs.mkdir()
    (docs / "index.md").write_text("# A\n\n[b](b.md)\n")
    (docs / "b.md").write_text("# B\n")
    settings = (ROOT / "mkdocs.yml").read_text()
    kept = (
        settings[: settings.index("hooks:")]
        + settings[settings.index("validation:") : settings.index("nav:\n  - Start")]
    )
    (tmp_path / "mkdocs.yml").write_text(kept)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--config-file", str(tmp_path / "mkdocs.yml")]
    assert subprocess.run(command, capture_output=True, timeout=120, check=False).returncode == 0
    (docs / "index.md").write_text("# A\n\n[b](c.md)\n")
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode != 0
    assert "c.md" in done.stderr
