"""Text as a model's input: sentences become token ids, and the tokens stay with them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_explain.errors import InputError, ModelError

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

PADDING = 0


@dataclass(frozen=True)
class TextInput:
    """An input of a model that may be sent as text. `dtype` is that of its ids."""

    name: str
    tokenizer: Tokenizer
    dtype: np.dtype[Any]

    def encode(self, texts: npt.NDArray[np.object_]) -> tuple[npt.NDArray[Any], npt.NDArray[np.object_]]:
        """Texts of shape [batch] as ids and tokens, both [batch, longest]; padded with id 0 and the empty string.

        Raises InputError.
        """
        if texts.ndim != 1:
            raise InputError(f"text for {self.name!r} has the shape [batch]", field=f"inputs.{self.name}.shape")
        sentences: list[str] = texts.tolist()
        # encode_batch hands its work to threads of its own, and for one text waits longer for these than it works
        encodings = [self.tokenizer.encode(sentence) for sentence in sentences]
        empty = next((i for i, e in enumerate(encodings) if not len(e)), None)
        if empty is not None or not encodings:
            problem = "there is no text" if empty is None else f"text {empty} has no tokens"
            raise InputError(f"{problem} for {self.name!r}", field=f"inputs.{self.name}")
        rows, words = [e.ids for e in encodings], list(map(_words, sentences, encodings))
        longest = max(map(len, rows))
        for row, word in zip(rows, words, strict=True):
            row.extend([PADDING] * (longest - len(row)))
            word.extend([""] * (longest - len(word)))
        return np.array(rows, self.dtype), np.array(words, dtype=object)


def load_text_input(path: Path, name: str, dtype: np.dtype[Any]) -> TextInput:
    """Raises ModelError, without the folder's path."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ModelError("text inputs need the package tokenizers") from error
    if not np.issubdtype(dtype, np.integer):
        raise ModelError(f"input {name!r} takes {dtype}, text needs an input of token ids")
    if not path.is_file():
        raise ModelError(f"there is no tokenizer file {path.name!r}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # the library raises nothing narrower
        raise ModelError(f"{path.name}: not a tokenizer: {error}") from error
    tokenizer.no_padding()
    return TextInput(name, tokenizer, dtype)


def _words(sentence: str, encoding: Encoding) -> list[str]:
    """Each token as the caller wrote it, which says more than `[UNK]`; added tokens by their name."""
    return [sentence[start:end] or token for (start, end), token in zip(encoding.offsets, encoding.tokens, strict=True)]
