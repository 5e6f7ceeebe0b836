# SPDX-License-Identifier: Apache-2.0
"""Draws docs/neurons.png: the units of the sentiment model that matter most, and a sentence through some of them."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot

import lstm_explain as lx

ROOT = Path(__file__).resolve().parent.parent
SENTENCE = "A film that begins badly but ends as a warm , funny and moving story ."
MOST = 12


def main() -> None:
    mpl.use("Agg")
    model = lx.load(ROOT / "models" / "sentiment")
    names = ["lstm.hidden", "final_states"]
    e = model.explain({"tokens": [SENTENCE]}, "lrp", target="very positive", capture=names)
    hidden, last = e.neurons("lstm.hidden"), e.neurons("final_states")
    units = hidden.to_frame(top=MOST).unit.to_numpy()
    chosen = last.to_frame(top=3).unit.tolist()
    part = model.explain({"tokens": [SENTENCE]}, "lrp", target="very positive", through={"final_states": chosen})
    words = [str(token) for token in e.tokens["tokens"][0]]
    figure, (above, below) = pyplot.subplots(2, 1, figsize=(11, 7), layout="constrained", height_ratios=[3, 2])
    values = hidden.relevance[0][:, units].T
    scale = np.abs(values).max()
    shown = above.imshow(values, aspect="auto", cmap="RdBu_r", vmin=-scale, vmax=scale, interpolation="nearest")
    above.set_yticks(range(len(units)), [f"unit {unit}" for unit in units])
    above.set_xticks(range(len(words)), words, rotation=40)
    above.set_title("relevance of lstm.hidden, step by step")
    figure.colorbar(shown, ax=above)
    places = np.arange(len(words))
    below.bar(places - 0.2, e.relevance["tokens"][0], 0.4, label="all units", color="#999999")
    label = f"through units {', '.join(map(str, chosen))} of final_states"
    below.bar(places + 0.2, part.relevance["tokens"][0], 0.4, label=label, color="#b2182b")
    below.axhline(0, color="black", linewidth=0.6)
    below.set_xticks(places, words, rotation=40)
    below.set_title("relevance of the words")
    below.legend()
    figure.savefig(ROOT / "docs" / "neurons.png", dpi=100)


if __name__ == "__main__":
    main()
