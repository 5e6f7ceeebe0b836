# SPDX-License-Identifier: Apache-2.0
"""Alerts and dashboard: current, of metrics that exist, and independent of how Prometheus finds the servers."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from scripts import monitoring_files
from tests.deploy.manifests import DEPLOY, read
from tests.deploy.test_deploy import known_metrics

RULES = [rule for group in read(DEPLOY / "prometheus/alerts.yaml")["groups"] for rule in group["rules"]]
BOARD: dict[str, Any] = json.loads((DEPLOY / "kustomize/monitoring/dashboard.json").read_text())
QUERIES = [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def test_the_written_files_are_current() -> None:
    stale = [str(path) for path, text in monitoring_files.files().items() if path.read_text() != text]
    assert not stale, "run python scripts/monitoring_files.py"


def test_the_dashboard_shows_metrics_that_exist() -> None:
    known = known_metrics()
    for query in (*QUERIES, BOARD["templating"]["list"][1]["query"]["query"]):
        names = re.findall(r"lstm_explain_\w+", query)
        assert names
        assert set(names) <= known, query


def test_no_panel_covers_another() -> None:
    places = [tuple(panel["gridPos"].values()) for panel in BOARD["panels"]]
    assert len(set(places)) == len(places)
    assert len({panel["id"] for panel in BOARD["panels"]}) == len(places)
    assert all(x + width <= 24 for x, _, width, _ in places)


@pytest.mark.parametrize("query", [*(rule["expr"] for rule in RULES), *QUERIES])
def test_queries_are_valid(query: str) -> None:
    parser = pytest.importorskip("promql_parser", reason="make deploy-check has what it takes")
    query = query.replace("$__rate_interval", "5m").replace("$__range", "1h")
    parser.parse(query)
    with pytest.raises(ValueError, match="unexpected right parenthesis"):
        parser.parse(f"{query})")


def test_alerts_do_not_depend_on_the_name_of_the_scrape_job() -> None:
    assert RULES
    assert not [rule["alert"] for rule in RULES if re.search(r"job\s*(=|!)", rule["expr"])]
    foreign = [rule["expr"] for rule in RULES if re.search(r"\b(up|process_\w+)\b", rule["expr"])]
    assert len(foreign) == 3  # metrics that every target has: only those of servers count
    assert all("on (job, instance)" in expr for expr in foreign)


def test_alerts_on_answers_count_the_requests_of_streams() -> None:
    rates = [rule["expr"] for rule in RULES if "lstm_explain_calls_total" in rule["expr"]]
    assert len(rates) == 3
    assert all(expr.count("lstm_explain_stream_items_total") == 2 for expr in rates)
