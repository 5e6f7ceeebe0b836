# SPDX-License-Identifier: Apache-2.0
"""Tokenises texts for a model, and keeps the tokens for the answer.

A tokenizer is as untrusted as the model that it comes with, and a text as untrusted as its caller. So the size of texts
is limited before they are tokenised, and that of tokens while they are made. When a tokenizer is loaded, it is tried on
unusual texts.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from lstm_explain.cancellation import checkpoint
from lstm_explain.errors import InputError, ModelError
from lstm_explain.repository.request_limits import Limits

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

# The library would start a thread for each processor, whatever `--threads` says.
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

PADDING = 0
MAX_CHARACTERS = 1 << 18  # characters in all texts of a request, where no setting limits them
# A long text is first tokenised in parts: a prefix of this many characters, then prefixes that grow by this factor. The
# parts take a third of the time of the whole, and a text of too many tokens is refused after a part of it.
FIRST_PART, GROWTH = 1024, 4
# Tokens that a tokenizer may make of one character. Byte tokens make 4 of an emoji, NFKD 18 characters of U+FDFA.
MAX_TOKENS_PER_CHARACTER = 80
# Texts up to this length are tokenised while the interpreter lock is held, which costs less than to release it, as long
# as that takes little time.
SHORT_TEXT = 2048
SLOW_SECONDS = 0.02  # seconds for a short text; after one that takes longer, none is tokenised in the event loop
# Each of these characters is repeated up to MAX_PROBE_LENGTH times: a regular expression with nested repetitions
# backtracks over all ways to match that. ASCII follows, so that the expression fails, and finds what it may require.
PROBES = "aA0_ .,!'-\"\n\té中\u0301\U0001f600\x00"
MAX_PROBE_LENGTH, ASCII = 512, "".join(map(chr, range(32, 127)))
SECONDS_FOR_PROBES = 5.0
MAX_STEPS = 200  # normalizers and pre-tokenizers
MAX_PATTERN_PROBES = 500  # characters of patterns that are used as probes


@dataclass(eq=False)
class TextInput:
    """An input of a model that may be sent as text.

    dtype: of its ids. limits: the model's own. quick: whether short texts have been tokenised in little time so far.
    """

    name: str
    tokenizer: Tokenizer
    dtype: np.dtype[Any]
    limits: Limits = Limits()  # noqa: RUF009 - frozen
    quick: bool = True

    def encode(
        self, texts: npt.NDArray[np.object_], limits: Limits | None = None
    ) -> tuple[npt.NDArray[Any], npt.NDArray[np.object_]]:
        """Texts of shape [batch] as ids and tokens, both [batch, longest]; padded with id 0 and the empty string.

        limits: by default the model's own. Raises InputError, and what `cancellation.checkpoint` raises.
        """
        if texts.ndim != 1:
            raise InputError(f"text for {self.name!r} must have the shape [batch]", field=f"inputs.{self.name}.shape")
        sentences: list[str] = texts.tolist()
        limits = self.limits if limits is None else limits
        self._check_size(sentences, limits)
        encodings = [self._encode_one(i, sentence, limits) for i, sentence in enumerate(sentences)]
        empty = next((i for i, e in enumerate(encodings) if not len(e)), None)
        if empty is not None or not encodings:
            raise self._error("there is no text" if empty is None else f"text {empty} has no tokens")
        longest = max(map(len, encodings))
        if limits.elements is not None and longest * len(encodings) > limits.elements:
            raise self._error(
                f"{len(encodings)} texts of up to {longest} tokens are {longest * len(encodings)} elements, "
                f"at most {limits.elements} are allowed"
            )
        rows, words = [e.ids for e in encodings], list(map(_words, sentences, encodings))
        for row, word in zip(rows, words, strict=True):
            row.extend([PADDING] * (longest - len(row)))
            word.extend([""] * (longest - len(word)))
        try:
            return np.array(rows, self.dtype), np.array(words, dtype=object)
        except OverflowError:
            largest = max(map(max, rows))
            raise self._error(f"the tokenizer makes the id {largest}, which exceeds {self.dtype},") from None

    def __call__(self, texts: npt.NDArray[np.object_]) -> tuple[npt.NDArray[Any], npt.NDArray[np.object_]]:
        return self.encode(texts)

    def word_numbers(self, texts: npt.NDArray[np.object_], limits: Limits | None = None) -> npt.NDArray[np.int64]:
        """Returns the number of the word that each token of the texts [batch] belongs to, [batch, longest]; -1 for
        padding. A token outside of all words, such as a separator, is a word by itself. Raises as `encode` does.
        """
        sentences: list[str] = texts.tolist()
        limits = self.limits if limits is None else limits
        rows = [_word_numbers(self._encode_one(i, sentence, limits)) for i, sentence in enumerate(sentences)]
        numbers = np.full((len(rows), max(map(len, rows))), -1, np.int64)
        for number, row in zip(numbers, rows, strict=True):
            number[: len(row)] = row
        return numbers

    def _check_size(self, sentences: Sequence[str], limits: Limits) -> None:
        """Raises InputError if the texts exceed a limit, before they are tokenised."""
        if limits.batch is not None and len(sentences) > limits.batch:
            raise InputError(
                f"input {self.name!r}: {len(sentences)} samples, at most {limits.batch} are allowed",
                field=f"inputs.{self.name}.shape",
            )
        characters = sum(map(len, sentences))
        most = MAX_CHARACTERS if limits.characters is None else limits.characters
        if characters > most:
            raise InputError(
                f"input {self.name!r}: {characters} characters of text, at most {most} are allowed",
                field=f"inputs.{self.name}",
            )

    def _encode_one(self, number: int, sentence: str, limits: Limits) -> Encoding:
        """Tokenises one text. Raises InputError, after a part of the text if that has too many tokens already."""
        start = time.thread_time()  # a tokenizer is not slow because the machine is busy
        try:
            for part in _parts(sentence):
                checkpoint()
                encoding = self._encode_part(number, part)
                if limits.steps is not None and len(encoding) > limits.steps:
                    least = "" if part is sentence else "at least "
                    raise InputError(
                        f"input {self.name!r}: text {number} has {least}{len(encoding)} tokens (time steps), "
                        f"at most {limits.steps} are allowed",
                        field=f"inputs.{self.name}.shape",
                    )
            return encoding
        finally:
            if len(sentence) <= SHORT_TEXT and time.thread_time() - start > SLOW_SECONDS:
                self.quick = False

    def _encode_part(self, number: int, part: str) -> Encoding:
        try:
            if len(part) > SHORT_TEXT or not self.quick:
                (encoding,) = self.tokenizer.encode_batch([part])  # this releases the interpreter lock
            else:
                encoding = self.tokenizer.encode(part)
        except BaseException as error:  # a panic of the library is a BaseException
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise self._error(f"text {number} cannot be tokenised: {_first_line(error)};") from None
        count, most = len(encoding), MAX_TOKENS_PER_CHARACTER * (1 + len(part))
        if count > most:
            raise self._error(f"text {number}: {len(part)} characters become {count} tokens, more than {most},")
        return encoding

    def _error(self, problem: str) -> InputError:
        return InputError(f"{problem} for {self.name!r}", field=f"inputs.{self.name}")


def load_text_input(path: Path, name: str, dtype: np.dtype[Any], limits: Limits = Limits()) -> TextInput:  # noqa: B008 - frozen
    """Loads a tokenizer. limits: the model's own. Raises ModelError, which does not contain the path of the folder."""
    try:
        from tokenizers import Tokenizer
    except ImportError as error:
        raise ModelError("text inputs need the package `tokenizers`") from error
    if not np.issubdtype(dtype, np.integer):
        raise ModelError(f"input {name!r} takes {dtype}, but text needs an input of token ids")
    if not path.is_file():
        raise ModelError(f"there is no tokenizer file {path.name!r}")
    try:
        tokenizer = Tokenizer.from_file(str(path))
        tokenizer.no_padding()
        _drop_overflow(tokenizer)
        steps = _steps(tokenizer)
        _check_growth(steps)
    except ModelError as error:
        raise ModelError(f"{path.name}: {error}") from error
    except BaseException as error:  # the library raises nothing narrower, and panics with a BaseException
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise ModelError(f"{path.name}: not a tokenizer: {_first_line(error)}") from error
    text = TextInput(name, tokenizer, dtype, limits, quick=all(step["type"] != "Precompiled" for step in steps))
    try:
        _try(text, "".join(step["pattern"].get("Regex", "") for step in steps if "pattern" in step))
    except InputError as error:
        raise ModelError(f"{path.name}: {error}") from error
    return text


def _drop_overflow(tokenizer: Tokenizer) -> None:
    """Keeps a tokenizer that truncates from also returning the overflow, window by window. Raises ModelError."""
    truncation = tokenizer.truncation
    if truncation is None:
        return
    length, stride = truncation["max_length"], truncation.get("stride", 0)
    room = length - tokenizer.num_special_tokens_to_add(False)
    if stride and stride >= room:
        raise ModelError(
            f"truncation never ends with a stride of {stride} and a max_length of {length}, "
            f"since special tokens take {length - room}; the stride must be smaller than the rest"
        )
    if room < 1:
        raise ModelError(f"truncation to a max_length of {length} leaves no room for tokens of the text")
    tokenizer.enable_truncation(length, stride=0, strategy=truncation["strategy"], direction=truncation["direction"])


def _steps(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """Returns the normalizers and pre-tokenizers of the file. Raises ModelError if there are too many."""
    steps = [json.loads(part.__getstate__()) for part in (tokenizer.normalizer, tokenizer.pre_tokenizer) if part]
    for step in steps:
        steps += [*step.get("normalizers", ()), *step.get("pretokenizers", ())]
    if len(steps) > MAX_STEPS:
        raise ModelError(f"it has {len(steps)} normalizers and pre-tokenizers, at most {MAX_STEPS} are allowed")
    return steps


def _check_growth(steps: Sequence[dict[str, Any]]) -> None:
    """Raises ModelError if replacements that follow each other can make a text many times as long."""
    done: list[tuple[set[str], float]] = []  # characters that a step inserts, and how many in place of one
    for step in steps:
        if step["type"] != "Replace":
            continue
        content, pattern = step["content"], step["pattern"].get("String", "")  # a regular expression may match anything
        letters = set(pattern.casefold())
        before = max((times for made, times in done if not letters or made & letters), default=1.0)
        done.append((set(content.casefold()), before * max(1.0, (len(content) + (not pattern)) / max(1, len(pattern)))))
    most = max((times for _, times in done), default=1.0)
    if most > MAX_TOKENS_PER_CHARACTER:
        raise ModelError(
            f"its normalizer may replace one character by {most:.3g}, at most {MAX_TOKENS_PER_CHARACTER} are allowed"
        )


def _try(text: TextInput, pattern: str) -> None:
    """Tokenises unusual texts, short ones before long ones. Raises InputError, also when that takes too long.

    pattern: the regular expressions of the tokenizer, whose characters are tried too.

    It cannot end a tokenizer that never returns: the trial process limits the time for untrusted files.
    """
    start = time.thread_time()
    for length in (1, 8, 24, MAX_PROBE_LENGTH):
        for character in dict.fromkeys(PROBES + pattern[:MAX_PATTERN_PROBES]):
            for probe in (character * length, character * length + ("!" if character != "!" else "b") + ASCII):
                try:
                    text.encode(np.array([probe], object), Limits())
                except InputError as error:
                    if "has no tokens" not in str(error):
                        raise
                if (seconds := time.thread_time() - start) > SECONDS_FOR_PROBES:
                    raise InputError(
                        f"tokenising {len(probe)} characters of {character!r} did not end within {seconds:.1f} s"
                    )


def _parts(sentence: str) -> Iterator[str]:
    """Yields ever longer prefixes of a long text, and at last the text itself."""
    size = FIRST_PART
    while size < len(sentence):
        yield sentence[:size]
        size *= GROWTH
    yield sentence


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _word_numbers(encoding: Encoding) -> list[int]:
    ids: list[int | None] = encoding.word_ids
    starts = (word is None or word != before for before, word in pairwise([None, *ids]))
    return [number - 1 for number in accumulate(starts)]


def _words(sentence: str, encoding: Encoding) -> list[str]:
    """Returns each token as the caller wrote it, which tells more than `[UNK]`; added tokens have their own names."""
    return [sentence[start:end] or token for (start, end), token in zip(encoding.offsets, encoding.tokens, strict=True)]
