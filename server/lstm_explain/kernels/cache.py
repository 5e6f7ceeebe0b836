# SPDX-License-Identifier: Apache-2.0
"""Provides the compiled kernels that a container image contains: they are compiled when the image is built.

`python -m lstm_explain.kernels.cache CPU…` fills the folder NUMBA_CACHE_DIR for this machine's processor and for those
named (LLVM's names: x86-64-v3, x86-64-v4). The image is built on one processor and runs on others, so `use()` selects
the best entry of LSTM_EXPLAIN_KERNEL_CPUS that this processor supports. Numba also requires a writable folder; on a
read-only file system, it gets a copy.
"""

from __future__ import annotations

import os
import platform
import shutil
import stat
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from pkgutil import iter_modules
from typing import TYPE_CHECKING, Any

from lstm_explain.errors import Error
from lstm_explain.kernels import background
from lstm_explain.kernels.background import MODE

if TYPE_CHECKING:
    from concurrent.futures import ProcessPoolExecutor

    import onnx

FOLDER, CPU, FEATURES = "NUMBA_CACHE_DIR", "NUMBA_CPU_NAME", "NUMBA_CPU_FEATURES"
COMPILED_FOR = "LSTM_EXPLAIN_KERNEL_CPUS"
NEEDS = {  # best first
    "x86-64-v4": {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"},
    "x86-64-v3": {"avx", "avx2", "bmi", "bmi2", "f16c", "fma", "lzcnt", "movbe"},
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
# Operator, arithmetic, and what represents the weights exactly. float64 arithmetic over float32 weights computes again
# what float32 was not precise enough for.
PRECISIONS = (("float32", "float32"), ("float64", "float64"), ("float64", "float32"))
MODELS = [(op, *precision) for op in GATES for precision in PRECISIONS]  # that `fill` explains
MANY = 64  # times as long as the small input: long enough for the kernels of long sequences (runner/scores.py)
WRITABLE_WHERE_NOTHING_ELSE_IS = "/dev/shm"

Call = tuple[str, str, Any]  # a kernel's module, its name, and one of its signatures


def use(*, wait: bool = False) -> None:
    """Call this before importing Numba. It does not import NumPy, whose number of threads is not set yet.

    wait: whether calls wait for kernels that have to be compiled (compilation.py), unless the environment says
    otherwise: for work that takes longer than that, and whose answers should be the same bits every time.
    """
    if wait:
        os.environ.setdefault(MODE, "wait")
    _choose_cpu()
    folder = os.environ.get(FOLDER)
    if folder and Path(folder).is_dir() and not os.access(folder, os.W_OK):
        os.environ[FOLDER] = str(_copy_of(folder))


def _copy_of(folder: str) -> Path:
    """Returns a writable copy of the folder: an earlier copy of ours, or a new one. Raises Error where no folder is
    writable.
    """
    name = f"lstm-explain-kernels-{os.geteuid()}"
    for place in (None, WRITABLE_WHERE_NOTHING_ELSE_IS):
        try:
            parent = Path(tempfile.gettempdir() if place is None else place)
            copy = parent / name
            if not _is_ours(copy):
                new = tempfile.mkdtemp(prefix=f"{name}-", dir=parent)
                shutil.copytree(folder, new, dirs_exist_ok=True)
                copy = _renamed(Path(new), copy)
        except OSError:
            continue
        return copy
    raise Error("compiled kernels need a folder that can be written: mount one at /tmp")


def _is_ours(folder: Path) -> bool:
    """Numba executes the code that it finds there, so only this user may be able to write to the folder."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid() and not found.st_mode & 0o022


def _renamed(new: Path, target: Path) -> Path:
    try:
        return new.rename(target)
    except OSError:  # taken meanwhile
        return new


def _choose_cpu() -> None:
    compiled = os.environ.get(COMPILED_FOR, "").split()
    if not compiled or CPU in os.environ or platform.machine() != "x86_64":
        return
    from llvmlite import binding

    has = {name for name, present in binding.get_host_cpu_features().items() if present}
    for name, needs in NEEDS.items():
        if name in compiled and needs <= has:
            os.environ.update({CPU: name, FEATURES: ""})
            return


def fill(cpus: Sequence[str]) -> None:
    """Compiles every kernel for every type that explanations call it with, in several processes side by side."""
    with _processes({}) as processes:
        calls = {call for calls in processes.map(_calls_of, MODELS) for call in calls}
    for cpu in cpus:  # compiled but not run, because this machine may have another processor
        with _processes({CPU: cpu, FEATURES: "", COMPILED_FOR: ""}) as processes:
            deque(processes.map(_compile, calls), maxlen=0)  # raises what one of them raised


def _processes(environment: dict[str, str]) -> ProcessPoolExecutor:
    """environment: variables that the processes set before they import Numba, which reads them then."""
    import multiprocessing  # takes long, and commands that only want `use` never need it
    from concurrent.futures import ProcessPoolExecutor

    count, fresh = background.most_processes(), multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(count, fresh, initializer=_set, initargs=(environment,))


def _set(environment: dict[str, str]) -> None:
    os.environ.update(environment)


def _calls_of(model: tuple[str, str, str]) -> list[Call]:
    """Explains the small model, and returns the calls of kernels that this process has compiled or loaded."""
    _explain_small_model(*model)
    return _calls()


def _calls() -> list[Call]:
    return [(k.__module__, k.__name__, signature) for k in _kernels() for signature in k.signatures]


def _compile(call: Call) -> None:
    module, name, signature = call
    kernel = getattr(import_module(module), name)
    if signature not in kernel.signatures:  # some declare their types and are compiled on import
        kernel.compile(signature)


def _kernels() -> list[Any]:
    """Returns every compiled function, from the module that defines it."""
    from lstm_explain import kernels

    found = []
    for name in (m.name for m in iter_modules(kernels.__path__)):
        module = import_module(f"{kernels.__name__}.{name}")
        found += [v for v in vars(module).values() if hasattr(v, "signatures") and v.__module__ == module.__name__]
    return found


def _explain_small_models() -> None:
    for model in MODELS:
        _explain_small_model(*model)


def _explain_small_model(op: str, dtype: str, held: str) -> None:
    import numpy as np

    from lstm_explain import LRP, Gradient, Method, Occlusion, Target, load

    # with the relative stabiliser and with the absolute one
    methods: list[Method] = [LRP("all"), LRP("abs"), LRP("all", epsilon=1e-3), LRP("abs", epsilon=1e-3), Gradient()]
    model = load(_small_model(op, dtype, held))
    x = np.linspace(-1, 1, 12, dtype=dtype).reshape(3, 2, 2)
    for method in methods:
        model.explain({"x": x}, method, Target(index=(0, 1), batch_axis=1))
    model.explain({"x": np.repeat(x, MANY, axis=0)}, Occlusion(), Target(index=(0, 1), batch_axis=1))


def _small_model(op: str, dtype: str, held: str) -> onnx.ModelProto:
    """Returns one recurrent node of three units over two features, with weights that the type `held` represents
    exactly.
    """
    import numpy as np
    import onnx

    rng, gates = np.random.default_rng(0), GATES[op]
    element = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
    shapes = {"W": (1, 3 * gates, 2), "R": (1, 3 * gates, 3), "B": (1, 6 * gates)}
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node(op, ["x", *shapes], ["", "last"], hidden_size=3)],
        "small",
        [onnx.helper.make_tensor_value_info("x", element, ["T", "B", 2])],
        [onnx.helper.make_tensor_value_info("last", element, [1, "B", 3])],
        [
            onnx.numpy_helper.from_array(rng.normal(size=shape).astype(held).astype(dtype), name)
            for name, shape in shapes.items()
        ],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


if __name__ == "__main__":
    os.environ[MODE] = "wait"
    fill(sys.argv[1:])
