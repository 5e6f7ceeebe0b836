# SPDX-License-Identifier: Apache-2.0
"""The page's port as part of the server: settings, workers, shutdown."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pydantic import ValidationError

from lstm_explain.serving.command_line import complete
from lstm_explain.serving.settings import WEB_ADDRESS, Settings
from tests.serving.calling import request
from tests.serving.running import command, serving
from tests.serving.web import EXPLAIN, ask, explanation


def test_the_flag_alone_means_the_default_address() -> None:
    assert complete(["--web"]) == [f"--web={WEB_ADDRESS}"]
    assert complete(["--web", "--models", "m"]) == [f"--web={WEB_ADDRESS}", "--models", "m"]
    assert complete(["--web", "[::1]:1", "--web-hosts", "a"]) == ["--web", "[::1]:1", "--web-hosts", "a"]


def test_other_machines_reach_the_page_only_if_allowed(web_models: Path) -> None:
    ended = subprocess.run(
        command("serve", "--models", str(web_models), "--web", "0.0.0.0:0"), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "--web 0.0.0.0:0 can be reached from other machines" in ended.stderr


@pytest.mark.parametrize("name", ["https://one.example", "one.example:8080", "*.example", "a b"])
def test_invalid_host_names_are_refused(web_models: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="is not a host name"):
        Settings(models=web_models, web_hosts=f"good.example,{name}")


def test_a_missing_extra_is_reported(web_models: Path, tmp_path: Path) -> None:
    (tmp_path / "uvicorn.py").write_text("raise ImportError('there is no uvicorn')")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path)}
    flags = ("serve", "--models", str(web_models), "--listen", "127.0.0.1:0", "--web", "127.0.0.1:0")
    ended = subprocess.run(command(*flags), env=environment, capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "pip install 'lstm-explain[web]'" in ended.stderr


def test_a_port_in_use_is_reported(web_models: Path, page: str) -> None:
    address = urlsplit(page).netloc
    ended = subprocess.run(
        command("serve", "--models", str(web_models), "--listen", "127.0.0.1:0", "--web", address),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert f"cannot listen on {address}" in ended.stderr


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """A short path, since that of a socket may have 107 characters."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_loses_no_running_call(web_models: Path, short_folder: Path, workers: str) -> None:
    """It leaves no files behind, either."""
    stop, results = threading.Event(), []
    body = explanation(request())
    environment = {"TMPDIR": str(short_folder)}
    with serving(web_models, "--web", "127.0.0.1:0", "--workers", workers, **environment) as server:
        page = server.page()
        folders = [path for path in short_folder.iterdir() if path.is_dir()]
        assert {path.stat().st_mode & 0o777 for path in folders} == {0o700}  # nobody else reaches the services there

        def caller() -> None:
            while not stop.is_set():
                try:
                    results.append(ask(page, EXPLAIN, body).status)
                except ConnectionRefusedError:
                    stop.wait(0.01)  # nobody listens any more
                except OSError as error:
                    results.append(repr(error))

        threads = [threading.Thread(target=caller) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(1.5)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(30) == 0
        stop.set()
        for thread in threads:
            thread.join()
    assert results.count(200) > 50
    # 499 and 503: came as the services had just closed. A connection that was never taken ends in a reset.
    assert {r for r in results if isinstance(r, int)} <= {200, 499, 503}
    assert not [r for r in results if isinstance(r, str) and "Reset" not in r and "RemoteDisconnected" not in r]
    assert os.listdir(short_folder) == []


def test_every_worker_serves_the_page(web_models: Path) -> None:
    """The kernel spreads connections; the chance that one of two processes gets all sixteen is 1 in 32,768."""
    with serving(
        web_models, "--web", "127.0.0.1:0", "--workers", "2", "--log-format", "json", "--log-level", "debug"
    ) as server:
        page = server.page()
        for i in range(16):
            assert ask(page, EXPLAIN, explanation(request()), {"x-request-id": f"call-{i}"}).status == 200
        lines = [json.loads(line) for line in server.logged().splitlines()]
    reported = {line["request_id"] for line in lines if line.get("rpc") == "Explain"}  # rehearsals too
    assert reported >= {f"call-{i}" for i in range(16)}
