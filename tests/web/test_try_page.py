# SPDX-License-Identifier: Apache-2.0
"""The page without a server explains as the page with one does, and sends nothing."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from selenium import webdriver
from selenium.webdriver.support.select import Select
from tokenizers import Tokenizer

import lstm_explain_client
from tests.serving.running import Running
from tests.web.page import Page
from tests.web.tables import csv, words_of, year
from tests.web.test_accessibility import violations
from tests.web.test_page import SENTENCE

ROOT = Path(__file__).resolve().parents[2]
MOST_BYTES = 5e6
# What the normalizer changes in length, decomposes or replaces, and words that the model does not know.
TEXTS = (
    "Not a bad film—but Amélie isn’t “far” too-long…",
    "Mr. Zzyzx can't, CANNOT: it's 'em vs. U.S.A... 3.5 -lrb- 90's -rrb- ``quoted''",
    "İstanbul ﬁne Straße naïve co\u0301te\u0301 \U0001f600 你好\tand\nlines",
)


@dataclass
class Files:
    """A server of static files. asked: the requests so far, and the bytes of their bodies."""

    address: str
    asked: list[tuple[str, str, int]]
    stop: threading.Event


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("npm") is None:
        pytest.skip("npm is not installed")
    out = tmp_path_factory.mktemp("try") / "page"
    line = [sys.executable, "scripts/try_page", "--out", str(out)]
    done = subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=600)
    if "npm" in done.stderr and done.returncode:
        pytest.skip(f"npm cannot install the packages: {done.stderr[-300:]}")
    assert done.returncode == 0, done.stderr
    return out


@pytest.fixture
def files(folder: Path) -> Iterator[Files]:
    asked: list[tuple[str, str, int]] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            asked.append((self.command, self.path, int(self.headers.get("content-length", 0))))

    handler = functools.partial(Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield Files(f"http://127.0.0.1:{server.server_port}/index.html", asked, threading.Event())
        server.shutdown()
        thread.join()


@pytest.fixture
def page(driver: webdriver.Chrome, files: Files) -> Iterator[Page]:
    page = Page(driver, files.address)
    page.look(1280, "light")
    page.open()
    yield page
    assert page.complaints() == []


def colours(page: Page) -> list[str]:
    return [word.value_of_css_property("background-color") for word in page.all(".word b")]


def relevance(page: Page) -> list[float]:
    return [float(value.replace("−", "-")) for _, value in words_of(page, "lrp")]


def test_it_is_small(folder: Path) -> None:
    own = sum(path.stat().st_size for path in folder.iterdir() if path.suffix != ".wasm")
    assert own < MOST_BYTES


@pytest.mark.parametrize("index", ["", "very positive"])
def test_a_sentence_has_the_words_and_colours_of_the_servers_page(
    page: Page, driver: webdriver.Chrome, served: Running, index: str
) -> None:
    shown = []
    for place in (page, Page(driver, served.page())):
        place.open()
        place.choose("sentiment", "tokens")
        place.one("#input-tokens").send_keys(SENTENCE)
        if index:
            Select(place.one("#index")).select_by_visible_text(index)
        place.explain()
        heading = place.text("#answer h2")
        shown.append((words_of(place, "lrp"), colours(place), heading))
    assert shown[0] == shown[1]


def test_numbers_equal_the_servers(page: Page, served: Running) -> None:
    """Not those of the picture, which are rounded."""
    request = {"model": "sentiment", "inputs": [], "method": {"lrp": {}}, "target": {"output": "logits"}}
    code = """
    const [{ Server }, { decode, encodeTexts }] = [await load("rpc.js"), await load("tensor.js")];
    const server = new Server();
    const answer = await server.explain({ ...args[0], inputs: [encodeTexts("tokens", [args[1]])] });
    const numbers = (tensor) => Array.from(decode(tensor).values);
    const ledger = Object.values(answer.ledger).flatMap(numbers);
    return { relevance: numbers(answer.relevance[0]), logits: numbers(answer.outputs[0]), ledger };
    """
    found = page.script(code, request, SENTENCE)
    with lstm_explain_client.Client(served.address) as client:
        expected = client.explain("sentiment", {"tokens": [SENTENCE]})
    whole = expected.relevance["tokens"][0]
    np.testing.assert_allclose(found["relevance"], whole, atol=1e-4 * np.abs(whole).max())
    np.testing.assert_allclose(found["logits"], expected.outputs["logits"][0], atol=1e-4)
    ledger = [getattr(expected.ledger, name)[0] for name in ("inputs", "initial_states", "absorbed", "residual")]
    np.testing.assert_allclose(found["ledger"], ledger, atol=1e-4)


def test_a_table_and_two_methods(page: Page, served: Running) -> None:
    rows = year(80)
    page.choose("discharge", "weather")
    page.paste("weather", csv(rows))
    page.tick("gradientTimesInput")
    page.explain()
    assert [element.text for element in page.all(".beside thead th")][1:] == ["LRP", "Gradient × input"]
    with lstm_explain_client.Client(served.address) as client:
        expected = client.explain("discharge", {"weather": np.array(rows, np.float32)[np.newaxis]})
    assert f"{float(expected.explained[0]):.3g}"[:3] in page.text("#answer h2")


def test_nothing_leaves_the_browser_and_no_network_is_needed(page: Page, files: Files) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    page.explain()
    assert all(command == "GET" and body == 0 for command, _, body in files.asked)
    assert all("?" not in path for _, path, _ in files.asked)
    before = len(files.asked)
    page.driver.execute_cdp_cmd("Network.enable", {})
    offline = {"offline": True, "latency": 0, "downloadThroughput": 0, "uploadThroughput": 0}
    page.driver.execute_cdp_cmd("Network.emulateNetworkConditions", offline)
    try:
        page.one("#input-tokens").send_keys(" Twice.")
        page.tick("gradientTimesInput")
        page.explain()
        assert words_of(page, "lrp")[-2][0] == "Twice"
    finally:
        page.driver.execute_cdp_cmd(
            "Network.emulateNetworkConditions",
            {**offline, "offline": False, "downloadThroughput": -1, "uploadThroughput": -1},
        )
    assert len(files.asked) == before


def test_what_cannot_be_explained_is_said_at_the_field(page: Page) -> None:
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys("   ")
    page.one("#explain").click()
    assert page.problems() == ["Type a sentence first."]
    page.one("#input-tokens").clear()
    page.one("#input-tokens").send_keys("\u0301")
    page.one("#explain").click()
    page.until(page.problems)
    assert page.problems() == ["Text 0 has no tokens for 'tokens'."]


def tokenised(page: Page, texts: list[str]) -> list[dict[str, list]]:
    code = """
    const { TextInput } = await load("texts.js");
    const input = new TextInput(await (await fetch("sentiment-tokenizer.json")).json());
    return JSON.stringify(args[0].map((text) => input.encode(text)));
    """
    found: list[dict[str, list]] = json.loads(page.script(code, texts))
    return found


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(str(ROOT / "models" / "sentiment" / "tokenizer.json"))


def test_unusual_texts_are_tokenised_as_by_the_server(page: Page, tokenizer: Tokenizer) -> None:
    for text, found in zip(TEXTS, tokenised(page, [*TEXTS]), strict=True):
        assert found["ids"] == tokenizer.encode(text).ids, text
        assert len(found["words"]) == len(found["ids"])


def test_the_test_set_is_tokenised_as_by_the_server(page: Page, tokenizer: Tokenizer) -> None:
    file = ROOT.parent / "shared" / "data" / "sst" / "fine.test.txt"
    if not file.exists():
        pytest.skip("the Stanford Sentiment Treebank is not here")
    texts = [line.partition(" ")[2] for line in file.read_text().splitlines()]
    for text, found in zip(texts, tokenised(page, texts), strict=True):
        expected = tokenizer.encode(text)
        assert found["ids"] == expected.ids, text
        # Of what the normalizer replaces, such as `` by ", the server's library knows the place of one character.
        known = [text[start:end] for start, end in expected.offsets]
        others = {word for word, server in zip(found["words"], known, strict=True) if word != server}
        assert others <= {"``", "''", "-lrb-", "-rrb-", "\\/"}, text


def test_repeated_sentences_have_the_same_answer(page: Page) -> None:
    """With -s, it prints how long they take."""
    code = """
    const [{ Server }, { encodeTexts }] = [await load("rpc.js"), await load("tensor.js")];
    const [server, answers, took] = [new Server(), new Set(), []];
    const request = { model: "sentiment", method: { [args[1]]: {} }, target: { output: "logits" } };
    for (let run = 0; run < 30; run++) {
      const began = performance.now();
      answers.add((await server.explain({ ...request, inputs: [encodeTexts("tokens", [args[0]])] })).relevance[0].data);
      took.push(performance.now() - began);
    }
    return { answers: answers.size, took: took.sort((a, b) => a - b) };
    """
    for text, method in ((SENTENCE, "lrp"), (SENTENCE, "gradientTimesInput"), (" ".join([SENTENCE] * 12), "lrp")):
        found = page.script(code, text, method)
        assert found["answers"] == 1
        print(f"{method}, {len(text)} characters: median {found['took'][15]:.1f} ms of 30, in Chromium")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_no_problem(page: Page, scheme: str) -> None:
    page.look(1280, scheme, still=True)
    page.choose("sentiment", "tokens")
    page.one("#input-tokens").send_keys(SENTENCE)
    page.explain()
    assert violations(page) == []
