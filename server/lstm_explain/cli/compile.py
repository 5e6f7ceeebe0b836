# SPDX-License-Identifier: Apache-2.0
"""Implements `lstm-explain compile`, which writes a model and its explanation as one ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from lstm_explain.cli.opening import open_model, target_for
from lstm_explain.cli.options import ModelPath, pair
from lstm_explain.kernels import cache


def compile(
    model: ModelPath,
    out: Annotated[Path, typer.Option(metavar="EXPLAINED.onnx", help="Write the file there.")],
    method: Annotated[
        str | None, typer.Option(help="A method's name; default: that of model.yaml, otherwise lrp.")
    ] = None,
    param: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=VALUE", help="A parameter of the method; it replaces that of model.yaml."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="[OUTPUT:]INDEX|CLASS|runtime",
            help="What to explain; runtime: the file has another input that says so. Default: as model.yaml says, else "
            "the largest.",
        ),
    ] = None,
    batch_axis: Annotated[
        str | None, typer.Option(help="The axis of samples in the output, or none; default: that of model.yaml, or 0.")
    ] = None,
    triton: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Write a model repository of the Triton Inference Server there too."),
    ] = None,
    opset: Annotated[int | None, typer.Option(help="The file's version of ONNX's operators, from 18 on.")] = None,
) -> None:
    """Writes the model and its explanation as one ONNX file. Exit code: 1 if a node cannot be compiled, 2 if an
    argument is wrong.
    """
    cache.use(wait=True)
    from lstm_explain.compiled.compiler import compile_target
    from lstm_explain.compiled.targets import RUNTIME
    from lstm_explain.methods import LRP
    from lstm_explain.repository.text_notation import override_from_text

    parameters = dict(pair(given, "--param") for given in param or ())
    served, loaded = open_model(model)
    output, _, index = (target or "").rpartition(":")
    runtime = index == RUNTIME
    aim = target_for(served, loaded, (output or None) if runtime else target, batch_axis)
    chosen = override_from_text(LRP() if served is None else served.default_method, method, parameters)
    proto = compile_target(loaded, chosen, aim, runtime=runtime, opset=opset)
    data = proto.SerializeToString()
    out.write_bytes(data)
    if triton is not None:
        from lstm_explain.compiled.triton import write_repository

        print(f"{write_repository(proto, triton, out.stem)}: for the Triton Inference Server")
    size = f"{len(data) / 1e6:.1f} MB" if len(data) >= 1e5 else f"{len(data) / 1e3:.1f} kB"
    print(f"{out}: {len(proto.graph.node)} nodes, {size}, opset {proto.opset_import[0].version}")
    print("ONNX Runtime's answers equal the engine's on two batches of other sizes")
