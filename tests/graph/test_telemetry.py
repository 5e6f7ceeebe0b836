# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime does not report what it runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from lstm_explain.kernels import cache_folder, reductions

LOAD = "import lstm_explain as lx; lx.load('models/addition/1/model.onnx')"
ROOT = Path(__file__).parents[2]


def test_no_telemetry_is_collected(tmp_path: Path) -> None:
    """Where it collects, it leaves an identifier of the device and a store of events in the home folder."""
    kept = {k: v for k, v in os.environ.items() if k not in ("CI", "ORT_DISABLE_TELEMETRY") and "XDG" not in k}
    kernels = cache_folder.folder_of(Path(reductions.__file__))
    assert kernels is not None
    environment = {**kept, "HOME": str(tmp_path), "NUMBA_CACHE_DIR": str(kernels.parent)}  # ours are found elsewhere
    subprocess.run([sys.executable, "-c", LOAD], cwd=ROOT, env=environment, check=True, timeout=120)
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == []
