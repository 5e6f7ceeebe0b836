# SPDX-License-Identifier: Apache-2.0
"""Writes the dashboard, and the copies of it and of the alerts in deploy/, from their one source each.

The alerts are deploy/prometheus/alerts.yaml, the panels are below. With --check, the script writes nothing; its exit
code says whether a file is stale.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

DEPLOY = Path(__file__).resolve().parents[1] / "deploy"
ALERTS = DEPLOY / "prometheus" / "alerts.yaml"
KUSTOMIZE, CHART = DEPLOY / "kustomize" / "monitoring", DEPLOY / "helm" / "lstm-explain" / "files"
RULES_HEAD = """\
# Written by scripts/monitoring_files.py from deploy/prometheus/alerts.yaml.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: lstm-explain
spec:
"""
OF, EACH = 'instance=~"$instance"', "$__rate_interval"
BAD = 'code=~"INTERNAL|UNKNOWN|DATA_LOSS"'
# Title, unit of Grafana, and the queries with their legends.
PANELS: tuple[tuple[str, str, dict[str, str]], ...] = (
    ("Calls", "reqps", {"sum by (rpc) (rate(lstm_explain_calls_total{$of}[$__rate_interval]))": "{{rpc}}"}),
    (
        "Requests in streams",
        "reqps",
        {"sum by (rpc, code) (rate(lstm_explain_stream_items_total{$of}[$__rate_interval]))": "{{rpc}} {{code}}"},
    ),
    (
        "Calls that failed",
        "reqps",
        {'sum by (code) (rate(lstm_explain_calls_total{$of, code!="OK"}[$__rate_interval]))': "{{code}}"},
    ),
    (
        "Server errors, calls and stream items",
        "reqps",
        {
            f"sum(rate(lstm_explain_calls_total{{$of, {BAD}}}[$__rate_interval]))": "calls",
            f"sum(rate(lstm_explain_stream_items_total{{$of, {BAD}}}[$__rate_interval]))": "stream items",
        },
    ),
    (
        "Time of a call",
        "s",
        {
            f"histogram_quantile({q}, sum by (le) (rate(lstm_explain_call_seconds_bucket{{{OF}}}[{EACH}])))": name
            for q, name in ((0.5, "median"), (0.95, "95 %"), (0.99, "99 %"))
        },
    ),
    (
        "Waiting for a slot",
        "s",
        {
            f"histogram_quantile({q}, sum by (le) (rate(lstm_explain_queue_seconds_bucket{{{OF}}}[{EACH}])))": name
            for q, name in ((0.5, "median"), (0.95, "95 %"))
        },
    ),
    (
        "Computing, by model and method (95 %)",
        "s",
        {
            "histogram_quantile(0.95, sum by (le, model, method) "
            "(rate(lstm_explain_engine_seconds_bucket{$of}[$__rate_interval])))": "{{model}} {{method}}"
        },
    ),
    (
        "Residual of the ledger (99 %)",
        "none",
        {
            "histogram_quantile(0.99, sum by (le, method) "
            "(rate(lstm_explain_residual_bucket{$of}[$__rate_interval])))": "{{method}}"
        },
    ),
    ("Model versions by state", "none", {"max by (state) (lstm_explain_models{$of})": "{{state}}"}),
    (
        "Signatures of models",
        "none",
        {"sum by (result) (increase(lstm_explain_model_signatures_total{$of}[$__range]))": "{{result}}"},
    ),
    (
        "Drift of relevance (1: more than chance)",
        "none",
        {"max by (model, version) (lstm_explain_relevance_drift{$of})": "{{model}} {{version}}"},
    ),
    (
        "Audit log: lines that wait, and lines lost",
        "none",
        {
            "sum by (instance) (lstm_explain_audit_waiting{$of})": "{{instance}} waiting",
            f'sum by (instance) (increase(lstm_explain_audit_lines_total{{$of, outcome="lost"}}[{EACH}]))': (
                "{{instance}} lost"
            ),
        },
    ),
    ("Calls at work", "none", {"sum by (instance) (lstm_explain_calls_at_work{$of})": "{{instance}}"}),
    (
        "Connections",
        "none",
        {
            "sum by (instance) (lstm_explain_connections{$of})": "{{instance}}",
            "min(lstm_explain_connections_limit{$of})": "limit of one server",
        },
    ),
    ("Memory", "bytes", {"lstm_explain_resident_bytes{$of}": "{{instance}}"}),
    (
        "Workers replaced",
        "none",
        {"sum by (instance) (increase(lstm_explain_workers_replaced_total{$of}[$__rate_interval]))": "{{instance}}"},
    ),
    ("Open files", "none", {"lstm_explain_open_files{$of}": "{{instance}}"}),
    (
        "What runs",
        "none",
        {"count by (version, onnxruntime, numpy, machine) (lstm_explain_build_info{$of})": "{{version}} {{machine}}"},
    ),
)
WIDTH, HEIGHT, COLUMNS = 12, 8, 2
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


def dashboard() -> dict[str, Any]:
    """Returns a dashboard in Grafana's format, for any data source of the kind Prometheus."""
    return {
        "title": "lstm-explain",
        "uid": "lstm-explain",
        "schemaVersion": 39,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "tags": ["lstm-explain"],
        "templating": {
            "list": [
                {"name": "datasource", "type": "datasource", "query": "prometheus", "label": "Data source"},
                {
                    "name": "instance",
                    "label": "Server",
                    "type": "query",
                    "datasource": SOURCE,
                    "query": {"query": "label_values(lstm_explain_build_info, instance)", "refId": "instance"},
                    "refresh": 2,
                    "multi": True,
                    "includeAll": True,
                    "allValue": ".*",
                    "current": {"text": "All", "value": "$__all"},
                },
            ]
        },
        "panels": [_panel(number, *panel) for number, panel in enumerate(PANELS)],
    }


def _panel(number: int, title: str, unit: str, queries: dict[str, str]) -> dict[str, Any]:
    row, column = divmod(number, COLUMNS)
    return {
        "id": number + 1,
        "type": "timeseries",
        "title": title,
        "datasource": SOURCE,
        "gridPos": {"x": column * WIDTH, "y": row * HEIGHT, "w": WIDTH, "h": HEIGHT},
        "fieldConfig": {"defaults": {"unit": unit, "min": 0}, "overrides": []},
        "targets": [
            {
                "refId": chr(ord("A") + place),
                "datasource": SOURCE,
                "expr": query.replace("$of", OF),
                "legendFormat": legend,
            }
            for place, (query, legend) in enumerate(queries.items())
        ],
    }


def files() -> dict[Path, str]:
    """Returns the content of each file that the script writes."""
    shown = json.dumps(dashboard(), indent=1) + "\n"
    alerts = ALERTS.read_text(encoding="utf-8")
    body = "".join(f"  {line}" if line.strip() else line for line in alerts.splitlines(keepends=True))
    return {
        KUSTOMIZE / "dashboard.json": shown,
        KUSTOMIZE / "rules.yaml": RULES_HEAD + body,
        CHART / "dashboard.json": shown,
        CHART / "alerts.yaml": alerts,
    }


def main() -> int:
    stale = [path for path, text in files().items() if not path.exists() or path.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path} is stale: run python scripts/monitoring_files.py", file=sys.stderr)
        return int(bool(stale))
    for path in stale:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(files()[path], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
