"""Results: arrays, the ledger that accounts for them, and pictures."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lstm_explain_client import views
from lstm_explain_client.methods import from_wire_method
from lstm_explain_client.result_data import Array, Ledger, ResultData
from lstm_explain_client.target import from_wire_target
from lstm_explain_client.tensors import from_wire
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure
    from rich.console import Group


@dataclass(frozen=True, eq=False, repr=False)
class Result(ResultData):
    """The explanation of one batch, which can show itself as a page, a picture or a data frame; `ResultData` lists its
    fields.
    """

    def to_frame(self) -> pandas.DataFrame:
        """Return a data frame with a row per input element: sample, input, step, feature, token, value, relevance.

        Raises ImportError without pandas.
        """
        return views.frame(self)

    def plot(self, sample: int = 0, *, steps: Sequence[Any] | None = None) -> Figure:
        """Plot one sample with matplotlib; `steps` labels the time axis. Raises ImportError without matplotlib."""
        return views.figure(self, sample, steps)

    def to_html(
        self, path: str | os.PathLike[str] | None = None, *, title: str = "", steps: Sequence[Any] | None = None
    ) -> str:
        """Return a page with all samples, and write it to `path`. `steps`: dates or labels of the time axis."""
        page = views.page(self, title, steps)
        if path is not None:
            Path(path).write_text(page, encoding="utf-8")
        return page

    def sample_html(self, sample: int = 0, *, steps: Sequence[Any] | None = None) -> str:
        """Return one sample as an HTML fragment: prediction, heatmaps, ledger."""
        return views.sample_html(self, sample, steps)

    def _repr_html_(self) -> str:
        return views.notebook(self)

    def __rich__(self) -> Group:
        return views.terminal(self)

    def print(self, sample: int | None = None) -> None:
        """Print all samples, or one, in the terminal."""
        from rich.console import Console

        Console().print(views.terminal(self, sample))


def read_result(response: explanation_pb2.ExplainResponse, inputs: Mapping[str, Array]) -> Result:
    """Read the result from a response; `inputs` are the arrays that were sent."""
    explained = from_wire(response.explained)
    return Result(
        relevance=_arrays(response.relevance),
        outputs=_arrays(response.outputs),
        explained=explained,
        captured=_arrays(response.captured),
        ledger=_ledger(response.ledger),
        tokens=_arrays(response.tokens),
        standard_error=_arrays(response.standard_error),
        method=from_wire_method(response.method),
        target=from_wire_target(response.target, explained.size),
        model=response.model,
        version=response.version,
        inputs=dict(inputs),
        warnings=tuple(response.warnings),
        explained_quantity=response.explained_quantity,
        steps_used=tuple(response.steps_used),
    )


def _arrays(tensors: Any) -> dict[str, Array]:
    return {tensor.name: from_wire(tensor) for tensor in tensors}


def _ledger(message: explanation_pb2.Ledger) -> Ledger:
    return Ledger(
        inputs=from_wire(message.inputs),
        initial_states=from_wire(message.initial_states),
        absorbed=from_wire(message.absorbed),
        residual=from_wire(message.residual),
        by_node={share.node: from_wire(share.absorbed) for share in message.by_node},
    )
