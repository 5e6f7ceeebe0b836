# SPDX-License-Identifier: Apache-2.0
"""Compare stabilisers for LRP-all and write docs/stabilisers.md.

    python -m scripts.stabilisers [--only SECTION]

The script reads data and cases from the folder next to the repository. Sections whose inputs are missing say so.
"""

from __future__ import annotations

import os

for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

import argparse  # noqa: E402
import time  # noqa: E402
from collections.abc import Callable, Iterator  # noqa: E402

import numpy as np  # noqa: E402

from scripts.stabilisers.measures import Figures, Inputs  # noqa: E402
from scripts.stabilisers.rules import Array, Rule, absolute, bounded, clipped, gap, relative, same  # noqa: E402
from scripts.stabilisers.sources import HERE, ROOT, SERIES, ids_of, labels, sentences, sentiment, texts  # noqa: E402
from scripts.stabilisers.toy import toys  # noqa: E402

DEFAULT = bounded(0.1)
PAPER = same("ε = 0.001 (the papers')", absolute(1e-3))
RULES = [
    PAPER,
    same("ε = 0.01", absolute(0.01)),
    same("ε = 0.1", absolute(0.1)),
    Rule("β = 0.05, cell 0.01", relative(0.05), relative(0.01), relative(0.05)),
    Rule("clipped 0.15, cell β = 0.02", clipped(0.15), relative(0.02), clipped(0.15)),
    Rule("gap 0.1, cell 0.02", gap(0.1), gap(0.02), gap(0.1)),
    Rule("no stabiliser, ceiling 1", gap(0), gap(0), gap(0.02), 1.0),
    bounded(0.03),
    bounded(0.05),
    bounded(0.07),
    bounded(0.1, None),
    bounded(0.1, 3.0),
    DEFAULT,
    bounded(0.15),
]
LENGTHS = [(1, 120, 100), (4, 80, 0), (12, 40, 0)]  # joined sentences, number of texts, permutations for Shapley values
BORDER = (0, 0.01, 0.02, 0.03, 0.05, 0.07, 0.1, 0.15, 0.2, 0.3)
ABSENT = "Skipped because the data is missing.\n"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [f"| {' | '.join(head)} |", f"|---|{'---:|' * (len(head) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"


def size(values: list[float]) -> str:
    return f"{np.median(values):.2g} / {max(values):.2g}"


def toy_section(progress: Callable[[str], None]) -> str:
    rows = []
    by_task = {task: list(toys(task)) for task in ("addition", "subtraction")}
    for rule in RULES:
        figures = [np.mean([toy.figures(rule) for toy in some], axis=0) for some in by_task.values()]
        rows.append([rule.name, *(f"{v:.1f}" for v in np.concatenate(figures))])
        progress(f"toy: {rule.name}")
    return table(["rule", "+: ρ a", "+: ρ b", "+: share", "−: ρ a", "−: ρ b", "−: share"], rows)


def judged(source: Callable[[], Iterator[Inputs]]) -> tuple[dict[str, Figures], list[float], int]:
    """Return the figures by rule, the falls of Occlusion's own order, and the mean number of time steps."""
    found, own, steps = {rule.name: Figures() for rule in RULES}, list[float](), list[int]()
    for inputs in source():
        own += inputs.own_fall
        steps += [inputs.raw.shape[1]] * len(inputs.raw)
        for rule in RULES:
            inputs.judge(rule, found[rule.name])
    return found, own, round(float(np.mean(steps))) if steps else 0


def text_section(progress: Callable[[str], None]) -> str:
    parts = []
    for joined, count, orders in LENGTHS:
        found, own, steps = judged(lambda j=joined, c=count, o=orders: texts(j, c, o))
        progress(f"texts of {joined} sentences")
        if not own:
            return ABSENT
        head = ["rule", "size: median / maximum", "above 10 times", "fall", "rank corr. with Occlusion"]
        rows = []
        for name, f in found.items():
            row = [name, size(f.size), f"{f.too_large():.0f} %", f"{np.mean(f.fall) / np.mean(own):.3f}"]
            row.append(f"{np.mean(f.agreement):.3f}")
            row += [f"{np.mean(f.shapley):.3f}"] if f.shapley else []
            rows.append([*row, f"{np.median(f.absorbed):.2f}"])
        head += ["with Shapley values"] if orders else []
        parts.append(f"### {steps} tokens, {len(own)} texts\n\n{table([*head, 'absorbed'], rows)}")
    return "\n".join(parts)


def series_section(progress: Callable[[str], None]) -> str:
    parts = []
    for name, source in SERIES.items():
        found, own, _ = judged(source)
        progress(name)
        if not own:
            parts.append(f"### {name}\n\n{ABSENT}")
            continue
        rows = []
        for rule, f in found.items():
            hits = [f"{np.mean(f.hits):.2f}"] if f.hits else []
            fall = f"{np.mean(f.fall) / np.mean(own):.3f}"
            rows.append([rule, size(f.size), f"{f.too_large():.0f} %", *hits, fall, f"{np.median(f.absorbed):.2f}"])
        head = ["rule", "size: median / maximum", "above 10 times", *(["hits"] if found[PAPER.name].hits else [])]
        parts.append(f"### {name}; {len(own)} inputs\n\n{table([*head, 'fall', 'absorbed'], rows)}")
    return "\n".join(parts)


def border_section(progress: Callable[[str], None]) -> str:
    """Compute the exponent: the growth of the density per backward step, over the older four fifths of the steps."""
    named: dict[str, list[Inputs]] = {
        "`sentiment`, 12 sentences": list(texts(12, 8, 0)),
        "motif pair": list(SERIES["motif pair, LSTM, T = 400"]()),
        "river": list(SERIES["river, LSTM, T = 365"]()),
    }
    progress("border")
    if not all(named.values()):
        return ABSENT
    rows = [[f"{beta:g}", *(f"{_exponent(some, beta):+.4f}" for some in named.values())] for beta in BORDER]
    return table(["β of gap", *named], rows)


def _exponent(some: list[Inputs], beta: float) -> float:
    found = []
    for inputs in some:
        inputs.network.relevance(inputs.run, inputs.index, Rule("", gap(beta), gap(0), gap(0.02)))
        for growth in inputs.network.growth():
            log = np.log(np.maximum(growth, 1e-290))
            first = len(log) // 5
            found.append(float(((log[-1] - log[first]) / (len(log) - 1 - first)).mean()))
    return float(np.mean(found))


def sentence_section(progress: Callable[[str], None]) -> str:
    """Judge every test sentence, and compare deletion with Occlusion, paired, on those classified correctly."""
    network, found = sentiment(), {rule.name: ([], []) for rule in (PAPER, DEFAULT)}
    gains: dict[str, list[float]] = {"occlusion": [], **{name: [] for name in found}}
    for ids, label in zip(ids_of(sentences("test")), labels("test"), strict=True):
        right = len(ids) >= 10 and int(network.predict(ids[None]).argmax()) == label
        if right:
            inputs = Inputs(network, ids[None], 1, 0)
            gains["occlusion"] += inputs.own_fall
        run = inputs.run if right else network.run(ids[None])
        for rule in (PAPER, DEFAULT):
            relevance, explained = network.relevance(run, run.y.argmax(1), rule)
            sizes, absorbed = found[rule.name]
            steps = relevance.sum(2)[0]
            sizes.append(float(np.abs(steps).max() / abs(explained[0])))
            absorbed.append(float(abs(explained[0] - steps.sum()) / abs(explained[0])))
            if right:
                figures = Figures()
                inputs.judge(rule, figures)
                gains[rule.name] += figures.fall
    progress("every test sentence")
    if not gains["occlusion"]:
        return ABSENT
    rows = []
    for name, (sizes, absorbed) in found.items():
        over, whole = np.mean(np.array(sizes) > 10), np.mean(np.array(absorbed) > 1)
        rows.append([name, size(sizes), f"{100 * over:.1f} %", f"{100 * whole:.1f} %", _paired(gains, name)])
    head = ["rule", "size: median / maximum", "above 10 times", "absorbs more than 100 %", "fall − Occlusion's, paired"]
    own = np.mean(gains["occlusion"])
    right_ones = f"{len(gains['occlusion'])} of those with 10 words or more are classified correctly"
    return f"{len(sizes)} sentences; {right_ones}. Occlusion's own fall on these is {own:.3f}.\n\n{table(head, rows)}"


def _paired(gains: dict[str, list[float]], name: str) -> str:
    difference: Array = np.array(gains[name]) - np.array(gains["occlusion"])
    half = 1.96 * difference.std(ddof=1) / np.sqrt(len(difference))
    return f"{difference.mean():+.3f} ± {half:.3f}"


SECTIONS = {
    "toy": ("Toy arithmetic", toy_section),
    "texts": ("Texts", text_section),
    "sentences": ("Every test sentence", sentence_section),
    "series": ("Time series", series_section),
    "border": ("Where relevance begins to grow", border_section),
}


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--only", choices=list(SECTIONS), help="print this section and write nothing")
    only, began = options.parse_args().only, time.monotonic()

    def progress(what: str) -> None:
        print(f"{time.monotonic() - began:6.1f} s  {what}", flush=True)

    if only:
        print(SECTIONS[only][1](progress))
        return
    tables = "\n".join(f"## {title}\n\n{make(progress)}" for title, make in SECTIONS.values())
    head = (HERE / "derivation.md").read_text("utf-8")
    (ROOT / "docs" / "stabilisers.md").write_text(f"{head}\n{tables}", "utf-8")
    progress("wrote docs/stabilisers.md")


if __name__ == "__main__":
    main()
