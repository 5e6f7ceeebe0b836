# SPDX-License-Identifier: Apache-2.0
"""Pictures of explanations, as pure functions of arrays: HTML fragments here, the terminal in `render.terminal`.

Red marks relevance that raises the explained value, blue relevance that lowers it; zero has no colour. Nothing depends
on colour alone: every picture also shows sign and size by numbers, marks or the height of bars, so that it can be read
in greyscale and in print.
"""

from lstm_explain_client.render.html import STYLE, page, warnings, words
from lstm_explain_client.render.matrix import matrix
from lstm_explain_client.render.tables import ledger, prediction

__all__ = ["STYLE", "ledger", "matrix", "page", "prediction", "warnings", "words"]
