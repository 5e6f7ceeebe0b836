"""Implements `lstm-explain inspect`, which shows what LRP does at every node."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lstm_explain.cli.options import NOT_POSSIBLE, AsJson, ModelPath, fail
from lstm_explain.kernels import cache

if TYPE_CHECKING:
    from lstm_explain.model import Model, TensorSpec


def inspect(model: ModelPath, as_json: AsJson = False) -> None:
    """Shows what LRP does at every node. Exit code: 0 all supported, 1 LRP is not possible, 2 unreadable."""
    cache.use()
    from lstm_explain.opening import load

    loaded = load(model)
    report = loaded.report()
    if as_json:
        print(json.dumps(_described(loaded), indent=2))
    else:
        _print_report(loaded)
    if not report.supported:
        missing = [f"{n.name} ({n.op}): {n.rule}" for n in report.nodes if n.on_path and not n.supported]
        fail(f"LRP is not possible for {model.name}: {'; '.join(missing or report.warnings)}", NOT_POSSIBLE)


def _described(model: Model) -> dict[str, Any]:
    def specs(tensors: dict[str, TensorSpec]) -> list[dict[str, Any]]:
        return [{"name": n, "dtype": str(s.dtype), "shape": list(s.shape)} for n, s in tensors.items()]

    report = model.report()
    return {
        "supported": report.supported,
        "inputs": specs(model.inputs),
        "outputs": specs(model.outputs),
        "axes": {name: asdict(axes) for name, axes in report.axes.items()},
        "nodes": [asdict(node) for node in report.nodes],
        "warnings": report.warnings,
    }


def _print_report(model: Model) -> None:
    console, report = Console(), model.report()
    for title, specs in (("input", model.inputs), ("output", model.outputs)):
        for name, spec in specs.items():
            axes = report.axes.get(name) if title == "input" else None
            axes_text = "" if axes is None else f"  {_axis('samples', axes.batch)}, {_axis('time', axes.time)}"
            console.print(
                f"{title} {name}: {spec.dtype} [{', '.join(map(str, spec.shape))}]{axes_text}",
                markup=False,
                highlight=False,
            )
    table = Table("")
    for column in ("node", "operator", "rule"):
        table.add_column(column, overflow="fold")
    for node in report.nodes:
        mark = "[green]✓[/green]" if node.supported else "[red]✗[/red]" if node.on_path else "[yellow]✗[/yellow]"
        product = f": gate {node.gate}, signal {node.signal}" if node.gate else ""
        style = None if node.on_path else "dim"
        rule = node.rule + product if node.on_path or not node.supported else "not on the explained path"
        table.add_row(mark, _plain(node.name), _plain(node.op), _plain(rule), style=style)
    console.print(table)
    for warning in report.warnings:
        console.print(f"[yellow]warning:[/yellow] {_plain(warning)}")


def _axis(what: str, axis: int | None) -> str:
    return f"no axis of {what}" if axis is None else f"{what} on axis {axis}"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
