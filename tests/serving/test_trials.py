# SPDX-License-Identifier: Apache-2.0
"""Models that crash, never end or ask for too much end in the trial process, without side effects."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import lstm_explain_client as client
from lstm_explain.repository.model_folder import find_sources
from lstm_explain.serving.trials import trial_runner
from lstm_explain.serving.trials.results import TrialResults, fingerprint
from lstm_explain.serving.trials.trial_limits import TrialLimits, TrialResult
from lstm_explain.serving.trials.trial_runner import TrialRunner
from lstm_explain_proto.inference import grpc_service_pb2_grpc
from lstm_explain_proto.lstm_explain.v1 import model_pb2, model_pb2_grpc
from tests import hostile
from tests.serving.calling import infer, request, stub, tensor
from tests.serving.crashing import TRIAL_SITECUSTOMIZE
from tests.serving.models import lstm, write_version
from tests.serving.running import Running, free_address, metrics, on_trial, serving

BOUNDS = TrialLimits(memory=256 << 20, cpu=3, wall=60)
FLAGS = ("--trial-cpu-seconds", "3", "--trial-memory", str(BOUNDS.memory))
SOON = 90.0  # seconds, on a machine with much else to do
READY, FAILED = model_pb2.MODEL_STATE_READY, model_pb2.MODEL_STATE_FAILED

TOO_LONG, TOO_MUCH = ("-seconds)", "others came after it"), ("--trial-memory",)
HOSTILE: dict[str, tuple[Callable[[], onnx.ModelProto], tuple[str, ...]]] = {
    "endless": (hostile.endless, TOO_LONG),
    "nested": (lambda: hostile.endless(nested=True), TOO_LONG),
    "growing": (lambda: hostile.endless(growing=100_000), TOO_MUCH),
    "constant": (hostile.huge_constant, TOO_MUCH),
    "input": (hostile.huge_input, TOO_MUCH),
    "padding": (hostile.huge_padding, TOO_MUCH + TOO_LONG),
}


def until(true: Callable[[], bool], seconds: float = SOON) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.1)


def listed(server: Running) -> dict[str, tuple[int, str]]:
    with server.channel() as channel:
        models = model_pb2_grpc.ModelServiceStub(channel).ListModels(model_pb2.ListModelsRequest(), timeout=10).models
    return {m.name: (m.state, m.reason) for m in models}


def explained(server: Running, model: str = "good") -> None:
    with server.channel() as channel:
        assert stub(channel).Explain(request(model), timeout=30).explained


def resident(server: Running) -> int:
    """Resident bytes of the workers."""
    pages = [int(Path(f"/proc/{worker}/statm").read_text().split()[1]) for worker in server.workers()]
    return sum(pages) * os.sysconf("SC_PAGE_SIZE")


def names_reason(name: str, reason: str) -> bool:
    return "trial" in reason and any(words in reason for words in HOSTILE[name][1])


@contextmanager
def healthy(server: Running) -> Iterator[None]:
    """Checks that health is always answered within two seconds, and that a good model explains."""
    ended = threading.Event()
    problems: list[str] = []

    def ask() -> None:
        with server.channel() as channel:
            health = health_pb2_grpc.HealthStub(channel)
            while not ended.wait(0.1):
                try:
                    assert health.Check(health_pb2.HealthCheckRequest(), timeout=2).status == 1
                    stub(channel).Explain(request("good"), timeout=20)
                except (grpc.RpcError, AssertionError) as error:
                    problems.append(repr(error))

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        yield
    finally:
        ended.set()
        asking.join()
    assert problems == []


# --- the trial itself ------------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_version(tmp_path, "good", lstm())
    return tmp_path


def verdicts(folder: Path, runner: TrialRunner) -> dict[str, TrialResult]:
    """The results of all models of a folder, tried at the same time."""
    sources = find_sources(folder)
    with ThreadPoolExecutor(len(sources)) as pool:
        received = pool.map(lambda s: runner.result(s, fingerprint(s), s.size()), sources)
        return {source.name: verdict for source, verdict in zip(sources, received, strict=True)}


def test_harmful_models_end_in_their_trials(folder: Path) -> None:
    for name, (model, _) in HOSTILE.items():
        write_version(folder, name, model())
    received = verdicts(folder, TrialRunner(BOUNDS))
    assert received.pop("good").passed
    for name, verdict in received.items():
        assert names_reason(name, verdict.reason), (name, verdict)


def test_a_crash_is_a_reason_and_a_killed_trial_process_is_replaced(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "sitecustomize.py").write_text(TRIAL_SITECUSTOMIZE)
    monkeypatch.setattr(trial_runner.sys, "path", [str(folder), *trial_runner.sys.path])
    write_version(folder, "crash", lstm())
    tried = TrialRunner(BOUNDS)
    received = verdicts(folder, tried)
    assert received["good"].passed
    assert received["crash"] == TrialResult(
        False, "the trial of the model was ended: reading or running it crashed the process (SIGSEGV)", True
    )
    assert tried._process is not None
    tried._process.kill()  # for want of memory, say: another one takes its place
    write_version(folder, "later", lstm(1))
    assert verdicts(folder, tried)["later"].passed


def test_all_processes_end_when_the_server_is_killed(folder: Path) -> None:
    with serving(folder, "--trial-cpu-seconds", "100", "--trial-seconds", "1000", "--poll-seconds", "0.2") as server:
        write_version(folder, "endless", hostile.endless())
        until(lambda: bool(on_trial(server)))
        family = server.family()
        server.process.kill()
        server.process.wait()
        until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in family))


def test_results_are_shared_and_apply_to_exactly_these_files(folder: Path) -> None:
    (source,) = find_sources(folder)
    mark = fingerprint(source)
    TrialResults(folder / "verdicts").put(mark, TrialResult(False, "it crashes"))
    other = TrialResults(folder / "verdicts")
    assert other.get(mark) == TrialResult(False, "it crashes")
    before = source.model_file.stat()
    background = source.model_file.with_suffix(".new")
    background.write_bytes(source.model_file.read_bytes()[::-1])
    os.utime(background, ns=(before.st_atime_ns, before.st_mtime_ns))
    background.rename(source.model_file)  # of the same size and time
    assert source.model_file.stat().st_mtime_ns == before.st_mtime_ns
    assert other.get(fingerprint(source)) is None


# --- the server ------------------------------------------------------------------------------------------------------


def test_harmful_models_in_the_folder_at_startup(folder: Path) -> None:
    for name, (model, _) in HOSTILE.items():
        write_version(folder, name, model())
    (folder / "sitecustomize.py").write_text(TRIAL_SITECUSTOMIZE)
    write_version(folder, "crash", lstm())
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    with serving(folder, *FLAGS, PYTHONPATH=paths) as server:
        before = resident(server)
        with healthy(server):
            until(lambda: all(listed(server).get(name, (0, ""))[0] == FAILED for name in (*HOSTILE, "crash")))
        models = listed(server)
        assert models["good"] == (READY, "")
        assert "SIGSEGV" in models["crash"][1]
        assert all(names_reason(name, models[name][1]) for name in HOSTILE), models
        assert resident(server) < 1.1 * before
        assert server.stop() == 0


def test_harmful_models_with_two_workers(folder: Path) -> None:
    write_version(folder, "endless", hostile.endless())
    write_version(folder, "constant", hostile.huge_constant())
    with serving(folder, *FLAGS, "--workers", "2") as server:
        with healthy(server):
            until(lambda: listed(server).get("endless", (0, ""))[0] == FAILED)
            assert listed(server)["constant"][0] == FAILED
        assert server.stop() == 0


def test_harmful_imports_at_the_same_time_as_good_ones(folder: Path) -> None:
    write_version(folder, "other", lstm(1))
    with serving(folder, *FLAGS, "--allow-import") as server, client.Client(server.address) as own:
        own.import_model("first", lstm(2).SerializeToString(), timeout=SOON)  # and the process that tries is there
        before = resident(server)

        def imported(caller: client.Client, name: str, model: onnx.ModelProto) -> client.ModelDetail:
            end = time.monotonic() + 2 * SOON
            while True:
                try:
                    return caller.import_model(name, model.SerializeToString(), timeout=2 * SOON)
                except client.Overloaded:  # two are received at a time
                    assert time.monotonic() < end
                    time.sleep(0.2)

        def refusal(name: str) -> str:
            with client.Client(server.address) as mine, pytest.raises(client.InvalidRequest) as refused:
                imported(mine, name, HOSTILE[name][0]())
            return str(refused.value)

        with healthy(server), ThreadPoolExecutor(len(HOSTILE)) as pool:
            refused = {name: pool.submit(refusal, name) for name in HOSTILE}
            until(lambda: bool(on_trial(server)))
            assert imported(own, "second", lstm(3)).version == "1"
            own.delete_model("other")
            for name, reported in refused.items():
                assert names_reason(name, reported.result()), reported.result()
        assert set(listed(server)) == {"good", "first", "second"}
        assert resident(server) < 1.1 * before
        assert server.stop() == 0


def test_harmful_models_found_while_polling(folder: Path) -> None:
    with serving(folder, *FLAGS, "--poll-seconds", "0.2") as server:
        for name in ("endless", "nested"):
            write_version(folder, name, HOSTILE[name][0]())
        with healthy(server):
            until(lambda: bool(on_trial(server)))
            write_version(folder, "later", lstm(1))
            until(lambda: listed(server).get("later", (0, ""))[0] == READY)
            until(lambda: all(listed(server).get(name, (0, ""))[0] == FAILED for name in ("endless", "nested")))
            # What fails is tried again once its files are others.
            (folder / "endless" / "1" / "model.onnx").write_bytes(lstm(2).SerializeToString())
            until(lambda: listed(server)["endless"] == (READY, ""))
        assert server.stop() == 0


@pytest.mark.parametrize("flags", [("--poll-seconds", "0.2"), ("--allow-import",)], ids=["poll", "import"])
def test_shutdown_does_not_wait_for_a_trial(folder: Path, flags: tuple[str, ...]) -> None:
    long = ("--trial-cpu-seconds", "1000", "--trial-seconds", "10000")
    with serving(folder, *long, *flags) as server, client.Client(server.address) as own, ThreadPoolExecutor(1) as pool:
        if flags[0] == "--allow-import":
            pool.submit(own.import_model, "endless", hostile.endless().SerializeToString())
        else:
            write_version(folder, "endless", hostile.endless())
        until(lambda: bool(on_trial(server)))
        assert server.stop() == 0


# --- requests to models that have passed -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def looping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("models")
    write_version(folder, "good", lstm())
    write_version(folder, "loop", hostile.endless(guarded=True))
    # So much memory that time is what runs out first, however fast the machine is.
    with serving(folder, "--max-request-seconds", "2", "--max-request-bytes-estimate", str(8 << 30)) as server:
        yield server


FOREVER = np.full((1, 2), 200, np.float32)


def outcome(call: Callable[[], object]) -> tuple[grpc.StatusCode, str]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    return raised.value.code(), raised.value.details()


def test_an_endless_request_ends_at_its_deadline(looping: Running) -> None:
    with looping.channel() as channel, healthy(looping):
        forever = request("loop", inputs=[tensor("x", FOREVER)])
        code, _ = outcome(lambda: stub(channel).Explain(forever, timeout=0.5))
        assert code == grpc.StatusCode.DEADLINE_EXCEEDED


@pytest.mark.parametrize("method", ["lrp", "integrated_gradients", ""], ids=["lrp", "ig", "prediction"])
def test_an_endless_request_without_a_deadline_ends_at_the_servers_limit(looping: Running, method: str) -> None:
    message = infer("loop", FOREVER)
    message.parameters["explain"].string_param = method
    if not method:
        del message.parameters["explain"]
    with looping.channel() as channel, healthy(looping):
        service = grpc_service_pb2_grpc.GRPCInferenceServiceStub(channel)
        code, text = outcome(lambda: service.ModelInfer(message, timeout=SOON))
    assert (code, "--max-request-seconds 2" in text) == (grpc.StatusCode.DEADLINE_EXCEEDED, True), text


def test_unbounded_growth_is_an_error(folder: Path) -> None:
    write_version(folder, "growing", hostile.endless(guarded=True, growing=100_000))
    flags = ("--max-request-bytes-estimate", str(64 << 20), "--parallel", "1", "--max-runtime-bytes", str(256 << 20))
    with serving(folder, *flags) as server, client.Client(server.address) as own:
        before = resident(server)
        with pytest.raises(client.InvalidRequest, match="memory"):
            own.explain("growing", {"x": FOREVER})
        until(lambda: resident(server) < 1.1 * before)


def test_shutdown_does_not_wait_for_an_endless_request(folder: Path) -> None:
    write_version(folder, "loop", hostile.endless(guarded=True))
    address = free_address()
    flags = ("--grace-period", "1", "--metrics-listen", address)
    with serving(folder, *flags) as server, server.channel() as channel:
        call = stub(channel).Explain.future(request("loop", inputs=[tensor("x", FOREVER)]))
        until(lambda: metrics(address)["lstm_explain_calls_at_work"] == 1)
        assert server.stop() == 0
        assert call.code() != grpc.StatusCode.OK


def test_a_process_with_a_stuck_request_ends(folder: Path) -> None:
    (folder / "sitecustomize.py").write_text(
        "import sys, time\n"
        "if 'serve' in sys.orig_argv:\n"
        "    from lstm_explain.model import Model\n"
        "    real = Model.explain\n"
        "    def explain(self, inputs, *others, **named):\n"
        "        while (inputs['x'] > 100).any():\n"
        "            time.sleep(0.1)\n"
        "        return real(self, inputs, *others, **named)\n"
        "    Model.explain = explain\n"
    )
    paths = os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])
    with serving(folder, "--stuck-seconds", "1", PYTHONPATH=paths) as server, server.channel() as channel:
        stuck = request("good", inputs=[tensor("x", np.full((1, 3, 4), 200, np.float32))])
        metadata = (("x-request-id", "the-stuck-one"),)
        outcome(lambda: stub(channel).Explain(stuck, timeout=0.5, metadata=metadata))
        until(lambda: "has not stopped within 1 seconds" in server.logged())
        assert "the-stuck-one on model good version 1" in server.logged()
        until(lambda: server.process.poll() is not None or "replaces it" in server.logged())
