# SPDX-License-Identifier: Apache-2.0
"""The demo explains sentences, by two networks, and a year of weather with a real server and real models.

It starts `lstm-explain serve` with the models in models/, calls it with the Python client, shows heatmaps and ledgers
in the terminal, writes demo.html, and stops the server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path

import numpy as np
from rich.console import Console

import lstm_explain_client
from lstm_explain_client import Client, Result, render
from lstm_explain_client.render import html

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "demo.html"
READY = "lstm-explain ready on "
SECONDS_TO_START = 120  # the first run compiles the kernels
SECONDS_TO_STOP = 30
LEGEND = (
    "Words marked + (red) raise the explained value, words marked − (blue) lower it; more marks mean more relevance. "
    "The table below each heatmap is the ledger: it accounts for the whole explained value."
)


@dataclass(frozen=True)
class Sentence:
    """A sentence to explain. positive: what a reader would say. shows: what the sentence demonstrates."""

    text: str
    positive: bool
    shows: str


SENTENCES = [
    Sentence("A warm, funny and moving film.", True, "praise"),
    Sentence("The jokes are not funny and the story is a mess.", False, "a negation"),
    Sentence("The acting is superb, but the plot is thin and dull.", False, "a contrast"),
    Sentence("Hardly a masterpiece, yet I enjoyed every minute.", True, "a contrast that turns to praise"),
    Sentence("There is nothing wrong with this lovely little comedy.", True, "a negation of blame"),
    Sentence("This film is not good.", False, "a negation of praise"),
]
# Two networks with the same words and classes; the terminal shows the first, and what the second makes of it.
LSTM, MAMBA = "sentiment", "sentiment-mamba"
STRONGEST = 3  # words that the terminal names
LAST_DAY = date(2023, 4, 10)
DAYS = 365


def main() -> None:
    os.environ.setdefault("FORCE_COLOR", "1")  # in colour through a pipe too; NO_COLOR still turns it off
    console = Console()
    started = time.monotonic()
    with server() as address, Client(address) as client:
        console.print(f"The server is ready on {address} after {time.monotonic() - started:.1f} s.\n", highlight=False)
        sections = [*sentences(client, console), *weather(client, console)]
    PAGE.write_text(render.page(sections, "What the model looked at"), encoding="utf-8")
    took = time.monotonic() - started
    console.print(f"\nWrote {PAGE.name}. The server has stopped. The demo took {took:.1f} s.", highlight=False)


@contextmanager
def server() -> Iterator[str]:
    """Run a server on a free port and yield its address. Stop it by SIGTERM and check its exit code."""
    command = [sys.executable, "-m", "lstm_explain.cli", "serve", "--models", str(ROOT / "models")]
    arguments = [*command, "--listen", "127.0.0.1:0", "--log-level", "warning"]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
    too_long = threading.Timer(SECONDS_TO_START, process.kill)
    too_long.start()
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        too_long.cancel()
        if not line.startswith(READY):
            sys.exit("the server did not start; its output is above")
        yield line.removeprefix(READY).strip()
        process.send_signal(signal.SIGTERM)
        if code := process.wait(timeout=SECONDS_TO_STOP):
            sys.exit(f"the server ended with {code}")
    finally:
        too_long.cancel()
        process.kill()
        process.wait()


def sentences(client: Client, console: Console) -> Iterator[tuple[str, str]]:
    """Show every sentence, and yield a heading and the pictures of both networks for the page."""
    console.rule("Sentences: which words speak for the class that the model chose")
    console.print(LEGEND, highlight=False)
    result, other = (client.explain(name, {"tokens": [s.text for s in SENTENCES]}) for name in (LSTM, MAMBA))
    for number, sentence in enumerate(SENTENCES):
        verdict = f"{sentence.shows}; the model says {said(result, number, sentence)}"
        console.print(f"\n[bold]{sentence.text}[/bold]  ({verdict})", highlight=False)
        result.print(number)
        line = f"A Mamba says {said(other, number, sentence)}; its strongest words: {strongest(other, number)}"
        console.print(line, highlight=False)
        pictures = [
            f"<div><b>The {network} says {said(answer, number, sentence)}</b>{answer.sample_html(number)}</div>"
            for network, answer in (("LSTM", result), ("Mamba", other))
        ]
        yield f"{sentence.text} ({sentence.shows})", html.beside(*pictures)


def said(result: Result, number: int, sentence: Sentence) -> str:
    """The class that the model chose, and whether a reader would disagree."""
    logits, classes = result.outputs["logits"][number], result.detail.class_names["logits"] if result.detail else ()
    chosen, neutral = int(logits.argmax()), len(logits) // 2
    right = chosen != neutral and (chosen > neutral) == sentence.positive
    return classes[chosen] + ("" if right else ", and is wrong")


def strongest(result: Result, number: int) -> str:
    relevance, words = result.relevance["tokens"][number], result.tokens["tokens"][number]
    order = np.argsort(-np.abs(relevance[: len(words)]))[:STRONGEST]
    return ", ".join(f"{words[i]} {relevance[i]:+.2f}".replace("-", "−") for i in order)


def weather(client: Client, console: Console) -> Iterator[tuple[str, str]]:
    """Show the year, and yield a heading and a picture for the page."""
    console.rule("A made-up year of weather: which days explain the discharge of the river")
    steps = [(LAST_DAY - timedelta(days=DAYS - 1 - day)).isoformat() for day in range(DAYS)]
    result = client.explain("discharge", {"weather": synthetic_year()[np.newaxis]})
    discharge = float(next(iter(result.outputs.values())).ravel()[0])
    heading = f"Discharge on {LAST_DAY.isoformat()}: {discharge:.1f} mm per day"
    console.print(f"\n[bold]{heading}[/bold]", highlight=False)
    result.print()
    recent = recent_share(result)
    console.print(f"The last 30 days hold {recent:.0%} of the absolute relevance.", highlight=False)
    yield heading, result.sample_html(0, steps=steps)


def recent_share(result: Result) -> float:
    relevance = np.abs(result.relevance["weather"][0]).sum(axis=1)
    return float(relevance[-30:].sum() / relevance.sum())


def synthetic_year() -> np.ndarray:
    """[365, 5] float32: rain mm/day, radiation W/m2, highest and lowest temperature C, vapour pressure Pa.

    A seasonal cycle with showers, a dry autumn, and heavy rain a week before the end.
    """
    rng = np.random.default_rng(7)
    day_of_year = np.array([(LAST_DAY - timedelta(days=DAYS - 1 - day)).timetuple().tm_yday for day in range(DAYS)])
    season = -np.cos(2 * np.pi * (day_of_year - 15) / 365.25)  # -1 in mid-January, 1 in mid-July
    rain = np.where(rng.random(DAYS) < 0.3, rng.gamma(0.8, 9.0, DAYS), 0.0)
    rain[(day_of_year > 260) & (day_of_year < 300)] *= 0.1
    rain[-9:-6] = 18.0, 42.0, 11.0
    wet = rain > 0
    radiation = np.clip(310 + 140 * season - 90 * wet + rng.normal(0, 35, DAYS), 40, None)
    mean = 9.5 + 13 * season + rng.normal(0, 3, DAYS)
    spread = np.where(wet, 4.0, 6.5)
    vapour = 610.8 * np.exp(17.27 * (mean - spread) / (mean - spread + 237.3))  # saturated at the lowest temperature
    return np.stack([rain, radiation, mean + spread, mean - spread, vapour], axis=1).astype(np.float32)


if __name__ == "__main__":
    try:
        main()
    except lstm_explain_client.ExplainError as error:
        sys.exit(f"demo: {error}")
