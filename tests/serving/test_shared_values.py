# SPDX-License-Identifier: Apache-2.0
"""The metrics of several processes can be read at any time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from prometheus_client import CollectorRegistry
from prometheus_client.mmap_dict import MmapedDict, mmap_key

from lstm_explain.serving.observability.shared_values import SharedValues


def test_a_file_that_a_process_is_creating_is_read_again(tmp_path: Path) -> None:
    """prometheus_client creates it empty, and gives it its size and contents afterwards."""
    path = tmp_path / "counter_1.db"
    path.touch()

    def finish() -> None:
        time.sleep(0.2)
        MmapedDict(str(path)).write_value(mmap_key("calls_total", "calls_total", [], [], "Calls."), 3.0, 0.0)

    process = threading.Thread(target=finish)
    process.start()
    (metric,) = SharedValues(CollectorRegistry(), path=str(tmp_path)).collect()
    process.join()
    assert [sample.value for sample in metric.samples] == [3.0]
