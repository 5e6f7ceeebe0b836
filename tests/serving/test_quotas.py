# SPDX-License-Identifier: Apache-2.0
"""The counts of quotas that processes share, and the file that states them."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lstm_explain.errors import Error
from lstm_explain.serving.errors import seconds_in_words
from lstm_explain.serving.security import quotas as module
from lstm_explain.serving.security.callers import Caller, Quota
from lstm_explain.serving.security.quotas import Quotas
from lstm_explain.serving.security.token_file import parse

SECRET = "secret-0123456789abc"

COUNTING = """
import sys
from pathlib import Path
from lstm_explain.serving.security.quotas import Quotas
quotas = Quotas(Path(sys.argv[1]))
sys.stdin.readline()
print(sum(quotas.add_request("a", 500) == 0 for _ in range(400)))
"""


def test_several_processes_together_admit_what_the_quota_says(tmp_path: Path) -> None:
    path = tmp_path / "quotas"
    command = [sys.executable, "-c", COUNTING, str(path)]
    processes = [subprocess.Popen(command, stdin=-1, stdout=-1, text=True) for _ in range(3)]
    began = time.monotonic()
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    admitted = sum(int(process.communicate(timeout=60)[0]) for process in processes)
    drained = (time.monotonic() - began) / 60 * 500
    assert 500 <= admitted <= 500 + drained


def test_a_bucket_drains_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    quotas = Quotas()
    assert [quotas.add_request("a", 6) for _ in range(6)] == [0.0] * 6
    assert quotas.add_request("a", 6) == pytest.approx(10.0)
    assert quotas.add_request("b", 6) == 0.0
    now += 9.9
    assert quotas.add_request("a", 6) == pytest.approx(0.1)
    now += 0.1
    assert quotas.add_request("a", 6) == 0.0
    now += 600
    assert [quotas.add_request("a", 6) == 0.0 for _ in range(8)] == [True] * 6 + [False] * 2


def test_a_request_that_costs_more_than_a_minute_runs_and_is_paid_for(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(module.time, "monotonic", lambda: now)
    quotas = Quotas()
    assert quotas.add_cost("a", 300, 100) == 0.0
    assert quotas.add_cost("a", 1, 100) == pytest.approx(120.0)
    now += 120.001
    assert quotas.add_cost("a", 1, 100) == 0.0


def test_streams_are_counted_over_processes_and_forgotten_with_them(tmp_path: Path) -> None:
    path = tmp_path / "quotas"
    mine = Quotas(path)
    opening = f"""
from pathlib import Path
from lstm_explain.serving.security.quotas import Quotas
quotas = Quotas(Path({str(path)!r}))
print(quotas.open_stream("a", 2), flush=True)
input()
"""
    with subprocess.Popen([sys.executable, "-c", opening], stdin=-1, stdout=-1, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "True\n"
        assert mine.open_stream("a", 2)
        assert not mine.open_stream("a", 2)
        mine.close_stream("a")
        assert mine.open_stream("a", 2)
        assert not mine.open_stream("a", 2)
        other.kill()
    assert mine.open_stream("a", 2)
    assert not mine.open_stream("a", 2)


def test_a_stopped_process_that_holds_the_lock_keeps_nobody_waiting(tmp_path: Path) -> None:
    path = tmp_path / "quotas"
    quotas = Quotas(path)
    with path.open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)
        began = time.monotonic()
        assert quotas.add_request("a", 1) == 0.0
        assert quotas.add_request("a", 1) > 0.0
        assert time.monotonic() - began < 2


def test_more_names_than_slots_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SLOTS", 8)
    quotas = Quotas()
    for number in range(50):
        assert quotas.add_request(str(number), 1) == 0.0
        assert quotas.add_request(str(number), 1) > 0.0


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(12.01, "13 seconds"), (0.0312, "0.032 seconds"), (120.0, "120 seconds"), (1.0, "1 seconds"), (0, "0 seconds")],
)
def test_times_to_wait_are_rounded_up(seconds: float, words: str) -> None:
    assert seconds_in_words(seconds) == words


def test_a_file_in_yaml_states_everything_about_a_caller() -> None:
    text = f"""\
# who may do what
tokens:
  - name: the dashboard
    token: {SECRET}
    roles: [explain]
    expires: "2027-03-31T12:00:00+02:00"
    models: [sentiment, "discharge-*"]
    quota: {{requests_per_minute: 600, cost_per_minute: 100000, streams: 4}}
  - {{name: plain, sha256: "{"0" * 64}", roles: [explain, manage]}}
"""
    first, second = parse(text)
    assert first.caller == Caller(
        "the dashboard",
        frozenset({"explain"}),
        1806487200.0,
        ("sentiment", "discharge-*"),
        Quota(600, 100000, 4),
    )
    assert second.caller == Caller("plain", frozenset({"explain", "manage"}))
    assert second.digest == bytes(32)
    assert [first.caller.may_use(model) for model in ("sentiment", "discharge-2", "discharge")] == [True, True, False]


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (f"{{name: a, token: {SECRET}}}", "line 2: roles: Field required"),
        (
            f"{{name: a, token: {SECRET}, roles: [root]}}",
            "line 2: roles.0: Input should be 'explain', 'manage' or 'batch'",
        ),
        (f"{{name: a, token: {SECRET}, roles: []}}", "line 2: roles: List should have at least 1 item"),
        ("{name: a, roles: [explain]}", "line 2: expected either `token` or `sha256`"),
        (f'{{name: "", token: {SECRET}, roles: [explain]}}', "line 2: name: String should have at least 1"),
        (f"{{name: a, token: {SECRET}, roles: [explain], expires: 2027-03-31}}", "line 2: this is not the YAML"),
        (f'{{name: a, token: {SECRET}, roles: [explain], expires: "tomorrow"}}', "line 2: expires: expected a time"),
        (f'{{name: a, token: {SECRET}, roles: [explain], expires: "2027-03-31"}}', "its offset"),
        (
            f"{{name: a, token: {SECRET}, roles: [explain], quota: {{request_per_minute: 3}}}}",
            "'request_per_minute'; did you mean 'requests_per_minute'? The keys of quota are requests_per_minute, c",
        ),
        (
            f"{{name: a, token: {SECRET}, role: [explain]}}",
            "line 2: unknown key 'role'; did you mean 'roles'? The keys are name, token, sha256, roles, expires",
        ),
        (f"{{name: a, token: {SECRET}, roles: [explain], colour: red}}", "line 2: unknown key 'colour'; the keys are"),
        (f"{{name: a, {SECRET}: token, roles: [explain]}}", "line 2: unknown key; the keys are name"),
        (f"{{name: a, token_{SECRET}: b, roles: [explain]}}", "line 2: unknown key; the keys are name"),
        (
            f"{{name: a, token: {SECRET}, roles: [explain], quota: {{streams: 0}}}}",
            "line 2: quota.streams: Input should be greater than or equal to 1",
        ),
        (f"{{name: a, token: {SECRET}, roles: [explain], models: []}}", "line 2: models: List should have at least"),
        (f'{{name: a, token: "{SECRET} b", roles: [explain]}}', "line 2: a token consists of printable"),
        (f'{{name: a, sha256: "{SECRET}", roles: [explain]}}', "line 2: a SHA-256 hash has 64"),
        (f"{{name: a, token: {SECRET}, roles: [explain]", "this is not the YAML"),
        ("{name: a, token: 12345678901234567890123, roles: [explain]}", "line 2: this is not the YAML"),
        (f"{SECRET}", "line 2: Input should be a valid dictionary"),
    ],
)
def test_an_error_in_the_file_names_the_line_and_no_secret(entry: str, problem: str) -> None:
    with pytest.raises(Error) as raised:
        parse(f"tokens:\n  - {entry}\n")
    assert problem in str(raised.value)
    assert "0123456789" not in str(raised.value)


@pytest.mark.parametrize("text", ["tokens:\n", "tokens: # none\n", "tokens:\n- a\nother: b\n", "tokens:\n  a: b\n"])
def test_a_file_in_yaml_holds_a_list_of_tokens(text: str) -> None:
    with pytest.raises(Error, match="--tokens"):
        parse(text)
