# SPDX-License-Identifier: Apache-2.0
"""Writes a method into the text of a model.yaml, whose other keys, comments and order stay as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from lstm_explain.durable_files import atomically
from lstm_explain.errors import ModelError
from lstm_explain.repository.model_yaml import parse_config
from lstm_explain.repository.yaml_reader import read_yaml

MARK = "# calibrated: "


def with_method(text: str, method: Mapping[str, Any], measured: Sequence[str], name: str = "model.yaml") -> str:
    """Returns the text with this `method`, below one comment per entry of `measured` that replaces those of an earlier
    calibration. Raises ModelError where the text is not a valid configuration, or cannot be edited.
    """
    before = parse_config(text, name).config
    comments = "".join(f"{MARK}{line}\n" for line in measured)
    entry = yaml.safe_dump(dict(method), default_flow_style=True, sort_keys=False, width=1 << 20).strip()
    kept = "".join(line for line in text.splitlines(keepends=True) if not line.startswith(MARK))
    root, _ = read_yaml(kept, name)
    if root is not None and (not isinstance(root, yaml.MappingNode) or root.flow_style):
        raise ModelError(f"{name}: written as one flow mapping, expected one key per line")
    pair = None if root is None else next((p for p in root.value if p[0].value == "method"), None)
    if pair is None:
        newline = "" if not kept or kept.endswith("\n") else "\n"
        edited = f"{kept}{newline}{comments}method: {entry}\n"
    else:
        start, end = _offset(kept, pair[0].start_mark), _offset(kept, _end(pair[1]))
        edited = f"{kept[:start]}{comments}method: {entry}{kept[end:]}"
    after = parse_config(edited, name).config
    if after.model_copy(update={"method": before.method}) != before:
        raise ModelError(f"{name}: the method cannot be replaced without a change to other keys")
    return edited


def write(path: Path, text: str) -> None:
    """Replaces the file at once: a reader sees the old text or the new one. Raises OSError."""
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o644
    with atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")
        temporary.chmod(mode)


def _end(node: yaml.Node) -> Any:
    """Returns where the value ends. YAML places the end of a block collection at the next key, after comments between
    them.
    """
    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end(last[1] if isinstance(last, tuple) else last)
    return node.end_mark


def _offset(text: str, mark: Any) -> int:
    return sum(len(line) for line in text.splitlines(keepends=True)[: mark.line]) + int(mark.column)
