# SPDX-License-Identifier: Apache-2.0
"""Record the answers of some 250 requests, and compare later answers with them, bit by bit.

`python -m scripts.recorded_answers record FILE` before a change that should leave every answer alone, and
`python -m scripts.recorded_answers compare FILE` after it. The requests run over the zoo and the bundled models: every
method, whole batches and single samples, several kinds of target, each repeated, so that cached programs for
repeated requests answer too. The exit code is 1 if an answer differs.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("LSTM_EXPLAIN_KERNELS", "wait")  # the bits of the kernels from the first answer on

import numpy as np

import lstm_explain as lx
from tests import zoo

ROOT = Path(__file__).resolve().parent.parent
REPEATS = 3
METHODS: dict[str, lx.Method] = {
    "lrp all": lx.LRP(epsilon=1e-3),
    "lrp all, small epsilon": lx.LRP(epsilon=1e-6),
    "lrp half": lx.LRP("half", 1e-3),
    "lrp prop": lx.LRP("prop", 1e-3),
    "lrp abs, bias factor": lx.LRP("abs", 1e-3, bias_factor=1.0),
    "gradient": lx.Gradient(),
    "gradient times input": lx.GradientTimesInput(),
    "integrated gradients": lx.IntegratedGradients(steps=8, max_steps=8),
    "smoothgrad": lx.SmoothGrad(samples=4),
    "occlusion": lx.Occlusion(),
    "shapley sampling": lx.ShapleySampling(permutations=2),
    "contextual decomposition": lx.ContextualDecomposition(),
    "lrp, relative stabiliser": lx.LRP(),
    "lrp half, relative stabiliser": lx.LRP("half"),
}
Arrays = dict[str, np.ndarray]
Request = tuple[str, Path, Arrays, lx.Method, lx.Target]


def requests() -> Iterator[Request]:
    """Return the requests: every third method on each model of the zoo, and all methods on the bundled models."""
    methods = list(METHODS.items())
    for place, name in enumerate(zoo.names()):
        case = zoo.load(name)
        target = lx.Target(case.target_output, batch_axis=case.target_batch_axis, index=_index(case))
        for label, method in methods[place % 3 :: 3]:
            yield f"{name}, {label}, batch", case.path, case.inputs, method, target
    rng = np.random.default_rng(0)
    for path in sorted((ROOT / "models").glob("*/1/model.onnx")):
        model = lx.load(path)
        for label, method in methods:
            for batch in (1, 3):
                target = lx.Target() if batch == 1 else lx.Target(index=0)
                yield f"{path.parts[-3]}, {label}, {batch}", path, _inputs(model, batch, rng), method, target


def _index(case: Any) -> Any:
    return None if len(case.target_index) > 1 else case.target_index[0]


def _inputs(model: lx.Model, batch: int, rng: np.random.Generator) -> Arrays:
    made = {}
    for name, spec in model.inputs.items():
        shape = [d if isinstance(d, int) else batch if i == 0 else 12 for i, d in enumerate(spec.shape)]
        whole = spec.dtype.kind in "iu"
        made[name] = (rng.integers(1, 50, shape) if whole else rng.standard_normal(shape)).astype(spec.dtype)
    return made


def answers() -> dict[str, Any]:
    """Return for each request its last answer and whether all its answers were equal, or the text of the error."""
    found: dict[str, Any] = {}
    models: dict[Path, lx.Model] = {}
    for label, path, inputs, method, target in requests():
        model = models[path] = models.get(path) or lx.load(path)
        try:
            for number in range(REPEATS):
                found[f"{label} [{number}]"] = _arrays(model.explain(inputs, method, target))
        except lx.Error as error:
            found[label] = f"{type(error).__name__}: {error}"
    return found


def _arrays(explanation: lx.Explanation) -> dict[str, Any]:
    ledger = explanation.ledger
    arrays = {f"relevance {n}": a for n, a in explanation.relevance.items()}
    arrays |= {f"output {n}": a for n, a in explanation.outputs.items()}
    arrays |= {f"ledger {n}": getattr(ledger, n) for n in ("inputs", "initial_states", "absorbed", "residual")}
    arrays |= {f"absorbed by {n}": a for n, a in ledger.by_node.items()}
    arrays |= {"explained": explanation.explained, "warnings": np.array(explanation.warnings, dtype=object)}
    return arrays


def difference(before: Any, after: Any) -> str:
    """Describe the difference; empty if both have the same bits."""
    if isinstance(before, str) or isinstance(after, str):
        return (
            "" if before is after or (isinstance(before, str) and before == after) else f"{before!r} is {after!r} now"
        )
    if before.keys() != after.keys():
        return f"has {sorted(before.keys() ^ after.keys())} on one side only"
    parts = []
    for name, old in before.items():
        new = after[name]
        same_kind = old.dtype == new.dtype and old.shape == new.shape
        if not same_kind:
            parts.append(f"{name}: {old.dtype}{old.shape} is {new.dtype}{new.shape} now")
        elif old.dtype == object:
            parts += [] if old.tolist() == new.tolist() else [f"{name}: {old} is {new} now"]
        elif old.tobytes() != new.tobytes():
            largest = np.abs(old.astype(np.float64)).max(initial=0.0) or 1.0
            parts.append(f"{name}: by {np.abs(old - new).max() / largest:.1e} of its largest entry")
    return "; ".join(parts)


def main(command: str, file: Path) -> int:
    found = answers()
    if command == "record":
        file.write_bytes(pickle.dumps(found))
        print(f"{len(found)} answers of {len(list(requests()))} requests are in {file}")
        return 0
    before = pickle.loads(file.read_bytes())
    names = dict.fromkeys([*before, *found])
    differences = {n: d for n in names if (d := difference(before.get(n, "missing"), found.get(n, "missing")))}
    for name, text in differences.items():
        print(f"{name}: {text}")
    print(f"{len(differences)} of {len(names)} answers differ")
    return int(bool(differences))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Path(sys.argv[2])))
