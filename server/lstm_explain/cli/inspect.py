# SPDX-License-Identifier: Apache-2.0
"""Implements `lstm-explain inspect`, which shows what LRP does at every node, and what to do next."""

from __future__ import annotations

import json
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from lstm_explain.cli.options import NOT_POSSIBLE, AsJson, ModelPath, fail
from lstm_explain.kernels import cache

if TYPE_CHECKING:
    from lstm_explain.model import Model, TensorSpec


def inspect(model: ModelPath, as_json: AsJson = False) -> None:
    """Shows what LRP does at every node, and whether the model can be compiled to one file.

    Exit code: 0 all supported, 1 LRP is not possible, 2 unreadable.
    """
    cache.use()
    from lstm_explain.opening import load

    loaded = load(model)
    report = loaded.report()
    if as_json:
        print(json.dumps(_described(loaded), indent=2))
    else:
        _print_report(loaded)
        reason = _why_not_compiled(loaded)
        print("can be compiled to one ONNX file" if not reason else f"cannot be compiled to one ONNX file: {reason}")
        _print_verdict(loaded, model)
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
        "compiled": {"possible": not (reason := _why_not_compiled(model)), "reason": reason},
    }


def _why_not_compiled(model: Model) -> str:
    """Why `lstm-explain compile` refuses the model; empty where it does not."""
    from lstm_explain.compiled.compiler import why_not

    return why_not(model)


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


def _print_verdict(model: Model, path: Path) -> None:
    """Prints whether LRP can explain the model, and the next command to run. Its lines are not wrapped, to be
    copied.
    """
    report, output = model.report(), model.default_output
    command = ["lstm-explain", "explain", shlex.quote(str(path))]
    command += [
        "--text '…'" if n in model.tokenizers else f"--input {shlex.quote(f'{n}={n}.npy')}" for n in model.inputs
    ]
    if report.supported:
        noted = "; the warnings above say what it leaves out or guesses" if report.warnings else ""
        verdict = f"LRP can explain output {output!r}: every node on its path has a rule{noted}."
        command.append("--html why.html")
    else:
        missing = sum(node.on_path and not node.supported for node in report.nodes)
        verdict = f"LRP cannot explain output {output!r}: {missing} of the nodes on its path have no rule (marked ✗)."
        verdict += " A method that needs predictions only may still explain it."
        command.append("--method occlusion --html why.html")
    for line in (f"Verdict: {verdict}", f"Next: {' '.join(command)}"):
        Console(soft_wrap=True).print(_plain(line), highlight=False)


def _axis(what: str, axis: int | None) -> str:
    return f"no axis of {what}" if axis is None else f"{what} on axis {axis}"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)
