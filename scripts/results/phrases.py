# SPDX-License-Identifier: Apache-2.0
"""Negated words and sentences with "but": what relevance does, and what contextual decomposition says of the phrases
(Arras et al. 2017, arXiv 1706.07206; Murdoch et al. 2018, arXiv 1801.05453).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import treebank
from common import DEFAULT, held, table
from treebank import POLARITY, Sentence

import lstm_explain as lx

Array = npt.NDArray[Any]
NEGATORS = ("not", "n't", "no", "never", "nothing", "neither", "nor", "none", "hardly", "without")
NEAR = 3  # words between a negator and what it negates, plus one
LEAST, STRONG = (
    10,
    0.5,
)  # a word of polarity occurs this often in training, with labels this far from neutral on average
CONJUNCTION, SIDE = "but", 3  # words on each side of it at least
METHODS: dict[str, lx.Method] = {
    DEFAULT: lx.LRP(),
    "LRP-all, ε = 0.001": lx.LRP(epsilon=1e-3),
    "Gradient × Input": lx.GradientTimesInput(),
    "Occlusion": lx.Occlusion(),
    "Contextual Decomposition": lx.ContextualDecomposition(),
}
PHRASE = "Contextual Decomposition, phrase"


@dataclass(frozen=True)
class Negated:
    """A word of polarity after a negator, by their positions in a sentence. sign: 1 for a positive word, else -1."""

    sentence: Sentence
    negator: int
    word: int
    sign: int


def run(data_folder: Path, progress: Callable[[str], None]) -> str:
    """Return the section of docs/results.md, or a note if the data is missing."""
    folder = data_folder / "sst"
    title = "## Negation and contrast\n\n"
    if not folder.is_dir():
        return f"{title}Skipped because the Stanford Sentiment Treebank is missing.\n"
    model, test = treebank.load(), treebank.read(folder / "fine.test.txt")
    polarity = polar_words(treebank.read(folder / "fine.train.txt"))
    return title + _negation(model, test, polarity, progress) + _contrast(model, test, progress)


def polar_words(training: list[Sentence]) -> dict[str, int]:
    """1 for words of positive training sentences, -1 for those of negative ones; without the other words."""
    labels = defaultdict(list)
    for sentence in training:
        for word in set(sentence.words):
            labels[word].append(sentence.label - 2)
    means = {word: np.mean(found) for word, found in labels.items() if len(found) >= LEAST and word.isalpha()}
    return {word: int(np.sign(m)) for word, m in means.items() if abs(m) >= STRONG and word not in NEGATORS}


# --- negation --------------------------------------------------------------------------------------------------------


def negated_words(sentences: list[Sentence], polarity: Mapping[str, int]) -> list[Negated]:
    """The first word of polarity that closely follows a negator."""
    found = []
    for sentence in sentences:
        for negator in (i for i, word in enumerate(sentence.words) if word in NEGATORS):
            near = range(negator + 1, min(negator + 1 + NEAR, len(sentence.words)))
            word = next((i for i in near if sentence.words[i] in polarity), None)
            if word is not None:
                found.append(Negated(sentence, negator, word, polarity[sentence.words[word]]))
    return found


def _negation(
    model: lx.Model, test: list[Sentence], polarity: Mapping[str, int], progress: Callable[[str], None]
) -> str:
    cases = negated_words(test, polarity)
    negated = {id(case.sentence) for case in cases}
    plain = [s for s in test if id(s) not in negated and not set(NEGATORS) & set(s.words)]
    signs = np.array([case.sign for case in cases])
    full = [case.sentence.ids for case in cases]
    without = [[0 if i == case.negator else word for i, word in enumerate(case.sentence.ids)] for case in cases]
    rows, effect = [], np.zeros(0)
    for name, method in METHODS.items():
        progress(f"negation: {name}")
        with_it, values = treebank.explained(model, full, method, POLARITY)
        deleted, others = treebank.explained(model, without, method, POLARITY)
        unnegated, _ = treebank.explained(model, [s.ids for s in plain], method, POLARITY)
        of_words: dict[int, list[float]] = {1: [], -1: [], 0: []}
        for sentence, relevance in zip(plain, unnegated, strict=True):
            for text, r in zip(sentence.words, relevance, strict=True):
                of_words[polarity.get(text, 0)].append(float(r))
        word, alone, negator = (
            np.array([r[getattr(case, at)] for r, case in zip(found, cases, strict=True)])
            for found, at in ((with_it, "word"), (deleted, "word"), (with_it, "negator"))
        )
        effect = values - others  # the same for all methods
        rows.append([name, *_cells(signs, of_words, word, alone, negator)])
    progress(f"negation: {PHRASE}")
    phrases = np.array([_phrase(model, case.sentence, case.negator, case.word + 1) for case in cases])
    rows.append([PHRASE, *(cell for sign in (1, -1) for cell in ("", _same(phrases, signs, sign), "", "", ""))])
    falls, raises = (f"{100 * float((effect[signs == sign] * sign < 0).mean()):.0f}" for sign in (1, -1))
    head = ["method", *(f"{s}: {c}" for s in ("+", "−") for c in ("plain", "negated", "word", "alone", "negator"))]
    positive, negative, words = int((signs == 1).sum()), int((signs == -1).sum()), ", ".join(f"*{n}*" for n in NEGATORS)
    of_word, of_phrase = rows[-2][2], rows[-1][2]
    figures = f"{of_phrase} % and {of_word} %"
    claim = f"as one phrase, a negated positive word is positive less often than by itself ({figures})"
    return f"""\
What happens to the relevance of "good" in "not good"? Relevance explains the scores of positive and very positive minus
those of negative and very negative, so it should be positive for a positive word. A word counts as positive or negative
if the training sentences that contain it ({LEAST} at least) have a mean label of {STRONG} classes or more from neutral.
In the {len(test)} test sentences, {positive} positive words (+) and {negative} negative words (−) follow a negator
within {NEAR} words. Negators are {words}.

Compared with token 0 in its place, the negator lowers the explained value in {falls} % of the cases with a positive
word, and raises it in {raises} % of those with a negative word. The model has learned "not good", but not "not bad".

Columns: the percentage of words whose relevance has the sign of their polarity, in sentences without any negator
(plain) and after a negator (negated); and the median relevance of the negated word, of the same word when token 0
replaces the negator (alone), and of the negator. In the last row, the words from the negator to the word of polarity
are one span of contextual decomposition, and "negated" is the percentage whose value has the sign of the word.

{table(head, rows)}
A negated word mostly keeps the sign of its relevance: these methods show negation as relevance of the negator, not of
the negated word. Only the value of the phrase as one combines both.

{held(claim, float(of_phrase) < float(of_word))}

"""


def _cells(signs: Array, plain: Mapping[int, list[float]], word: Array, alone: Array, negator: Array) -> list[str]:
    cells = []
    for sign in (1, -1):
        of_plain = 100 * float((np.array(plain[sign]) * sign > 0).mean())
        means = [f"{np.median(values[signs == sign]):+.2f}".replace("-", "−") for values in (word, alone, negator)]
        cells += [f"{of_plain:.0f}", _same(word, signs, sign), *means]
    return cells


def _same(values: Array, signs: Array, sign: int) -> str:
    return f"{100 * float((values[signs == sign] * sign > 0).mean()):.0f}"


def _phrase(model: lx.Model, sentence: Sentence, start: int, end: int) -> float:
    """What a phrase contributes as one."""
    method = lx.ContextualDecomposition(span=(start, end))
    e = model.explain({"tokens": np.array([sentence.ids])}, method, POLARITY)
    return float(e.relevance["tokens"][0, start:end].sum())


# --- contrast --------------------------------------------------------------------------------------------------------


def _contrast(model: lx.Model, test: list[Sentence], progress: Callable[[str], None]) -> str:
    chosen = [s for s in test if s.words.count(CONJUNCTION) == 1]
    chosen = [s for s in chosen if SIDE <= s.words.index(CONJUNCTION) < len(s.words) - SIDE]
    places, labels = [s.words.index(CONJUNCTION) for s in chosen], np.array([s.label - 2 for s in chosen])
    rows, sides = [], {}
    for name, method in METHODS.items():
        progress(f"contrast: {name}")
        relevance, values = treebank.explained(model, [s.ids for s in chosen], method, POLARITY)
        sides[name] = np.array([(r[:i].sum(), r[i + 1 :].sum()) for r, i in zip(relevance, places, strict=True)])
        conjunction = np.array([r[i] for r, i in zip(relevance, places, strict=True)])
        rows.append([name, *_sides(sides[name], values, labels), f"{np.median(conjunction):+.2f}".replace("-", "−")])
    progress(f"contrast: {PHRASE}")
    parts = [
        (_phrase(model, s, 0, i), _phrase(model, s, i + 1, len(s.ids))) for s, i in zip(chosen, places, strict=True)
    ]
    rows.append([PHRASE, *_sides(np.array(parts), values, labels), ""])
    lengths = np.array([(i, len(s.ids) - i - 1) for s, i in zip(chosen, places, strict=True)])
    before, after = rows[0][3:5]
    claim = f"under LRP-all, the side after *but* has the sign of the label more often ({after} % against {before} %)"
    lengths_before, lengths_after = (f"{mean:.0f}" for mean in lengths.mean(axis=0))
    right, polar = _right(values, labels), int((labels != 0).sum())
    head = ["method", "opposed", "after larger", "before: right", "after: right", "but"]
    return f"""\
Sentences of the form "A but B" usually mean B. There are {len(chosen)} test sentences with one *but* and {SIDE} words
or more on each side (on average, {lengths_before} words before and {lengths_after} after it). The model predicts the
sign of the label for {right} % of the {polar} that are not neutral. The explained quantity is the same as above.
Columns: the percentage of sentences whose sides, as sums of the relevance of their words, have opposite signs; in which
the side after *but* has the larger absolute sum; whose side before *but*, and after it, has the sign of the label
(without neutral sentences); and the median relevance of *but* itself. In the last row, each side is one span of
contextual decomposition.

{table(head, rows)}
{held(claim, float(after) > float(before))}
"""


def _sides(sides: Array, values: Array, labels: Array) -> list[str]:
    opposed = 100 * float((sides[:, 0] * sides[:, 1] < 0).mean())
    larger = 100 * float((np.abs(sides[:, 1]) > np.abs(sides[:, 0])).mean())
    return [f"{opposed:.0f}", f"{larger:.0f}", _right(sides[:, 0], labels), _right(sides[:, 1], labels)]


def _right(values: Array, labels: Array) -> str:
    return f"{100 * float((values * labels > 0)[labels != 0].mean()):.0f}"
