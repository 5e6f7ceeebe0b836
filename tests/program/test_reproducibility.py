# SPDX-License-Identifier: Apache-2.0
"""An answer depends only on the numbers in the request, not on their addresses in memory or on earlier requests."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import lstm_explain as lx
from lstm_explain.kernels import buffer_pool
from tests import zoo
from tests.builders import recurrent_model

# what meets the inputs first: a layer norm, a matrix product, a convolution, one of our loops, a table of words
MODELS = [
    "t_lstm_layernorm_dynamo20",
    "t_lstm_addattn_legacy17",
    "t_conv_bn_relu_lstm_dynamo20",
    "t_bilstm_hn_legacy17",
    "k2_gru_tf2onnx15",
    "t_emb_lstm_legacy17",
    "t_lstmcell_loop_legacy17",
]
METHODS = [lx.LRP(), lx.LRP("half"), lx.GradientTimesInput(), lx.IntegratedGradients(steps=4)]
Arrays = dict[str, npt.NDArray[Any]]


@functools.cache
def loaded(name: str) -> tuple[lx.Model, Arrays]:
    case = zoo.load(name)
    return lx.load(case.path), dict(case.inputs)


def lying(array: npt.NDArray[Any], at: int) -> npt.NDArray[Any]:
    """The array as a view of bytes that begin `at` bytes after a multiple of 64, as a view of a message may."""
    memory = np.zeros(array.nbytes + 128, np.uint8)
    start = -memory.ctypes.data % 64 + at
    memory[start : start + array.nbytes] = np.frombuffer(array.tobytes(), np.uint8)
    return np.frombuffer(memoryview(memory)[start:], array.dtype, array.size).reshape(array.shape)


def bits(explanation: lx.Explanation) -> bytes:
    ledger = explanation.ledger
    parts = [*explanation.relevance.values(), *explanation.outputs.values(), explanation.explained]
    return b"".join(part.tobytes() for part in [*parts, ledger.inputs, ledger.absorbed, ledger.residual])


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("name", MODELS)
def test_answers_do_not_depend_on_the_address(name: str, method: lx.Method) -> None:
    model, inputs = loaded(name)
    answers = {bits(model.explain({k: lying(a, at) for k, a in inputs.items()}, method)) for at in range(64)}
    assert len(answers) == 1


@pytest.mark.parametrize("method", METHODS, ids=repr)
@pytest.mark.parametrize("name", MODELS)
def test_answers_do_not_depend_on_the_layout(name: str, method: lx.Method) -> None:
    """The arrays are NumPy's views of the same numbers, transposed or with gaps."""
    model, inputs = loaded(name)
    transposed = {k: np.asfortranarray(a) for k, a in inputs.items()}
    gaps = {k: np.repeat(a, 2, axis=-1)[..., ::2] for k, a in inputs.items()}
    answers = {bits(model.explain(requested, method)) for requested in (inputs, transposed, gaps)}
    assert len(answers) == 1


@pytest.mark.parametrize("name", MODELS)
def test_answers_do_not_depend_on_earlier_requests(name: str) -> None:
    """The engine does not read memory that other inputs, methods and sizes have left behind."""
    model, inputs = loaded(name)
    first = {method: bits(model.explain(inputs, method)) for method in METHODS}
    for method in (*METHODS, lx.LRP("prop"), lx.LRP(bias_factor=1.0), lx.SmoothGrad(samples=3)):
        others = {k: a if a.dtype.kind != "f" else (a * 1e6).astype(a.dtype) for k, a in inputs.items()}
        model.explain(others, method)
        again = {method: bits(model.explain(inputs, method)) for method in METHODS}
        assert again == first


@pytest.mark.parametrize("method", [*METHODS, lx.LRP("prop"), lx.LRP(bias_factor=1.0)], ids=repr)
@pytest.mark.parametrize("op", ["LSTM", "GRU", "RNN"])
def test_answers_do_not_depend_on_the_content_of_reused_memory(
    monkeypatch: pytest.MonkeyPatch, op: Any, method: lx.Method
) -> None:
    """The time loops reuse memory, and do not write positions after the end of a sequence."""
    rng = np.random.default_rng(5)
    built = recurrent_model(rng, op, layers=2, direction="bidirectional", sequence_lens=True)
    model, feeds = lx.load(built.model), built.feeds(rng, 9, 4)
    answers = set()
    for held in (0.0, 7.0, -1e30):

        def maker(shape: tuple[int, ...], dtype: npt.DTypeLike, held: float = held) -> Callable[[], npt.NDArray[Any]]:
            return lambda: np.full(shape, held, dtype)

        monkeypatch.setattr(buffer_pool, "maker", maker)
        answers.add(bits(model.explain(feeds, method)))
    assert len(answers) == 1


@pytest.mark.parametrize("method", METHODS, ids=str)
@pytest.mark.parametrize(
    "name", ["t_gru_last_legacy17", "h_gru_lbr1_op14", "t_lstm_last_legacy17", "t_rnn_tanh_legacy17"]
)
def test_answers_do_not_depend_on_the_engines_addresses(name: str, method: lx.Method) -> None:
    """Between answers, the test frees blocks of all sizes, in which the allocator places the next arrays."""
    model, case = loaded(name)[0], zoo.load(name)
    inputs = {n: np.ascontiguousarray(a.take([0], case.batch_axis(n))) for n, a in case.inputs.items()}
    rng, relevance = np.random.default_rng(0), set()
    for _ in range(100):
        holes = [np.empty(int(n), np.float32) for n in rng.integers(1, 600, int(rng.integers(0, 30)))]
        between = holes[::3]
        del holes
        e = model.explain(inputs, method)
        relevance.add(b"".join(part.tobytes() for part in e.relevance.values()))
        del between
    assert len(relevance) == 1
