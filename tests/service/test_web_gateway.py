"""The page's JSON calls, over real HTTP: the same answers and the same rules as over gRPC, and nobody else's page."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import grpc
import pytest
from google.protobuf import json_format
from pydantic import ValidationError

from lstm_explain.service.settings import WEB_ADDRESS, Settings, complete
from lstm_explain.service.web.connect import HTTP_STATUS
from lstm_explain.service.web.gateway import CALLS, MOST_ELEMENTS
from lstm_explain_proto.lstm_explain.v1 import explanation_pb2 as pb
from lstm_explain_proto.lstm_explain.v1 import method_pb2, model_pb2, model_pb2_grpc
from tests.service.calling import refusal, request, sequence, stub, tensor, texts
from tests.service.certificates import Authority, Files
from tests.service.models import fill, lstm, write_version
from tests.service.running import Running, command, serving
from tests.service.web import EXPLAIN, GET, JSON, LIST, Answer, ask, explanation

ROOT = Path(__file__).resolve().parents[2]
READER, MANAGER = "reader-0123456789ab", "manager-0123456789a"
MOST = 400_000


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    fill(folder)
    write_version(folder, "heavy", lstm(hidden=128))
    return folder


@pytest.fixture(scope="module")
def open_(folder: Path) -> Iterator[Running]:
    metrics = ("--metrics-listen", "127.0.0.1:0")
    with serving(
        folder, "--web", "127.0.0.1:0", "--max-message-bytes", str(MOST), "--parallel", "1", *metrics
    ) as server:
        yield server


@pytest.fixture(scope="module")
def page(open_: Running) -> str:
    return open_.page()


@pytest.fixture(scope="module")
def guarded(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    tokens = tmp_path_factory.mktemp("tokens") / "tokens"
    tokens.write_text(f"{READER} explain\n{MANAGER} manage\n")
    with serving(folder, "--web", "127.0.0.1:0", "--tokens", str(tokens)) as server:
        yield server


def refused(answer: Answer) -> str:
    """The code of an error."""
    assert answer.headers["content-type"] == "application/json"
    return str(answer.json()["code"])


# The same as over gRPC


@pytest.mark.parametrize(
    "message",
    [
        request(),
        request(target=pb.Target(indices=[1], contrast_indices=[2]), capture=["logits"]),
        request(method=method_pb2.Method(occlusion=method_pb2.Occlusion(window=2))),
        request("words", inputs=[texts("tokens", "not a bad film, ça va")]),
    ],
)
def test_an_answer_is_the_one_that_grpc_gives(open_: Running, page: str, message: pb.ExplainRequest) -> None:
    answer = ask(page, EXPLAIN, explanation(message))
    assert answer.status == 200, answer.body
    with open_.channel() as channel:
        wanted = stub(channel).Explain(message, timeout=20)
    assert json_format.Parse(answer.body, pb.ExplainResponse()) == wanted
    raw = ask(page, EXPLAIN, message.SerializeToString(), {"content-type": "application/proto"})
    assert pb.ExplainResponse.FromString(raw.body) == wanted


def test_models_are_those_that_grpc_tells(open_: Running, page: str) -> None:
    with open_.channel() as channel:
        models = model_pb2_grpc.ModelServiceStub(channel)
        listed, described = models.ListModels(model_pb2.ListModelsRequest()), {}
        for model in listed.models:
            described[model.name] = models.GetModel(model_pb2.GetModelRequest(name=model.name, version=model.version))
    assert json_format.Parse(ask(page, LIST).body, model_pb2.ListModelsResponse()) == listed
    for name, wanted in described.items():
        body = json.dumps({"name": name}).encode()
        assert json_format.Parse(ask(page, GET, body).body, model_pb2.GetModelResponse()) == wanted


@pytest.mark.parametrize(
    "message",
    [
        request("nowhere"),
        request(inputs=[tensor("x", sequence(features=5))]),
        request(inputs=[tensor("y", sequence())]),
        request(target=pb.Target(output="none")),
        request(method=method_pb2.Method(lrp=method_pb2.Lrp(epsilon=-1))),
        request(
            "det", inputs=[tensor("x", sequence(1, 2, features=2))], method=method_pb2.Method(lrp=method_pb2.Lrp())
        ),
        pb.ExplainRequest(),
    ],
)
def test_an_error_is_the_one_that_grpc_gives(open_: Running, page: str, message: pb.ExplainRequest) -> None:
    answer = ask(page, EXPLAIN, explanation(message), {"x-request-id": "mine-7"})
    with open_.channel() as channel, pytest.raises(grpc.RpcError) as raised:
        stub(channel).Explain(message, timeout=20)
    wanted = refusal(raised.value)
    assert refused(answer) == wanted.code.name.lower()
    assert answer.status == HTTP_STATUS[wanted.code.name]
    assert answer.json()["message"] == wanted.message
    assert answer.field() == wanted.field
    assert answer.headers["x-request-id"] == "mine-7"


def test_a_connect_client_of_others_calls_it_unchanged(open_: Running, page: str) -> None:
    """buf curl speaks Connect; it gets its schema from proto/."""

    def curl(service: str, data: str, *flags: str) -> subprocess.CompletedProcess[str]:
        arguments = ["curl", "--schema", "proto", "--protocol", "connect", "--http2-prior-knowledge=false", *flags]
        target = f"{page}lstm_explain.v1.{service}"
        program = Path(sys.executable).with_name("buf")
        return subprocess.run(
            [program, *arguments, "--data", data, target], cwd=ROOT, capture_output=True, text=True, timeout=60
        )

    listed = curl("ModelService/ListModels", "{}")
    assert "lstm" in {model["name"] for model in json.loads(listed.stdout)["models"]}, listed.stderr
    body = explanation(request()).decode()
    told = json.loads(curl("ExplanationService/Explain", body).stdout)
    assert json_format.ParseDict(told, pb.ExplainResponse()).outputs[0].shape == [2, 3]
    missing = curl("ExplanationService/Explain", '{"model": "nowhere"}')
    assert missing.returncode != 0
    assert "not_found" in missing.stderr
    assert "there is no model 'nowhere'" in missing.stderr


def test_calls_are_counted_with_all_others(open_: Running, page: str) -> None:
    def count() -> float:
        text = (
            urllib.request.urlopen(f"http://127.0.0.1:{_metrics_port(open_, page)}/metrics", timeout=5).read().decode()
        )
        lines = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return float(lines.get('lstm_explain_calls_total{code="OK",rpc="Explain"}', 0))

    before = count()
    ask(page, EXPLAIN, explanation(request()))
    assert count() == before + 1


# What becomes no call


@pytest.mark.parametrize(
    ("body", "told"),
    [
        (b"", "not the JSON of lstm_explain.v1.ExplainRequest"),
        (b"{", "not the JSON of lstm_explain.v1.ExplainRequest"),
        (b"[]", "not the JSON of lstm_explain.v1.ExplainRequest"),
        (b"\xff\xfe", "not the JSON of lstm_explain.v1.ExplainRequest"),
        (b'{"model": 3}', "model"),
        (b'{"modle": "lstm"}', "modle"),
        (b'{"target": {"indices": ["1e99"]}}', "indices"),
        (b'{"inputs": ' + b"[" * 100_000, "recursion"),
        (b'{"target": {"indices": [' + b"0," * (MOST_ELEMENTS + 1) + b"0]}}", "elements"),
    ],
)
def test_what_is_not_the_json_of_a_request_is_refused(page: str, body: bytes, told: str) -> None:
    answer = ask(page, EXPLAIN, body)
    assert (answer.status, refused(answer)) == (400, "invalid_argument")
    assert told in answer.json()["message"]


@pytest.mark.parametrize("lie", [False, True])
def test_a_body_that_is_too_large_is_refused(page: str, lie: bool) -> None:
    body = explanation(request(inputs=[tensor("x", sequence(20, 1000))]))
    assert len(body) > MOST
    if not lie:
        answer = ask(page, EXPLAIN, body)
        assert (answer.status, refused(answer)) == (413, "resource_exhausted")
        return
    # In pieces, without saying how many there will be.
    where = urlsplit(page)
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    pieces = (b" " * 10_000 for _ in range(1000))
    try:
        connection.request("POST", EXPLAIN, pieces, {**JSON, "transfer-encoding": "chunked"}, encode_chunked=True)
        assert connection.getresponse().status == 413
    except (BrokenPipeError, ConnectionResetError):
        pass  # we were hung up on, before we had sent it all
    finally:
        connection.close()
    assert ask(page, LIST).status == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"content-type": "text/plain"},
        {"content-type": "application/x-www-form-urlencoded"},
        {"content-type": ""},
        {"content-encoding": "gzip"},
    ],
)
def test_other_codings_are_refused(page: str, headers: dict[str, str]) -> None:
    """Those that a form of another site can send among them."""
    assert ask(page, LIST, b"{}", headers).status == 415


def test_a_deadline_holds(page: str) -> None:
    answer = ask(page, EXPLAIN, explanation(long_one()), {"connect-timeout-ms": "50"})
    assert (answer.status, refused(answer)) == (504, "deadline_exceeded")
    assert ask(page, LIST, b"{}", {"connect-timeout-ms": "soon"}).status == 400


def test_only_calls_that_change_nothing_are_offered(page: str) -> None:
    for path in ("ModelService/ImportModel", "ModelService/DeleteModel", "ExplanationService/ExplainStream", "X/Y"):
        assert ask(page, f"/lstm_explain.v1.{path}").status in (404, 405)
    assert ask(page, EXPLAIN, None, method="GET").status in (404, 405)
    assert {call.method for call in CALLS} == {"ListModels", "GetModel", "Explain"}


def long_one() -> pb.ExplainRequest:
    method = method_pb2.Method(shapley_sampling=method_pb2.ShapleySampling(permutations=60))
    return request("heavy", inputs=[tensor("x", sequence(1, 600))], method=method)


def test_who_leaves_stops_the_work(open_: Running, page: str) -> None:
    """There is one slot: whoever comes next would wait for what nobody waits for."""
    where = urlsplit(page)
    ask(page, EXPLAIN, explanation(request("heavy")))  # compiled by now
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=20)
    connection.request("POST", EXPLAIN, explanation(long_one()), JSON)
    time.sleep(0.4)
    connection.close()
    start = time.monotonic()
    assert ask(page, EXPLAIN, explanation(request())).status == 200
    assert time.monotonic() - start < 3
    while "Explain CANCELLED" not in open_.logged():
        assert time.monotonic() - start < 10
        time.sleep(0.05)


# Whose page may ask


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "null"},
        {"origin": "http://127.0.0.1:1"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_pages_of_other_sites_are_refused(page: str, headers: dict[str, str]) -> None:
    answer = ask(page, LIST, b"{}", headers)
    assert (answer.status, refused(answer)) == (403, "permission_denied")
    assert "access-control-allow-origin" not in answer.headers
    preflight = ask(page, LIST, None, {**headers, "access-control-request-method": "POST"}, method="OPTIONS")
    assert preflight.status in (403, 405)
    assert "access-control-allow-origin" not in preflight.headers


def test_our_own_page_and_programs_get_in(page: str) -> None:
    own = page.rstrip("/")
    assert ask(page, LIST, b"{}", {"origin": own, "sec-fetch-site": "same-origin"}).status == 200
    assert ask(page, LIST).status == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "localhost.evil.example", "", "a b", "[::1", "@"]
)
def test_nobody_gets_in_by_a_name_that_is_not_ours(page: str, host: str) -> None:
    """A name of another site that points here: DNS rebinding. Not even the page is shown."""
    assert ask(page, LIST, b"{}", host=host).status in (400, 403)
    assert ask(page, "/", None, method="GET", host=host).status in (400, 403)


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:1", "127.0.0.1:9", "[::1]:80", "10.1.2.3"])
def test_addresses_cannot_be_rebound(page: str, host: str) -> None:
    assert ask(page, "/", None, method="GET", host=host).status == 200


def test_names_are_added_by_a_setting(folder: Path) -> None:
    with serving(folder, "--web", "127.0.0.1:0", "--web-hosts", "one.example, Two.example") as server:
        page = server.page()
        for host, status in (("one.example:80", 200), ("two.example", 200), ("three.example", 403)):
            assert ask(page, "/", None, method="GET", host=host).status == status
        answer = ask(page, LIST, b"{}", {"origin": "https://one.example"}, host="one.example")
        assert answer.status == 200


def test_browsers_are_told_to_be_strict(page: str) -> None:
    for path, method in (("/", "GET"), ("/app.js", "GET"), ("/none", "GET"), (LIST, "POST")):
        headers = ask(page, path, method=method).headers
        policy = dict(part.strip().split(" ", 1) for part in headers["content-security-policy"].split(";"))
        assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
        assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
    assert ask(page, LIST).headers["cache-control"] == "no-store"
    assert ask(page, "/", None, method="GET").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize(
    "path", ["/../connect.py", "/..%2fconnect.py", "/%2e%2e/connect.py", "//etc/passwd", "/./../site.py"]
)
def test_nothing_but_the_page_is_served(page: str, path: str) -> None:
    answer = ask(page, path, None, method="GET")
    assert answer.status == 404
    assert b"import" not in answer.body


# Tokens and certificates


def test_without_a_token_or_with_a_wrong_one_nobody_gets_in(guarded: Running) -> None:
    page = guarded.page()
    tries = [{}, *({"authorization": f"Bearer {token}"} for token in ("wrong", READER[:-1], READER + "x", "é" * 20))]
    for headers in [*tries, {"authorization": READER}, {"cookie": f"token={READER}"}]:
        for path in (LIST, GET, EXPLAIN):
            answer = ask(page, path, b"{}", headers)
            assert (answer.status, refused(answer)) == (401, "unauthenticated")


def test_a_token_gets_in_and_a_role_opens_its_calls(guarded: Running) -> None:
    page, body = guarded.page(), explanation(request())
    assert ask(page, EXPLAIN, body, {"authorization": f"Bearer {READER}"}).status == 200
    assert ask(page, LIST, b"{}", {"authorization": f"Bearer {MANAGER}"}).status == 200
    answer = ask(page, EXPLAIN, body, {"authorization": f"Bearer {MANAGER}"})
    assert (answer.status, refused(answer)) == (403, "permission_denied")
    assert answer.json()["details"][0]["debug"]["metadata"] == {"role": "explain"}
    assert READER not in guarded.logged()


def test_a_stranger_s_body_is_not_read(guarded: Running) -> None:
    """The answer is there though the body never comes."""
    where = urlsplit(guarded.page())
    connection = http.client.HTTPConnection(where.hostname or "", where.port, timeout=10)
    connection.putrequest("POST", EXPLAIN)
    for name, value in {**JSON, "content-length": "1000000"}.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == 401
    connection.close()


def test_certificates_are_those_of_grpc(folder: Path, tmp_path: Path) -> None:
    files, authority, clients = Files(tmp_path), Authority("servers"), Authority("clients")
    files.write(authority.sign("server"), clients)
    me, other = clients.sign("me"), Authority("clients").sign("me")
    with serving(folder, "--web", "127.0.0.1:0", *files.flags, *files.client_flags) as server:
        page = server.page()
        assert page.startswith("https://")

        def status(pair: object) -> int:
            return ask(page, LIST, context=_context(authority, pair, tmp_path)).status

        assert status(me) == 200
        for nobody in (None, other):
            with pytest.raises((ssl.SSLError, ConnectionError, http.client.RemoteDisconnected)):
                status(nobody)
        renewed = Authority("new servers")
        files.write(renewed.sign("server"), clients)
        with pytest.raises(ssl.SSLError):
            status(me)
        assert ask(page, LIST, context=_context(renewed, me, tmp_path)).status == 200
        files.write(authority.sign("server"))
        (tmp_path / "server.key").write_bytes(b"half a key")
        assert ask(page, LIST, context=_context(renewed, me, tmp_path)).status == 200  # the old ones stay


def _context(authority: Authority, pair: object, folder: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=authority.certificate.decode())
    if pair is not None:
        file = folder / "client.pem"
        file.write_bytes(pair.certificate + pair.key)  # type: ignore[attr-defined]
        context.load_cert_chain(file)
    return context


# The process


def test_the_flag_alone_stands_for_an_address() -> None:
    assert complete(["--web"]) == [f"--web={WEB_ADDRESS}"]
    assert complete(["--web", "--models", "m"]) == [f"--web={WEB_ADDRESS}", "--models", "m"]
    assert complete(["--web", "[::1]:1", "--web-hosts", "a"]) == ["--web", "[::1]:1", "--web-hosts", "a"]


def test_other_machines_reach_it_only_where_that_was_asked_for(folder: Path) -> None:
    ended = subprocess.run(
        command("serve", "--models", str(folder), "--web", "0.0.0.0:0"), capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 2
    assert "--web 0.0.0.0:0 can be reached from other machines" in ended.stderr


@pytest.mark.parametrize("name", ["https://one.example", "one.example:8080", "*.example", "a b"])
def test_names_are_names(folder: Path, name: str) -> None:
    with pytest.raises(ValidationError, match="is no name"):
        Settings(models=folder, web_hosts=f"good.example,{name}")


def test_what_is_missing_is_told(folder: Path) -> None:
    without = "import sys; sys.modules['uvicorn'] = None; from lstm_explain.cli import main; main(sys.argv[1:])"
    flags = ("serve", "--models", str(folder), "--listen", "127.0.0.1:0", "--web")
    ended = subprocess.run([sys.executable, "-c", without, *flags], capture_output=True, text=True, timeout=60)
    assert ended.returncode == 1
    assert "pip install 'lstm-explain[web]'" in ended.stderr


def test_a_port_that_is_taken_is_told(folder: Path, page: str) -> None:
    address = urlsplit(page).netloc
    ended = subprocess.run(
        command("serve", "--models", str(folder), "--listen", "127.0.0.1:0", "--web", address),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.returncode == 1
    assert f"cannot listen on {address}" in ended.stderr


@pytest.mark.parametrize("workers", ["1", "2"])
def test_sigterm_loses_nothing_that_was_begun(folder: Path, tmp_path: Path, workers: str) -> None:
    """And leaves nothing behind."""
    (tmp_path / "tmp").mkdir()
    stop, results = threading.Event(), []
    body = explanation(request())
    environment = {"TMPDIR": str(tmp_path / "tmp")}
    with serving(folder, "--web", "127.0.0.1:0", "--workers", workers, **environment) as server:
        page = server.page()
        folders = [path for path in (tmp_path / "tmp").iterdir() if path.is_dir()]
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
    assert os.listdir(tmp_path / "tmp") == []


def test_every_worker_serves_the_page(folder: Path) -> None:
    """The kernel spreads connections; sixteen of them to one of two processes would be one chance in 32,768."""
    with serving(
        folder, "--web", "127.0.0.1:0", "--workers", "2", "--log-format", "json", "--log-level", "debug"
    ) as server:
        page = server.page()
        for i in range(16):
            assert ask(page, EXPLAIN, explanation(request()), {"x-request-id": f"call-{i}"}).status == 200
        lines = [json.loads(line) for line in server.logged().splitlines()]
    assert {line["request_id"] for line in lines if line.get("rpc") == "Explain"} == {f"call-{i}" for i in range(16)}


def _metrics_port(server: Running, page: str) -> int:
    """The third port that the process listens on."""
    known = {int(server.address.rsplit(":", 1)[1]), urlsplit(page).port}
    inodes = {os.readlink(fd) for fd in Path(f"/proc/{server.process.pid}/fd").iterdir() if fd.is_symlink()}
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    ports = {int(r[1].split(":")[1], 16) for r in rows if r[3] == "0A" and f"socket:[{r[9]}]" in inodes}
    (port,) = ports - known
    return port
