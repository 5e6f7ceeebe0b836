# SPDX-License-Identifier: Apache-2.0
"""Computes the operations that StartBatch has started: `lstm-explain batch` in a process of its own.

What a job has finished is in its output, so the next attempt goes on from there.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from google.rpc import code_pb2

from lstm_explain.condition import parse_condition
from lstm_explain.errors import ModelError
from lstm_explain.kernels.cache import COMPILED_FOR
from lstm_explain.program.through import as_through
from lstm_explain.repository.group_notation import groups_from_text
from lstm_explain.repository.model_folder import Source, find_sources
from lstm_explain.repository.request import check_combination
from lstm_explain.repository.through_notation import through_parts
from lstm_explain.serving.audit.log import AuditLog
from lstm_explain.serving.audit.note import Origin, RequestNote
from lstm_explain.serving.errors import Dropped
from lstm_explain.serving.operations.batch_paths import BatchPaths, folder_of, paths_of
from lstm_explain.serving.operations.claim import Claim
from lstm_explain.serving.operations.entry import Failure
from lstm_explain.serving.operations.explain_work import EVENT, too_long
from lstm_explain.serving.scheduling.admission import PendingCall
from lstm_explain.serving.wire.groups import to_through
from lstm_explain_proto.lstm_explain.v1 import operation_pb2 as pb

# Exit codes of `lstm-explain batch`.
_DONE, _USAGE, _SOME_FAILED = 0, 2, 3
SECONDS_BETWEEN_LOOKS = 0.03
SECONDS_BETWEEN_PROGRESS = 0.5
SECONDS_TO_END = 5.0
MAX_MESSAGE = 1000
ENV_PREFIX = "LSTM_EXPLAIN_"


class BatchWork:
    """models: the folder of models. root: of the files of jobs. address: of a Ray cluster; None: no Ray. audit: None
    where there is no audit log. check_signature: raises Error for files that nobody trusted signed. A job reads the
    model's files itself, so they are checked again when it starts. most_seconds: of an attempt.
    """

    def __init__(
        self,
        models: Path,
        root: Path,
        address: str | None,
        audit: AuditLog | None,
        check_signature: Callable[[Source], None],
        most_seconds: float,
    ) -> None:
        self._models, self._root, self._address, self._audit = models.absolute(), root.absolute(), address, audit
        self._check_signature, self._most_seconds = check_signature, most_seconds

    def check(self, request: pb.StartBatchRequest, caller: str) -> BatchPaths:
        """Returns the files of a job that the caller may start. Raises InputError, NotOffered."""
        condition = parse_condition(request.condition)
        groups = groups_from_text(request.groups) if request.groups else None
        check_combination(condition, groups, _through(request))
        return paths_of(folder_of(self._root, caller), request.input, request.output)

    async def __call__(self, claim: Claim, call: PendingCall, progress: Callable[[int, int], None]) -> bytes | Failure:
        """Raises lstm_explain.Error, Damaged."""
        facts = claim.facts
        request = pb.StartBatchRequest.FromString(await asyncio.to_thread(claim.request))
        call.origin = Origin(facts.call_id, facts.caller, facts.subject, facts.peer, "operation")
        note, began, code = RequestNote(facts.model, facts.version, claim.id), time.perf_counter(), "UNKNOWN"
        note.change = f"batch: {request.input} to {request.output}"
        try:
            paths = await asyncio.to_thread(self.check, request, facts.caller)
            source = await asyncio.to_thread(self._source, facts.model, facts.version)
            await asyncio.to_thread(self._check_signature, source)
            ended = await self._run(_arguments(request, source, paths, self._address), paths, call, progress)
            if isinstance(ended, Failure):
                code, note.error = code_pb2.Code.Name(ended.code), ended.message
            else:
                code = "OK"
                claim.report(*await asyncio.to_thread(_progress, paths.output))
            return ended
        except BaseException as error:
            note.error = str(error)
            raise
        finally:
            if self._audit is not None:
                self._audit.request(EVENT, call.origin, note, code, time.perf_counter() - began)

    def _source(self, model: str, version: str) -> Source:
        """Returns the files of the version. Raises ModelError."""
        for source in find_sources(self._models, model):
            if str(source.version) == version:
                return source
        raise ModelError(f"model {model!r} version {version} is no longer there")

    async def _run(
        self, arguments: list[str], paths: BatchPaths, call: PendingCall, progress: Callable[[int, int], None]
    ) -> bytes | Failure:
        command = [sys.executable, "-m", "lstm_explain.serving.operations.batch_process", str(os.getpid()), *arguments]
        process = await asyncio.create_subprocess_exec(
            *command, stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, env=_environment()
        )
        output = asyncio.ensure_future(process.communicate())
        try:
            next_look, end = 0.0, time.monotonic() + self._most_seconds
            while not output.done():
                if not call.waited_for:
                    raise Dropped("the batch job was stopped")
                if (now := time.monotonic()) >= end:
                    raise too_long(self._most_seconds)
                if now >= next_look:
                    next_look = now + SECONDS_BETWEEN_PROGRESS
                    done, total = await asyncio.to_thread(_progress, paths.output)
                    if total:
                        progress(done, total)
                await asyncio.wait([output], timeout=SECONDS_BETWEEN_LOOKS)
            out, err = output.result()
        finally:
            await _end(process, output)
        return _result(process.returncode, out.decode(errors="replace"), err.decode(errors="replace"), self._root)


def _arguments(request: pb.StartBatchRequest, source: Source, paths: BatchPaths, address: str | None) -> list[str]:
    """Returns the arguments of the command line. Values follow the `=` of their options, so none is read as one."""
    arguments = [f"--model={source.model_file}", f"--input={paths.input}", f"--output={paths.output}", "--json"]
    arguments.append("--workers=0" if address is None else f"--address={address}")
    for option in ("method", "target", "targets", "key", "condition", "groups"):
        if value := getattr(request, option):
            arguments.append(f"--{option}={value}")
    arguments += [f"--through={part}" for part in through_parts(_through(request))]
    arguments += [f"--param={name}={value}" for name, value in sorted(request.parameters.items())]
    return arguments + [f"--column={name}={column}" for name, column in sorted(request.columns.items())]


def _through(request: pb.StartBatchRequest) -> dict[str, tuple[int, ...]]:
    """Raises InputError."""
    return dict(as_through(to_through(request.through)))


def _environment() -> dict[str, str]:
    """Returns this process's variables without the settings of the server."""
    return {k: value for k, value in os.environ.items() if k == COMPILED_FOR or not k.startswith(ENV_PREFIX)}


def _progress(output: Path) -> tuple[int, int]:
    """Returns the rows of finished parts and all rows; 0 of 0 where the job has not written its plan."""
    try:
        shards = json.loads((output / "manifest.json").read_bytes())["shards"]
        sizes = [stop - start for _, start, stop in shards]
        names = set(os.listdir(output / "rows"))
    except (OSError, ValueError, KeyError, TypeError):
        return 0, 0
    return sum(size for i, size in enumerate(sizes) if f"part-{i:06d}.parquet" in names), sum(sizes)


async def _end(process: Process, output: asyncio.Future[tuple[bytes, bytes]]) -> None:
    """Ends a process that still runs."""
    for kind in (signal.SIGTERM, signal.SIGKILL):
        if output.done():
            return
        with suppress(ProcessLookupError):
            process.send_signal(kind)
        await asyncio.wait([output], timeout=SECONDS_TO_END)


def _result(code: int | None, out: str, err: str, root: Path) -> bytes | Failure:
    if code in (_DONE, _SOME_FAILED):
        total = json.loads(out.splitlines()[-1])
        summary = pb.BatchSummary(
            rows=total["rows"], failed=total["failed"], warned=total["warned"], worst=total["worst"]
        )
        return summary.SerializeToString()
    if code is None or code < 0:
        return Failure(code_pb2.INTERNAL, f"the process of the batch job ended with signal {-(code or 0)}")
    said = err.strip().splitlines()[-1:] or ["no reason was given"]
    message = said[0].removeprefix("lstm-explain: ").replace(f"{root}/", "")[:MAX_MESSAGE]
    return Failure(code_pb2.INVALID_ARGUMENT if code == _USAGE else code_pb2.FAILED_PRECONDITION, message)
