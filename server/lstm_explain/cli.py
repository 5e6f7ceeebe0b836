"""The command line: inspect, explain, evaluate, batch, serve, health.

The engine is imported inside the commands, so that help and mistakes are told at once.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, get_args

try:
    import typer
    from rich.console import Console
    from rich.table import Table
except ImportError:  # told by main()
    sys.exit("lstm-explain: the command line needs the server's extra: pip install 'lstm-explain[server]'")

from lstm_explain import kernel_cache

if TYPE_CHECKING:
    from lstm_explain.model import Explanation, Model, TensorSpec
    from lstm_explain.spec.method import Method
    from lstm_explain.target import Target

OK, NOT_POSSIBLE, USAGE, SOME_FAILED = 0, 1, 2, 3
# Libraries that would start threads of their own beside those that `--threads` allows; they read these on import.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

app = typer.Typer(
    name="lstm-explain",
    help="Explains the predictions of recurrent ONNX models by relevance propagation.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ModelFile = Annotated[Path, typer.Argument(metavar="MODEL.onnx", help="The model's file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@app.command()
def inspect(model: ModelFile, as_json: AsJson = False) -> None:
    """Shows what LRP does at every node. Exit code: 0 all supported, 1 LRP is not possible, 2 unreadable."""
    kernel_cache.use()
    from lstm_explain.model import load

    loaded = load(model)
    report = loaded.report()
    if as_json:
        print(json.dumps(_described(loaded), indent=2))
    else:
        _print_report(loaded)
    if not report.supported:
        missing = [f"{n.name} ({n.op}): {n.rule}" for n in report.nodes if n.on_path and not n.supported]
        _fail(f"LRP is not possible for {model.name}: {'; '.join(missing or report.warnings)}", NOT_POSSIBLE)


@app.command()
def explain(
    model: ModelFile,
    inputs: Annotated[list[str], typer.Option("--input", metavar="NAME=FILE.npy", help="An input; repeat for more.")],
    method: Annotated[str, typer.Option(help="lrp, gradient, gradient_times_input, …")] = "lrp",
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the method.")] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME=FILE.npy", help="What an input is compared with: an array that broadcasts to it."),
    ] = None,
    mean_baseline: Annotated[
        list[str] | None, typer.Option(metavar="NAME=FILE.npy", help="The same: the mean over the samples in the file.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="[OUTPUT:]INDEX", help="What to explain; default: the largest entry.")
    ] = None,
    batch_axis: Annotated[str, typer.Option(help="The output's axis of samples, or none.")] = "0",
    capture: Annotated[list[str] | None, typer.Option(metavar="NAME", help="An inner value to explain too.")] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Write every array there.")] = None,
    html: Annotated[Path | None, typer.Option(metavar="FILE.html", help="Write a page with heatmaps there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explains one batch. Exit code: 1 if the method cannot pass through the model, 2 if something given is wrong."""
    kernel_cache.use()
    from lstm_explain.model import load

    arrays = {name: _array(path) for name, path in (_pair(text, "--input") for text in inputs)}
    chosen, loaded = _method(method, param or ()), load(model)
    chosen = _against(chosen, baseline or (), mean_baseline or (), loaded)
    explanation = loaded.explain(arrays, chosen, _target(target, batch_axis, loaded), capture or ())
    if out is not None:
        _write_npz(out, explanation)
    if html is not None or not as_json:
        _show(explanation, arrays, model.stem, html, terminal=not as_json)
    if as_json:
        print(json.dumps(_summary(explanation)))
    for warning in explanation.warnings:
        print(f"lstm-explain: warning: {warning}", file=sys.stderr)


@app.command()
def evaluate(
    model: ModelFile,
    inputs: Annotated[list[str], typer.Option("--input", metavar="NAME=FILE.npy", help="An input, many samples.")],
    method: Annotated[
        list[str] | None, typer.Option(metavar="NAME[:PARAM=VALUE,…]", help="Repeat to compare; default: lrp.")
    ] = None,
    target: Annotated[
        str | None, typer.Option(metavar="[OUTPUT:]INDEX", help="What to explain; default: the largest entry.")
    ] = None,
    baseline: Annotated[float, typer.Option(help="What stands for a deleted time step.")] = 0.0,
    over: Annotated[str, typer.Option(help="What is deleted: steps, features or cells.")] = "steps",
    batch_size: Annotated[int, typer.Option(min=1, help="Samples at a time.")] = 64,
    seed: Annotated[int, typer.Option(min=0, help="Of random orders and weights.")] = 0,
    randomise: Annotated[bool, typer.Option(help="Check that relevance changes with the weights.")] = False,
    plot: Annotated[Path | None, typer.Option(metavar="FILE.svg", help="Write the deletion curves there.")] = None,
    as_json: AsJson = False,
) -> None:
    """Measures methods: deletion and insertion curves, conservation, agreement, randomised weights."""
    kernel_cache.use()
    from lstm_explain.catalogue.notation import split_parameters
    from lstm_explain.evaluate.show import follow, print_summary
    from lstm_explain.evaluate.summary import split, summarise, work
    from lstm_explain.model import load
    from lstm_explain.spec.method import Players

    players = next((p for p in get_args(Players) if p == over), None)
    if players is None:
        raise typer.BadParameter(f"--over {over!r} is none of {', '.join(get_args(Players))}")
    loaded = load(model)
    arrays = {name: _array(path) for name, path in (_pair(text, "--input") for text in inputs)}
    loaded.predict(arrays)  # says what is wrong with them
    named = [text.partition(":") for text in method or ["lrp"]]
    methods = [_method(name, split_parameters(parameters)) for name, _, parameters in named]
    data = split(loaded, arrays, batch_size)
    count = work(len(data), len(methods), randomise=randomise, nodes=len(loaded.proto.graph.node))
    with follow(count) as progress:
        found = summarise(
            loaded, data, methods, _target(target, "0", loaded), baseline=baseline, over=players, seed=seed,
            randomise=randomise, progress=progress,
        )  # fmt: skip
    if plot is not None:
        plot.write_text(found.chart(), encoding="utf-8")
    if as_json:
        print(json.dumps(found.as_json()))
    else:
        print_summary(found)


@app.command()
def batch(
    model: Annotated[Path, typer.Option(metavar="MODEL", help="model.onnx, or a model's folder in a repository.")],
    data: Annotated[Path, typer.Option("--input", metavar="DATA", help="A file, or a folder of files.")],
    output: Annotated[Path, typer.Option(metavar="OUT", help="A folder, new or of a job to go on with.")],
    method: Annotated[str | None, typer.Option(help="As for explain; default: the model's own.")] = None,
    param: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A parameter of the method.")] = None,
    target: Annotated[
        str | None, typer.Option(metavar="[OUTPUT:]INDEX", help="What to explain; default: the model's own.")
    ] = None,
    column: Annotated[
        list[str] | None, typer.Option(metavar="INPUT=COLUMN", help="Where an input comes from, if not by its name.")
    ] = None,
    key: Annotated[str | None, typer.Option(metavar="COLUMN", help="A column to copy, beside file and row.")] = None,
    workers: Annotated[
        int | None, typer.Option(min=0, help="Processes; 0: this one, without Ray. Default: one a core.")
    ] = None,
    address: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="A Ray cluster (auto: the one this runs in); default: none.")
    ] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="OUT", help="The folder of another run, to tell drift against.")
    ] = None,
    shard_rows: Annotated[int | None, typer.Option(min=1, help="Rows of an output file, at most.")] = None,
    as_json: AsJson = False,
) -> None:
    """Explains whole data sets: Parquet, Arrow or NumPy files in, Parquet out.

    What was stopped goes on where it was if started again. Exit code: 0 every row is explained, 3 some rows are not
    (see OUT/errors), 1 the job could not end, 2 something given is wrong.
    """
    for variable in ("LSTM_EXPLAIN_THREADS", *THREAD_VARIABLES):
        os.environ.setdefault(variable, "1")
    kernel_cache.use()
    try:
        from lstm_explain.batch import command as job
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("pyarrow", "ray"):
            raise
        _fail(f"{error}; the extra has it: pip install 'lstm-explain[ray]'", NOT_POSSIBLE)
    from lstm_explain.batch.show import print_total

    pairs = dict(_pair(text, "--param") for text in param or ())
    columns = dict(_pair(text, "--column") for text in column or ())
    request = job.Request(model, data, output, method, pairs, target, columns, key, shard_rows)
    total = job.run(*job.prepare(request), workers, address, reference)
    if as_json:
        print(json.dumps(total.as_json()))
    else:
        print_total(total, output)
    if total.failed:
        sys.exit(SOME_FAILED)


@app.command(
    add_help_option=False,
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def serve(context: typer.Context) -> None:
    """Serves a folder of models over gRPC; see `lstm-explain serve --help`."""
    from pydantic import ValidationError
    from pydantic_settings import CliApp, SettingsError

    from lstm_explain.service.settings import Settings, complete, explain_problem

    try:
        settings = CliApp.run(Settings, cli_args=complete(context.args))
    except ValidationError as error:
        _fail(explain_problem(error), USAGE)
    except SettingsError as error:
        _fail(str(error), USAGE)
    os.environ["LSTM_EXPLAIN_THREADS"] = str(settings.threads)
    if settings.max_runtime_bytes is not None:
        os.environ["LSTM_EXPLAIN_MAX_RUNTIME_BYTES"] = str(settings.max_runtime_bytes)
    for variable in THREAD_VARIABLES:
        os.environ.setdefault(variable, str(settings.threads))

    kernel_cache.use()
    from lstm_explain.service import server, workers

    (server if settings.workers == 1 else workers).run(settings)
    # Leaving in the usual way would wait for explanations that were not done when the grace period ended.
    sys.stdout.flush()
    os._exit(OK)


@app.command()
def health(
    address: Annotated[
        str, typer.Option(metavar="HOST:PORT", envvar="LSTM_EXPLAIN_LISTEN", help="Where the server listens.")
    ] = "127.0.0.1:50051",
    service: Annotated[str, typer.Option(help="A service's full name, or model/<name>; empty: the server.")] = "",
    ca: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="The server's authority: use TLS.")] = None,
    certificate: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="Ours, for mutual TLS.")] = None,
    key: Annotated[Path | None, typer.Option(metavar="FILE.pem", help="The key of our certificate.")] = None,
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the answer.")] = 3.0,
) -> None:
    """Asks a server whether it serves. Exit code: 0 it does, 1 it does not or does not answer."""
    import grpc

    from lstm_explain.service.probe import ask

    files = [None if path is None else path.read_bytes() for path in (ca, key, certificate)]
    credentials = None if ca is None else grpc.ssl_channel_credentials(*files)
    for every, own in (("0.0.0.0:", "127.0.0.1:"), ("[::]:", "[::1]:")):  # what listens everywhere is asked here
        address = own + address.removeprefix(every) if address.startswith(every) else address
    answer = ask(address, service, timeout, credentials)
    if answer != "SERVING":
        _fail(f"{address}: {answer}", NOT_POSSIBLE)
    print(answer)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line; every error is one line on stderr."""
    command = typer.main.get_command(app)
    try:
        sys.exit(command.main(args=arguments, prog_name="lstm-explain", standalone_mode=False) or OK)
    except typer.Abort:
        _fail("aborted", NOT_POSSIBLE)
    except Exception as error:
        _fail(*_told(error))


def _told(error: Exception) -> tuple[str, int]:
    """Message and exit code of an error; of one that nobody foresaw, the traceback if the log level is debug."""
    if hasattr(error, "format_message"):  # click's, of which typer may carry a copy of its own
        return error.format_message(), USAGE
    if isinstance(error, ImportError):
        return f"{error}; the server's extra has it: pip install 'lstm-explain[server]'", NOT_POSSIBLE
    from lstm_explain.errors import Error, UnsupportedOperator

    if isinstance(error, OSError):
        return f"{error.filename}: {error.strerror}" if error.filename else str(error), USAGE
    if isinstance(error, Error):
        return str(error), NOT_POSSIBLE if type(error) in (Error, UnsupportedOperator) else USAGE
    if os.environ.get("LSTM_EXPLAIN_LOG_LEVEL") == "debug":
        raise error
    return f"unexpected {type(error).__name__}: {error}", NOT_POSSIBLE


def _fail(message: str, code: int) -> NoReturn:
    print(f"lstm-explain: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)


def _pair(text: str, option: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise typer.BadParameter(f"{option} {text!r} is not NAME=VALUE")
    return name, value


def _array(path: str) -> Any:
    import numpy as np

    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise typer.BadParameter(f"{path} is not a NumPy .npy file of numbers: {error}") from None
    if not isinstance(array, np.ndarray):
        raise typer.BadParameter(f"{path} holds several arrays, a .npy file with one is wanted")
    return array


def _method(name: str, parameters: Sequence[str]) -> Method:
    from lstm_explain.catalogue.notation import method_from_text

    return method_from_text(name, dict(_pair(text, "--param") for text in parameters))


def _against(method: Method, baselines: Sequence[str], means: Sequence[str], model: Model) -> Method:
    """The method with baselines from files, if there are any."""
    from lstm_explain.methods.baselines import mean_baseline
    from lstm_explain.plan.axes import Axes
    from lstm_explain.spec.method import Against, method_from_name

    if not baselines and not means:
        return method
    if not isinstance(method, Against):
        raise typer.BadParameter(f"{method.name} takes no baseline")
    arrays = {name: _array(path) for name, path in (_pair(text, "--baseline") for text in baselines)}
    for name, path in (_pair(text, "--mean-baseline") for text in means):
        arrays |= mean_baseline({name: _array(path)}, model.axes.get(name, Axes(0, None)).batch or 0)
    return method_from_name(method.name, {**method.parameters(), "baseline": arrays})


def _target(text: str | None, batch_axis: str, model: Model) -> Target:
    from lstm_explain.catalogue.notation import parse_target
    from lstm_explain.target import Target

    output, index = (None, None) if text is None else parse_target(text, model.outputs)
    if batch_axis != "none" and not batch_axis.isdigit():
        raise typer.BadParameter(f"--batch-axis {batch_axis!r} is neither a number nor none")
    return Target(output=output, index=index, batch_axis=None if batch_axis == "none" else int(batch_axis))


def _arrays(explanation: Explanation) -> dict[str, Any]:
    """Every array by its name in the .npz file."""
    ledger = explanation.ledger
    return {
        **{f"relevance/{name}": array for name, array in explanation.relevance.items()},
        **{f"output/{name}": array for name, array in explanation.outputs.items()},
        **{f"standard_error/{name}": array for name, array in explanation.standard_error.items()},
        **{f"captured/{name}": array for name, array in explanation.captured.items()},
        "explained": explanation.explained,
        "ledger/inputs": ledger.inputs,
        "ledger/initial_states": ledger.initial_states,
        "ledger/absorbed": ledger.absorbed,
        "ledger/residual": ledger.residual,
        **{f"ledger/by_node/{name}": array for name, array in ledger.by_node.items()},
    }


def _write_npz(path: Path, explanation: Explanation) -> None:
    import numpy as np

    with path.open("wb") as file:  # savez adds an ending to a path that lacks it
        np.savez(file, **_arrays(explanation))


def _show(explanation: Explanation, inputs: dict[str, Any], name: str, html: Path | None, *, terminal: bool) -> None:
    """The client's pictures, through the same message that a client would get."""
    from lstm_explain.service.wire import from_explanation
    from lstm_explain_client.wire import read_result

    result = read_result(from_explanation(explanation, name, "", {}), inputs)
    if html is not None:
        result.to_html(html, title=name)
    if terminal:
        result.print()


def _summary(explanation: Explanation) -> dict[str, Any]:
    return {
        "method": {"name": explanation.method.name, **_plain_parameters(explanation.method)},
        "warnings": list(explanation.warnings),
        **{key: array.tolist() for key, array in _arrays(explanation).items()},
    }


def _plain_parameters(method: Method) -> dict[str, Any]:
    from lstm_explain.spec.composite import Composite

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(inner) for key, inner in value.items()}
        if isinstance(value, Composite):
            return str(value)
        return value.tolist() if hasattr(value, "tolist") else value

    return {name: plain(value) for name, value in method.parameters().items()}


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
            places = "" if axes is None else f"  {_place('samples', axes.batch)}, {_place('time', axes.time)}"
            console.print(
                f"{title} {name}: {spec.dtype} [{', '.join(map(str, spec.shape))}]{places}",
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


def _place(what: str, axis: int | None) -> str:
    return f"no axis of {what}" if axis is None else f"{what} on axis {axis}"


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
