# SPDX-License-Identifier: Apache-2.0
"""Every client, every case, over plain text and over mutual TLS with a token, against the real server."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import SimpleQueue

import numpy as np
import pytest

import lstm_explain as lx
from lstm_explain_client import Client
from tests.conformance.case import EXPLAINER, MANAGER
from tests.conformance.generate import HERE
from tests.conformance.packed import PACKED
from tests.conformance.reports import SECONDS, Door, Report, ran, ran_alone
from tests.conformance.retry_proxy import unsteady
from tests.conformance.runners import ROOT, RUNNERS, Runner
from tests.conformance.test_golden import GOLDEN
from tests.reference.textbook import PRODUCT_RULES
from tests.serving.certificates import Authority, Files
from tests.serving.running import free_address, serving
from tests.serving.signing import write_key

TRANSPORTS = ("plain", "tls", "unsteady")  # the last one: through a proxy that turns away every first attempt
OVER = {"plain": "plain", "tls": "tls", "unsteady": "plain"}  # what a case calls it
AT_ONCE = 2  # clients that try again: each waits for about 20 seconds, all of them for longer than the builds take
CASES = {path.stem: json.loads(path.read_text()) for path in (HERE / "cases").glob("*.json")}


@pytest.fixture(scope="module", autouse=True)
def built_quickly() -> Iterator[None]:
    """Cargo leaves out optimisation, which takes more than half of the time of a build and changes no answer."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARGO_PROFILE_RELEASE_OPT_LEVEL", "0")
        patch.setenv("JAVA_TOOL_OPTIONS", "-XX:TieredStopAtLevel=1")  # no optimisation of programs that run for seconds
        yield


@pytest.fixture(scope="module")
def doors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Door]]]:
    """The doors by transport, each to a server with its own models, since runners import and delete models."""
    folder = tmp_path_factory.mktemp("conformance")
    authority = Authority("the authority")
    (folder / "ca.pem").write_bytes(authority.certificate)
    me = authority.sign("a client")
    (folder / "me.pem").write_bytes(me.certificate)
    (folder / "me.key").write_bytes(me.key)
    files = Files(folder)
    files.write(authority.sign("the server"), authority)
    key = str(write_key(folder, "receipts"))
    (folder / "tokens").write_text(f"{EXPLAINER} explain\n{MANAGER} explain,manage\n")
    compile_kernels()
    secured = [*files.flags, *files.client_flags, "--tokens", str(folder / "tokens")]
    with ExitStack() as stack:

        def started(name: str, *flags: str) -> str:
            shutil.copytree(HERE / "models", folder / name)
            keeps = ("--receipt-key", key, "--operations-folder", str(folder / f"operations of {name}"))
            return stack.enter_context(serving(folder / name, "--allow-import", *keeps, *flags)).address

        certificates = ("--ca", f"{folder}/ca.pem", "--cert", f"{folder}/me.pem", "--key", f"{folder}/me.key")
        proxies = [stack.enter_context(unsteady(started(f"unsteady {number}"))) for number in range(AT_ONCE)]
        yield {
            "plain": [Door(("--address", started("plain")))],
            "unsteady": [Door(("--address", proxy)) for proxy in proxies],
            "tls": [Door(("--address", started("tls", *secured), *certificates, "--token", MANAGER))],
        }


def compile_kernels() -> None:
    """Fills the cache from which the servers read compiled kernels: on a busy machine, compilation takes longer than
    the deadlines of the cases.
    """
    for name in ("deep", "gru", "rnn"):
        model = lx.load(HERE / "models" / name / "1" / "model.onnx")
        extents = {input: [n if isinstance(n, int) else 2 for n in spec.shape] for input, spec in model.inputs.items()}
        zeros = {input: np.zeros(shape, model.inputs[input].dtype) for input, shape in extents.items()}
        for method in (*[lx.LRP(rule, epsilon=1e-3) for rule in PRODUCT_RULES], lx.GradientTimesInput()):
            model.explain(zeros, method, lx.Target(index=0))


@pytest.fixture(scope="module")
def reports(
    doors: dict[str, list[Door]], capfd_disabled: None, request: pytest.FixtureRequest
) -> dict[tuple[str, str], Report]:
    """The reports by client and transport, of requested clients whose tools are installed; also printed as a table."""
    runners = [runner for runner in chosen(request.session.items) if not runner.missing()]
    free: dict[str, SimpleQueue[Door]] = {transport: SimpleQueue() for transport in TRANSPORTS}
    for transport in TRANSPORTS:
        for door in doors[transport]:
            free[transport].put(door)
    found: dict[tuple[str, str], Report] = {}
    running: dict[tuple[str, str], Future[Report]] = {}
    with ThreadPoolExecutor(max(1, len(TRANSPORTS) * len(runners))) as pool:

        def start(runner: Runner, transport: str) -> None:
            running[runner.client, transport] = pool.submit(ran_alone, runner, free[transport])

        for runner in runners:
            try:
                runner.make()
            except AssertionError as error:
                found |= {(runner.client, transport): Report(problem=str(error)) for transport in TRANSPORTS}
            else:
                start(runner, "unsteady")  # waits before it tries again; others are built meanwhile
        for runner in runners:
            if (runner.client, "unsteady") in running:
                start(runner, "plain")
                start(runner, "tls")
        found |= {key: report.result() for key, report in running.items()}
    print(table(found, chosen(request.session.items)))
    return found


def chosen(items: list[pytest.Item]) -> list[Runner]:
    """The runners of the selected tests (-k go), or all runners if no test is selected."""
    selected = [getattr(item, "callspec", None) for item in items if item.name.startswith("test_every_case_holds")]
    named = {spec.params["runner"].client for spec in selected if spec is not None}
    return [runner for runner in RUNNERS if not named or runner.client in named]


@pytest.fixture(scope="module")
def capfd_disabled(request: pytest.FixtureRequest) -> Iterator[None]:
    """Makes output visible although pytest captures it."""
    with request.config.pluginmanager.getplugin("capturemanager").global_and_fixture_disabled():
        yield


def built(runner: Runner) -> None:
    """Builds the runner, or skips the test."""
    if missing := runner.missing():
        pytest.skip(f"{runner.client}: no {', '.join(missing)} on this machine")
    runner.make()


def table(found: dict[tuple[str, str], Report], runners: list[Runner]) -> str:
    """A line for each client: how many cases hold, or what is missing."""
    rows = [("client", *TRANSPORTS)]
    for runner in runners:
        if missing := runner.missing():
            rows.append((runner.client, *[f"skipped: no {', '.join(missing)}"] * len(TRANSPORTS)))
            continue
        reports = (found[runner.client, transport] for transport in TRANSPORTS)
        cells = [f"{len(r.lines) - len(r.failed)} of {len(r.lines)}" if not r.problem else "broken" for r in reports]
        rows.append((runner.client, *cells))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    return "\n\nConformance, cases that hold\n" + "\n".join(lines) + "\n"


def expected(transport: str) -> set[str]:
    cases = {name for name, case in CASES.items() if OVER[transport] in case.get("over", TRANSPORTS)}
    return cases | {f"golden/{name}" for name in GOLDEN}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("runner", RUNNERS, ids=lambda runner: runner.client)
def test_every_case_holds(runner: Runner, transport: str, reports: dict[tuple[str, str], Report]) -> None:
    if missing := runner.missing():
        pytest.skip(f"{runner.client}: no {', '.join(missing)} on this machine")
    report = reports[runner.client, transport]
    assert not report.problem
    assert set(report.lines) == expected(transport)
    assert not report.failed


def test_relevance_is_the_same_to_the_bit(reports: dict[tuple[str, str], Report]) -> None:
    """This holds for every case, in every language, over both transports."""
    hashes: dict[str, dict[str, list[str]]] = {}
    for (client, transport), report in reports.items():
        for name, line in report.lines.items():
            reported = json.dumps(line["relevance"], sort_keys=True)
            hashes.setdefault(name, {}).setdefault(reported, []).append(f"{client} {transport}")
    apart = {name: kinds for name, kinds in hashes.items() if len(kinds) > 1}
    assert not apart
    with_numbers = [name for name, case in CASES.items() if "relevance" in case.get("expect", {}) or "answers" in case]
    assert with_numbers
    for name in with_numbers:
        (reported,) = hashes[name]
        assert all(len(digest) == 64 for digest in json.loads(reported).values())
        assert json.loads(reported)


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda runner: runner.client)
def test_every_runner_detects_a_wrong_case(runner: Runner, doors: dict[str, list[Door]], tmp_path: Path) -> None:
    """Each case is wrong in one place; a runner that accepts it does not check that place."""
    built(runner)
    shutil.copytree(HERE / "golden", tmp_path / "golden")
    (tmp_path / "cases").mkdir()
    for name, case in spoiled():
        (tmp_path / "cases" / f"{name}.json").write_text(json.dumps({**case, "name": name}))
    (tmp_path / "golden" / "get-model-request-0.bin").write_bytes(b"\x12\x01b\x0a\x01a")  # fields in the wrong order
    report = ran(runner, doors["plain"][0], tmp_path)
    assert not report.problem
    assert report.lines
    assert [n for n, line in report.lines.items() if line["ok"] and not n.startswith("golden/")] == []
    assert not report.lines["golden/get-model-request-0"]["ok"]


def spoiled() -> Iterator[tuple[str, dict]]:
    def changed(name: str, *path: str, to: object) -> dict:
        case = json.loads(json.dumps(CASES[name]))
        held = case
        for key in path[:-1]:
            held = held[key]
        held[path[-1]] = to
        return case

    numbers = CASES["lstm-lrp-all"]["expect"]
    for part in ("relevance.x", "outputs.logits", "explained", "ledger.inputs", "ledger.absorbed"):
        path = ("expect", *part.split("."))
        held = numbers
        for key in path[1:]:
            held = held[key]
        data = [*held["data"][:-1], held["data"][-1] + 1.0]
        yield f"number-{part}", changed("lstm-lrp-all", *path, to={**held, "data": data})
        yield f"shape-{part}", changed("lstm-lrp-all", *path, to={**held, "shape": [*held["shape"], 1]})
    x = numbers["relevance"]["x"]
    yield "dtype", changed("lstm-lrp-all", "expect", "relevance", "x", to={**x, "dtype": "float64"})
    yield "name", changed("lstm-lrp-all", "expect", "relevance", to={"y": x})
    yield "balance", changed("lstm-lrp-all", "expect", "ledger", "balance", to=-1.0)
    yield "version", changed("lstm-lrp-all", "expect", "version", to="2")
    yield "token", changed("text", "expect", "tokens", "tokens", "data", to=["the"] * 10)
    yield "warning", changed("warnings", "expect", "warnings", to=["all is well"])
    yield "warning-unexpected", changed("warnings", "expect", "warnings", to=[])
    yield "warning-missing", changed("warnings-none", "expect", "warnings", to=["relevance diverges"])
    yield "quantity", changed("softmax-lrp", "expect", "explained_quantity", to="output")
    yield "receipt", changed("receipt", "expect", "receipt", to="another kind of record")
    yield "receipt-missing", changed("no-receipt", "expect", "receipt", to="application/vnd.in-toto+json")
    yield "receipt-unexpected", changed("receipt", "expect", "receipt", to="")
    yield "captured", changed("capture", "expect", "captured", to={})
    yield "code", changed("error-rank", "expect_error", "code", to="NOT_FOUND")
    yield "field", changed("error-rank", "expect_error", "field", to="inputs[1].shape")
    yield "word", changed("error-rank", "expect_error", "word", to="elephant")
    yield "no-error", {**CASES["lstm-lrp-all"], "expect_error": {"code": "NOT_FOUND"}}
    yield "listed", changed("models", "expect", "models", to=[{"name": "lstm", "version": "2", "state": "ready"}])
    detail = CASES["model"]["expect"]["detail"]
    for key in ("description", "class_names", "inputs", "time_axes", "guessed_axes", "default_method", "lrp_supported"):
        other = {"lrp_supported": False, "description": "another", "default_method": {"name": "gradient"}}.get(key, {})
        yield f"detail-{key}", changed("model", "expect", "detail", to={**detail, key: other})
    for part in ("route", "rolled_back"):
        other = {**CASES["route"]["expect"][part], "previous_version": "1"}
        yield f"route-{part}", changed("route", "expect", part, to=other)
    several = CASES["targets-every-class-all"]["expect"]
    for part in ("results", "singles"):
        other = [several[part][1], several[part][0], several[part][2]]
        yield f"targets-{part}", changed("targets-every-class-all", "expect", part, to=other)
    yield "targets-missing", changed("targets-every-class-all", "expect", "results", to=several["results"][:2])
    answers = CASES["stream"]["answers"]
    yield "stream-error", changed("stream", "answers", to={**answers, "no-model": answers["good-0"]})
    yield "stream-swapped", changed("stream", "answers", to={**answers, "good-0": answers["good-1"]})
    yield "stream-progress", changed("stream-progress", "progress", to=["long", "short"])
    yield "stream-missing", changed("stream", "answers", to={**answers, "more": answers["good-1"]})


# --- what each client has besides ------------------------------------------------------------------------------------

OWN_TESTS = [runner for runner in RUNNERS if runner.test]
EXAMPLES = [runner for runner in RUNNERS if runner.example]
SENTENCE = "neither funny nor suspenseful nor particularly well-drawn"


@pytest.fixture(scope="module")
def bundled() -> Iterator[str]:
    """The address of a server with the models of this repository."""
    with serving(ROOT / "models") as server:
        yield server.address


@pytest.mark.parametrize("runner", OWN_TESTS, ids=lambda runner: runner.client)
def test_own_tests_pass(runner: Runner) -> None:
    built(runner)
    done = subprocess.run(runner.test, cwd=ROOT / runner.folder, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]


@pytest.mark.parametrize("runner", EXAMPLES, ids=lambda runner: runner.client)
def test_the_example_explains_a_sentence(runner: Runner, bundled: str) -> None:
    """It prints every word with its relevance, and the numbers equal those of the Python client."""
    built(runner)
    command = [*runner.example, bundled, SENTENCE]
    done = subprocess.run(command, cwd=ROOT / runner.folder, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    with Client(bundled) as client:
        result = client.explain("sentiment", {"tokens": SENTENCE})
    for word, relevance in zip(result.tokens["tokens"][0], result.relevance["tokens"][0], strict=True):
        assert any(word in line and f"{relevance:+.3f}" in line for line in done.stdout.splitlines()), done.stdout


@pytest.mark.parametrize("runner", EXAMPLES, ids=lambda runner: runner.client)
def test_the_address_and_the_cause_are_named_where_nothing_listens(runner: Runner) -> None:
    built(runner)
    address = free_address()
    command = [*runner.example, address, SENTENCE]
    done = subprocess.run(command, cwd=ROOT / runner.folder, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode != 0
    assert address in done.stderr
    assert re.search("connection ?refused|ECONNREFUSED", done.stderr, re.IGNORECASE), done.stderr


@pytest.mark.parametrize("client", PACKED)
def test_the_readmes_example_runs_with_the_packed_client(client: str, bundled: str, tmp_path: Path) -> None:
    built(next(runner for runner in RUNNERS if runner.client == client))
    PACKED[client](tmp_path, bundled)


@pytest.mark.parametrize("runner", RUNNERS, ids=lambda runner: runner.client)
def test_latency_is_measured(runner: Runner, bundled: str) -> None:
    built(runner)
    command = [*runner.run, "latency", "--address", bundled, "--model", "sentiment", "--calls", "3"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == 0, done.stderr
    reported = json.loads(done.stdout)
    assert (reported["client"], reported["calls"]) == (runner.client, 3)
    assert 0 < reported["p50_ms"] <= reported["p99_ms"]
