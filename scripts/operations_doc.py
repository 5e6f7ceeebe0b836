# SPDX-License-Identifier: Apache-2.0
"""Fills in the tables of docs/operations.md from the settings and metrics of the code.

With --check, the script writes nothing; its exit code says whether the page is stale.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

from prometheus_client import CollectorRegistry
from prometheus_client.metrics import Gauge, Histogram, MetricWrapperBase
from pydantic.fields import FieldInfo

from lstm_explain.serving.observability.metrics import Children, Metrics
from lstm_explain.serving.observability.process_metrics import ProcessMetrics
from lstm_explain.serving.settings import ENV_PREFIX, Settings

PAGE = Path(__file__).resolve().parents[1] / "docs" / "operations.md"
BLOCK = re.compile(r"(<!-- begin (\w+) -->\n).*?(<!-- end \2 -->)", re.DOTALL)
# Set by the server for its own workers.
INTERNAL = ("reuse_port", "worker", "gently", "parent", "announcements")
# The values of flags whose type does not determine them.
VALUES = {
    "drift_share": " SHARE",
    "batch_ray": " ADDRESS",
    "audit": " PATH\\|stdout\\|stderr",
    "web": " [HOST:PORT]",
    "web_hosts": " NAME[,NAME]",
    "require_models": " N\\|NAME[,NAME]",
}


def page(text: str) -> str:
    """Return `text` with every generated block replaced."""
    tables = {"settings": "\n".join(settings()), "metrics": "\n".join(metrics())}
    return BLOCK.sub(lambda found: f"{found[1]}{tables[found[2]]}\n{found[3]}", text)


def settings() -> Iterator[str]:
    yield "| flag | environment variable | default | meaning |"
    yield "|---|---|---|---|"
    for name, field in Settings.model_fields.items():
        if name not in INTERNAL:
            value = VALUES.get(name) or _value(field.annotation)
            flag = f"--{name.replace('_', '-')}{value}"
            meaning = (field.description or "").replace("|", r"\|").replace("<", "&lt;")
            yield f"| `{flag}` | `{ENV_PREFIX}{name.upper()}` | {_default(field)} | {meaning} |"
    names = ", ".join(f"`{name}`" for name in INTERNAL)
    yield ""
    yield f"{names} are set by the server for its own workers."


def _value(annotation: Any) -> str:
    """Return the placeholder for the value of the flag."""
    plain = [a for a in get_args(annotation) if a is not NoneType] if _is_union(annotation) else [annotation]
    if plain == [bool]:
        return ""
    if get_origin(plain[0]) is Literal:
        return " " + "\\|".join(get_args(plain[0]))
    return " " + {int: "N", float: "SECONDS", str: "HOST:PORT", Path: "PATH"}[plain[0]]


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, UnionType)


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    match field.default:
        case None | "":
            return "none"
        case bool() as value:
            return "on" if value else "off"
        case int() as value if value >= 2**20 and value % 2**20 == 0:
            return f"{value:,} ({value >> 20} × 2²⁰)"
        case int() | float() as value:
            return f"{value:,g}" if isinstance(value, float) else f"{value:,}"
        case value:
            return f"`{value}`"


def metrics() -> Iterator[str]:
    yield "| metric | kind | labels | meaning |"
    yield "|---|---|---|---|"
    for metric in _metrics():
        kind = "histogram" if isinstance(metric, Histogram) else "gauge" if isinstance(metric, Gauge) else "counter"
        name = metric._name + ("_total" if kind == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in metric._labelnames)
        yield f"| `{name}` | {kind} | {labels} | {metric._documentation} |"
    for family in ProcessMetrics(list).collect():
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = ", ".join(f"`{label}`" for label in family._labelnames)
        yield f"| `{name}` | {family.type} | {labels} | {family.documentation} |"


def _metrics() -> list[MetricWrapperBase]:
    found: list[MetricWrapperBase] = []
    for kept in vars(Metrics(CollectorRegistry())).values():
        value = kept.metric if isinstance(kept, Children) else kept
        found += [
            m for m in (value.values() if isinstance(value, dict) else [value]) if isinstance(m, MetricWrapperBase)
        ]
    return found


def main() -> int:
    text = PAGE.read_text()
    wanted = page(text)
    if "--check" not in sys.argv:
        PAGE.write_text(wanted)
        return 0
    if wanted != text:
        print("docs/operations.md is stale: run python scripts/operations_doc.py", file=sys.stderr)
    return int(wanted != text)


if __name__ == "__main__":
    sys.exit(main())
