# SPDX-License-Identifier: Apache-2.0
"""Tries damaged models one after the other and reports the outcome of each.

`python -m tests.fuzzing.worker MEMORY SECONDS FAMILY`: see main.

Numbers come in on stdin, one a line; for each one line goes out: number, memory held, its peak, what happened.
"""

from __future__ import annotations

import os
import resource
import sys
import time
import traceback
from pathlib import Path

import numpy as np

import lstm_explain as lx
from tests.fuzzing import mutate, structured

CASES = {"damaged": mutate.case, "structured": structured.case}

MOST_ELEMENTS = 100_000  # a model that declares larger inputs is loaded, but not run
STATM = Path("/proc/self/statm")
TEXT = np.dtype(object)


def attempt(number: int, family: str = "damaged") -> str:
    """The outcome: refused, loaded or explained; else the name of the unexpected error, and where it was raised."""
    stage = "refused"
    try:
        model = lx.load(CASES[family](number))
        stage = "loaded"
        model.report()
        feeds = _feeds(model, np.random.default_rng(number))
        if feeds is not None:
            model.explain(feeds, lx.LRP() if number % 3 else lx.GradientTimesInput(), _target(model))
            stage = "explained"
    except lx.Error:
        return stage
    except MemoryError:  # what the limit of the process is for
        return "bounded: memory"
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        ours = next((f for f in reversed(frames) if "lstm_explain" in f.filename), frames[-1])
        return f"BUG {type(error).__name__} in {Path(ours.filename).name}:{ours.lineno}: {' '.join(str(error).split())}"
    return stage


def _target(model: lx.Model) -> lx.Target:
    """The first position of an output that has several."""
    rank = len(next(iter(model.outputs.values())).shape)
    return lx.Target(index=(0,) * (rank - 1) if rank > 2 else None)


def _feeds(model: lx.Model, rng: np.random.Generator) -> dict[str, np.ndarray] | None:
    feeds = {}
    for name, spec in model.inputs.items():
        shape = [3 if isinstance(extent, str) else extent for extent in spec.shape]
        if spec.dtype == TEXT or min(shape, default=1) < 0 or np.prod(shape, dtype=float) > MOST_ELEMENTS:
            return None
        if np.issubdtype(spec.dtype, np.integer):
            feeds[name] = rng.integers(0, 4, shape).astype(spec.dtype)
            if rng.random() < 0.2:
                feeds[name] = rng.choice([-1, 0, 1, 2**62], shape).astype(spec.dtype)
                feeds[name][feeds[name] > 1] = np.iinfo(spec.dtype).min
        else:
            feeds[name] = rng.normal(size=shape).astype(spec.dtype)
    return feeds


def main(most_memory: int, seconds: int, family: str) -> None:
    """seconds: the processor time of one case; the first one has more, because kernels are compiled."""
    allowed = seconds + 120
    resource.setrlimit(resource.RLIMIT_AS, (most_memory, most_memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever native code prints is not an answer
    for line in sys.stdin:
        until = int(time.process_time()) + 1 + allowed
        resource.setrlimit(resource.RLIMIT_CPU, (until, resource.RLIM_INFINITY))
        outcome, allowed = attempt(int(line), family), seconds
        held = int(STATM.read_text().split()[1]) * resource.getpagesize()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(line.strip(), held, peak, outcome[:500], sep="\t", file=answers, flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3])
