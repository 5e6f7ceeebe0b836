# SPDX-License-Identifier: Apache-2.0
"""Check that memory and file descriptors of the server do not grow under mixed traffic and reloads.

    python scripts/soak.py --minutes 30 --rate 20

starts the real server on a copy of models/, and client processes that explain by several methods, in streams and over
the Open Inference Protocol; one request in twenty is malformed. Every few seconds a model is reloaded. The script
samples memory and file descriptors four times a second and prints the minimum memory between two lines. It fails if,
after warm-up, the minimum memory or the number of files grows by more than 5 %, if a valid request fails, or if a
malformed one does not.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import numpy as np

from lstm_explain_client import Client
from lstm_explain_proto.inference import grpc_service_pb2 as inference
from lstm_explain_proto.inference import grpc_service_pb2_grpc as inference_grpc

ROOT = Path(__file__).resolve().parents[1]
READY = "lstm-explain ready on "
WARM_UP = 0.4  # share of the time: the memory settles after a model has been reloaded a few times
ALLOWED_GROWTH = 0.05
MALFORMED = 0.05
SECONDS_BETWEEN_RELOADS = 3.0
SECONDS_BETWEEN_LOOKS = 0.25
REFUSALS = {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND}
REVIEWS = ("a fine film", "not a bad film, but far too long", "dull", "the best thing that I have seen in many years")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=0.0)
    parser.add_argument("--seconds", type=float, default=0.0)
    parser.add_argument("--clients", type=int, default=2, help="client processes")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second, of all clients together")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server")
    parser.add_argument("--client", nargs=4, metavar=("ADDRESS", "SEED", "RATE", "SECONDS"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.client:
        address, seed, rate, seconds = arguments.client
        print(json.dumps(Traffic(address, int(seed)).run(float(rate), float(seconds))))
        return
    seconds = arguments.minutes * 60 + arguments.seconds or 20.0
    sys.exit(soak(seconds, arguments.clients, arguments.rate, arguments.workers))


# --- the clients -----------------------------------------------------------------------------------------------------


class Traffic:
    """The traffic of one client process."""

    def __init__(self, address: str, seed: int) -> None:
        self._client = Client(address)
        self._inference = inference_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))  # type: ignore[no-untyped-call]
        self._random = random.Random(seed)
        self._arrays = np.random.default_rng(seed)
        self._kinds = (self._text, self._text, self._weather, self._sampled, self._stream, self._infer, self._lists)

    def run(self, rate: float, seconds: float) -> dict[str, int]:
        """Run the traffic and return the number of requests by result."""
        counts: Counter[str] = Counter()
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            started = time.monotonic()
            counts[self._one()] += 1
            time.sleep(max(0.0, self._random.expovariate(rate) - (time.monotonic() - started)))
        return dict(counts)

    def _one(self) -> str:
        if self._random.random() < MALFORMED:
            try:
                self._malformed()
            except grpc.RpcError as error:
                return "refused" if error.code() in REFUSALS else f"malformed, but {error.code()}"
            except Exception as error:
                code = getattr(error, "code", None)
                return "refused" if code in REFUSALS or code is None else f"malformed, but {code}"
            return "malformed, but answered"
        kind = self._random.choice(self._kinds)
        try:
            kind()
        except Exception as error:
            return f"{kind.__name__} failed: {type(error).__name__} {error}"
        return "answered"

    def _text(self) -> None:
        rule = self._random.choice(("all", "half", "abs"))
        result = self._client.explain(
            "sentiment", {"tokens": self._random.choice(REVIEWS)}, method="lrp", parameters={"product_rule": rule}
        )
        assert np.isfinite(result.relevance["tokens"]).all()
        assert abs(result.ledger.residual).max() < 1e-3

    def _weather(self) -> None:
        x = self._arrays.normal(size=(self._random.randint(1, 3), 60, 5)).astype(np.float32)
        result = self._client.explain("discharge", {"weather": x}, method="lrp")
        assert result.relevance["weather"].shape == x.shape

    def _sampled(self) -> None:
        x = self._arrays.normal(size=(1, 8, 3)).astype(np.float32)
        self._client.explain("addition", {"x": x}, method=self._random.choice(("occlusion", "gradient_times_input")))

    def _stream(self) -> None:
        items: list[dict[str, Any]] = [
            {"model": "addition", "inputs": {"x": self._arrays.normal(size=(1, 5, 3)).astype(np.float32)}}
            for _ in range(6)
        ]
        assert sum(1 for _ in self._client.explain_stream(items)) == len(items)

    def _infer(self) -> None:
        x = self._arrays.normal(size=(1, 6, 3)).astype(np.float32)
        request = inference.ModelInferRequest(model_name="subtraction", raw_input_contents=[x.tobytes()])
        request.inputs.add(name="x", datatype="FP32", shape=x.shape)
        request.parameters["explain"].string_param = "lrp"
        assert len(self._inference.ModelInfer(request, timeout=60).outputs) >= 2

    def _lists(self) -> None:
        assert self._client.models()
        assert self._client.model("sentiment")

    def _malformed(self) -> None:
        x = np.zeros((1, 6, 3), np.float32)
        match self._random.randrange(4):
            case 0:
                self._client.explain("addition", {"x": x[..., :2]})
            case 1:
                self._client.explain("no-such-model", {"x": x})
            case 2:
                self._client.explain("addition", {"x": x}, method="lrp", parameters={"epsilon": -1.0})
            case _:
                request = inference.ModelInferRequest(model_name="addition", raw_input_contents=[b"123"])
                request.inputs.add(name="x", datatype="FP32", shape=[1, 6, 3])
                self._inference.ModelInfer(request, timeout=60)


# --- the server, and what is seen of it ------------------------------------------------------------------------------


@dataclass(frozen=True)
class Look:
    """A sample of the memory, descriptors and threads of all processes of the server."""

    seconds: float
    rss: int
    files: int
    threads: int


def soak(seconds: float, clients: int, rate: float, workers: int) -> int:
    with tempfile.TemporaryDirectory() as folder, _on_a_copy(Path(folder), workers) as (running, address):
        begun = time.monotonic()
        traffic = [_client(address, seed, rate / clients, seconds) for seed in range(clients)]
        looks: list[Look] = []
        reloads = 0
        print(f"{'seconds':>8} {'MiB':>8} {'files':>6} {'threads':>8} {'reloads':>8}", flush=True)
        between, printed, reload = max(0.5, seconds / 60), 0, _Reloads(address)
        while time.monotonic() - begun < seconds and running.poll() is None:
            reloads += reload.when_due()
            time.sleep(SECONDS_BETWEEN_LOOKS)
            looks.append(look(running.pid, time.monotonic() - begun))
            if looks[-1].seconds >= (printed + 1) * between:
                printed += 1
                least = min(looks[-max(1, int(between / SECONDS_BETWEEN_LOOKS)) :], key=lambda seen: seen.rss)
                print(
                    f"{looks[-1].seconds:8.0f} {least.rss / 2**20:8.1f} {least.files:6} {least.threads:8} {reloads:8}",
                    flush=True,
                )
        counts: Counter[str] = Counter()
        for client in traffic:
            if running.poll() is not None:
                client.kill()
            out, _ = client.communicate(timeout=120)
            counts.update(json.loads(out or "{}"))
        running.send_signal(signal.SIGTERM)
        code = running.wait(60)
    return verdict(looks, counts, reloads, code)


def verdict(looks: list[Look], counts: Counter[str], reloads: int, code: int) -> int:
    """Return 0 if nothing grew and nothing failed."""
    print(f"requests: {dict(counts)}; reloads: {reloads}; the server's exit code: {code}")
    bad = [what for what in counts if what not in ("answered", "refused")]
    problems = [f"{counts[what]} x {what}" for what in bad]
    if not counts["answered"]:
        problems.append("no request was answered")
    if code:
        problems.append(f"exit code {code}")
    warm = [look for look in looks if look.seconds >= WARM_UP * looks[-1].seconds]
    part = max(1, len(warm) // 3)
    for name, values in (("memory", [look.rss for look in warm]), ("files", [look.files for look in warm])):
        # Minima, because reloads and large requests take memory and release it, but a leak raises the minimum.
        first, last = min(values[:part]), min(values[-part:])
        growth = last / first - 1
        unit = (lambda v: f"{v / 2**20:.1f} MiB") if name == "memory" else str
        print(f"{name}: {unit(first)} after warming up, {unit(last)} at the end, {growth:+.1%}")
        if growth > ALLOWED_GROWTH:
            problems.append(f"{name} grew by {growth:.1%}")
    print("FAILED: " + "; ".join(problems) if problems else "passed")
    return int(bool(problems))


def _on_a_copy(folder: Path, workers: int) -> AbstractContextManager[tuple[subprocess.Popen[str], str]]:
    shutil.copytree(ROOT / "models", folder / "models")
    flags = ["--models", str(folder / "models"), "--workers", str(workers), "--log-level", "error", "--allow-import"]
    return server(folder, flags)


@contextmanager
def server(folder: Path, flags: list[str], **environment: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run a server and yield its address once it is ready; its log goes to a file in the folder."""
    command = [sys.executable, "-m", "lstm_explain.cli", "serve", "--listen", "127.0.0.1:0", *flags]
    with Path(folder, "log").open("w") as log:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **environment}
        )
    assert process.stdout is not None
    try:
        line = process.stdout.readline()
        if not line.startswith(READY):
            raise SystemExit("the server did not start: " + Path(folder, "log").read_text())
        yield process, line.removeprefix(READY).strip()
    finally:
        process.kill()
        process.wait()


def _client(address: str, seed: int, rate: float, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, __file__, "--client", address, str(seed), str(rate), str(seconds)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


class _Reloads:
    """Reloads `addition` and `sentiment` alternately."""

    def __init__(self, address: str) -> None:
        self._stub = inference_grpc.GRPCInferenceServiceStub(grpc.insecure_channel(address))  # type: ignore[no-untyped-call]
        self._due, self._done = time.monotonic(), 0

    def when_due(self) -> int:
        """Reload a model if it is time, and return the number of reloads."""
        if time.monotonic() < self._due:
            return 0
        self._due = time.monotonic() + SECONDS_BETWEEN_RELOADS
        self._done += 1
        name = ("addition", "sentiment")[self._done % 2]
        self._stub.RepositoryModelLoad(inference.RepositoryModelLoadRequest(model_name=name), timeout=60)
        return 1


def look(pid: int, seconds: float) -> Look:
    family = [pid, *children(pid)]
    page = os.sysconf("SC_PAGE_SIZE")
    rss = sum(int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in family) * page
    files = sum(len(os.listdir(f"/proc/{p}/fd")) for p in family)
    threads = sum(len(os.listdir(f"/proc/{p}/task")) for p in family)
    return Look(seconds, rss, files, threads)


def children(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


if __name__ == "__main__":
    main()
