# SPDX-License-Identifier: Apache-2.0
"""docs/operations.md lists every setting and every metric, and is current."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from lstm_explain.serving.observability.metrics import Metrics
from lstm_explain.serving.observability.process_metrics import ProcessMetrics
from lstm_explain.serving.settings import ENV_PREFIX, Settings
from scripts.operations_doc import INTERNAL, PAGE, page


def test_the_page_is_current() -> None:
    text = PAGE.read_text()
    assert page(text) == text, "run python scripts/operations_doc.py"


def test_every_setting_and_every_metric_is_there() -> None:
    text = PAGE.read_text()
    for name in Settings.model_fields:
        assert name in INTERNAL or f"`{ENV_PREFIX}{name.upper()}`" in text
    registry = CollectorRegistry()
    Metrics(registry)
    registry.register(ProcessMetrics(list))
    for family in registry.collect():
        assert f"`{family.name}" in text
