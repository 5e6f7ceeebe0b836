# SPDX-License-Identifier: Apache-2.0
"""A stopped job resumes where it was; every row is in the result exactly once."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from tests.batch.data import DISCHARGE, MODEL, batch, check_rows, in_this_process, weather, write
from tests.serving.running import command


def parts(output: Path) -> dict[str, int]:
    """Finished files of rows, with when each was written."""
    return {path.name: path.stat().st_mtime_ns for path in (output / "rows").glob("part-*")}


def kill_in_the_middle(flags: list[str], output: Path, least: int = 2) -> dict[str, int]:
    """Starts a job and kills it with SIGKILL once some shards are done. Returns those shards."""
    process = subprocess.Popen(command("batch", *flags), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    until = time.monotonic() + 120
    while len(parts(output)) < least and process.poll() is None and time.monotonic() < until:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL, "it had ended by itself"
    return parts(output)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_killed_and_started_again(tmp_path: Path, workers: str) -> None:
    if workers != "0":
        pytest.importorskip("ray", reason="needs the extra [ray]")
    rows = weather(400, longest=60)
    write(tmp_path / "in.parquet", rows, group=20)
    output = tmp_path / "out"
    slow = ("--shard-rows", 20, "--workers", workers)
    flags = [*map(str, ("--model", DISCHARGE, "--input", tmp_path / "in.parquet", "--output", output, *slow))]
    before = kill_in_the_middle(flags, output)
    assert 2 <= len(before) < 20
    (output / "rows" / ".unfinished-of-a-worker-that-was-killed").write_text("half a file")
    done = batch(*flags, "--json")
    assert done.returncode == 0, done.stderr
    after = parts(output)
    assert len(after) == 20
    assert before.items() <= after.items()  # not written again
    assert not list(output.rglob(".unfinished*"))
    check_rows(output, {"in.parquet": rows})
    reported = json.loads(done.stdout)
    assert (reported["rows"], reported["before"] >= 20 * len(before)) == (400, True)


def test_a_finished_job_is_unchanged(tmp_path: Path) -> None:
    write(tmp_path / "in.parquet", weather(20))
    arguments = ("--model", MODEL, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments) == 0
    before = parts(tmp_path / "out")
    assert in_this_process(*arguments) == 0
    assert parts(tmp_path / "out") == before


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"--model": "models/sentiment", "--column": "tokens=id"}, "model model.onnx was"),
        ({"--method": "gradient"}, "method name was lrp, is gradient"),
        ({"--param": "epsilon=0.5"}, "method epsilon was none, is 0.5"),
        ({"--target": "0"}, "target index was none, is 0"),
        ({"--key": "id"}, "key was none, is id"),
    ],
    ids=str,
)
def test_another_job_does_not_resume_this_one(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], changed: dict[str, str], text: str
) -> None:
    write(tmp_path / "in.parquet", weather(20))
    flags = {"--model": MODEL, "--input": tmp_path / "in.parquet", "--output": tmp_path / "out"}
    assert in_this_process(*(word for pair in flags.items() for word in pair)) == 0
    before = parts(tmp_path / "out")
    assert in_this_process(*(word for pair in {**flags, **changed}.items() for word in pair)) == 2
    message = capsys.readouterr().err
    assert text in message
    assert "name another output" in message
    assert parts(tmp_path / "out") == before


def test_data_that_has_changed_is_another_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in.parquet", weather(20))
    arguments = ("--model", MODEL, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments) == 0
    write(tmp_path / "in.parquet", weather(30))
    assert in_this_process(*arguments) == 2
    assert "data: bytes was" in capsys.readouterr().err


def test_a_model_that_changes_meanwhile_is_noticed(tmp_path: Path) -> None:
    """Every worker notices it on loading."""
    from lstm_explain.batch.command import JobRequest, prepare
    from lstm_explain.batch.shard import Worker
    from lstm_explain.errors import ModelError

    model = tmp_path / "mine.onnx"
    model.write_bytes(MODEL.read_bytes())
    write(tmp_path / "in.parquet", weather(5))
    job, _ = prepare(JobRequest(model, tmp_path / "in.parquet", tmp_path / "out"))
    model.write_bytes(MODEL.read_bytes() + b"\x0a\x00")
    with pytest.raises(ModelError, match="has changed"):
        Worker(job)


def test_one_process_at_a_time(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import fcntl

    write(tmp_path / "in.parquet", weather(5))
    arguments = ("--model", MODEL, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments) == 0
    with (tmp_path / "out" / ".lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert in_this_process(*arguments) == 2
    assert "another process is working" in capsys.readouterr().err


def test_an_interrupted_shard_leaves_no_file(tmp_path: Path) -> None:
    """Its input ends early, or the disk is full."""
    x = np.zeros((40, 6, 5), "f4")
    np.save(tmp_path / "x.npy", x)
    os.truncate(tmp_path / "x.npy", (tmp_path / "x.npy").stat().st_size - 400)
    arguments = ("--model", MODEL, "--input", tmp_path / "x.npy", "--output", tmp_path / "out", "--shard-rows", 10)
    assert in_this_process(*arguments) == 2
    assert sorted(parts(tmp_path / "out")) == [f"part-{i:06d}.parquet" for i in range(3)]
    assert not list((tmp_path / "out").rglob(".unfinished*"))


def test_more_targets_are_another_job(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in.parquet", weather(5))
    arguments = ("--model", MODEL, "--input", tmp_path / "in.parquet", "--output", tmp_path / "out")
    assert in_this_process(*arguments, "--targets", "0") == 0
    assert in_this_process(*arguments, "--targets", "0; 0") == 2
    assert "another job (targets: 1 before, 2 now)" in capsys.readouterr().err
