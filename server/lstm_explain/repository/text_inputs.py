"""Text as a model's input: sentences become token ids, and the tokens stay with them.

A tokenizer is as foreign as the model that it comes with, and a text as foreign as its caller. So texts are bounded
before they are tokenised, tokens while they are made, and a tokenizer is tried on odd texts as it is loaded.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
MOST_CHARACTERS = 1 << 18  # of all texts of a request, where no limit says otherwise
# Characters of the first part of a long text that is tried before the whole, and how much longer each next part is: the
# parts cost a third of the whole, and a text of too many tokens is refused after a part of it.
FIRST_PART, GROWTH = 1024, 4
# Tokens that a tokenizer may make of one character. Bytes as tokens make 4 of an emoji, NFKD 18 characters of U+FDFA.
MOST_TOKENS_A_CHARACTER = 80
# Texts up to this length are tokenised with the interpreter's lock held, which costs less than to give it away, as long
# as that takes little time.
SHORT_TEXT = 2048
SLOW = 0.02  # seconds for a short text, after which none is tokenised in the event loop any more
# One character after another, as often as `LONGEST_PROBE`: what a pattern with nested repetitions tries all ways of.
PROBES = "aA0_ .,!'-\"\n\té中\u0301\U0001f600\x00"
# Behind it something else, which makes the pattern fail, and whatever it may look for before it tries anything.
LONGEST_PROBE, ASCII = 512, "".join(map(chr, range(32, 127)))
SECONDS_FOR_PROBES = 5.0
MOST_STEPS = 200  # on the way from a text to its tokens
MOST_PROBED = 500  # letters of patterns


@dataclass(eq=False)
class TextInput:
    """An input of a model that may be sent as text.

    dtype: of its ids. limits: the model's own. quick: whether short texts have taken little time so far, and may be
    expected to.
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

        limits: where they are narrower than the model's own. Raises InputError; what `watch.checkpoint` raises.
        """
        if texts.ndim != 1:
            raise InputError(f"text for {self.name!r} has the shape [batch]", field=f"inputs.{self.name}.shape")
        sentences: list[str] = texts.tolist()
        limits = self.limits if limits is None else limits
        self._check_size(sentences, limits)
        encodings = [self._encoded(i, sentence, limits) for i, sentence in enumerate(sentences)]
        empty = next((i for i, e in enumerate(encodings) if not len(e)), None)
        if empty is not None or not encodings:
            raise self._wrong("there is no text" if empty is None else f"text {empty} has no tokens")
        longest = max(map(len, encodings))
        if limits.elements is not None and longest * len(encodings) > limits.elements:
            raise self._wrong(
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
            raise self._wrong(f"the tokenizer makes the id {largest}, beyond {self.dtype},") from None

    def _check_size(self, sentences: Sequence[str], limits: Limits) -> None:
        """Raises InputError before anything is tokenised."""
        if limits.batch is not None and len(sentences) > limits.batch:
            raise InputError(
                f"input {self.name!r}: {len(sentences)} samples, at most {limits.batch} are allowed",
                field=f"inputs.{self.name}.shape",
            )
        characters = sum(map(len, sentences))
        most = MOST_CHARACTERS if limits.characters is None else limits.characters
        if characters > most:
            raise InputError(
                f"input {self.name!r}: {characters} characters of text, at most {most} are allowed",
                field=f"inputs.{self.name}",
            )

    def _encoded(self, number: int, sentence: str, limits: Limits) -> Encoding:
        """The tokens of the text. Raises InputError, the sooner the more tokens it has."""
        began = time.thread_time()  # not the clock: a busy machine makes no tokenizer slow
        try:
            for part in _parts(sentence):
                checkpoint()
                encoding = self._of_part(number, part)
                if limits.steps is not None and len(encoding) > limits.steps:
                    least = "" if part is sentence else "at least "
                    raise InputError(
                        f"input {self.name!r}: text {number} has {least}{len(encoding)} tokens (time steps), "
                        f"at most {limits.steps} are allowed",
                        field=f"inputs.{self.name}.shape",
                    )
            return encoding
        finally:
            if len(sentence) <= SHORT_TEXT and time.thread_time() - began > SLOW:
                self.quick = False

    def _of_part(self, number: int, part: str) -> Encoding:
        try:
            if len(part) > SHORT_TEXT or not self.quick:
                (encoding,) = self.tokenizer.encode_batch([part])  # which lets other threads work meanwhile
            else:
                encoding = self.tokenizer.encode(part)
        except BaseException as error:  # a panic of the library is a BaseException
            if isinstance(error, KeyboardInterrupt | SystemExit):
                raise
            raise self._wrong(f"text {number} cannot be tokenised: {_first_line(error)};") from None
        count, most = len(encoding), MOST_TOKENS_A_CHARACTER * (1 + len(part))
        if count > most:
            raise self._wrong(f"text {number}: {len(part)} characters become {count} tokens, above {most},")
        return encoding

    def _wrong(self, problem: str) -> InputError:
        return InputError(f"{problem} for {self.name!r}", field=f"inputs.{self.name}")


def load_text_input(path: Path, name: str, dtype: np.dtype[Any], limits: Limits = Limits()) -> TextInput:  # noqa: B008 - frozen
    """limits: the model's own. Raises ModelError, without the folder's path."""
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
        tokenizer.no_padding()
        _settle_truncation(tokenizer)
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


def _settle_truncation(tokenizer: Tokenizer) -> None:
    """Keeps what the tokenizer cuts off from being kept beside it, stride by stride. Raises ModelError."""
    chosen = tokenizer.truncation
    if chosen is None:
        return
    length, stride = chosen["max_length"], chosen.get("stride", 0)
    room = length - tokenizer.num_special_tokens_to_add(False)
    if stride and stride >= room:
        raise ModelError(
            f"truncation never ends with a stride of {stride} and a max_length of {length}, "
            f"of which special tokens take {length - room}; the stride has to be smaller than what is left"
        )
    if room < 1:
        raise ModelError(f"truncation to a max_length of {length} leaves no room for tokens of the text")
    tokenizer.enable_truncation(length, stride=0, strategy=chosen["strategy"], direction=chosen["direction"])


def _steps(tokenizer: Tokenizer) -> list[dict[str, Any]]:
    """What is done to a text before it is cut into tokens, as the file has it. Raises ModelError."""
    steps = [json.loads(part.__getstate__()) for part in (tokenizer.normalizer, tokenizer.pre_tokenizer) if part]
    for step in steps:
        steps += [*step.get("normalizers", ()), *step.get("pretokenizers", ())]
    if len(steps) > MOST_STEPS:
        raise ModelError(f"{len(steps)} normalizers and pre-tokenizers in a row, at most {MOST_STEPS} are taken")
    return steps


def _check_growth(steps: Sequence[dict[str, Any]]) -> None:
    """Raises ModelError where replacements, one in the other's text, make a text many times as long as it came."""
    done: list[tuple[set[str], float]] = []  # letters that stand in the place of others, and how many for each of those
    for step in steps:
        if step["type"] != "Replace":
            continue
        content, pattern = step["content"], step["pattern"].get("String", "")  # a regular expression may match anything
        letters = set(pattern.casefold())
        before = max((times for made, times in done if not letters or made & letters), default=1.0)
        done.append((set(content.casefold()), before * max(1.0, (len(content) + (not pattern)) / max(1, len(pattern)))))
    most = max((times for _, times in done), default=1.0)
    if most > MOST_TOKENS_A_CHARACTER:
        raise ModelError(
            f"its normalizer may put {most:.3g} characters in the place of one, at most {MOST_TOKENS_A_CHARACTER} "
            "are taken"
        )


def _try(text: TextInput, pattern: str) -> None:
    """Tokenises odd texts, short ones before long ones. Raises InputError, and when that takes too long.

    pattern: all that the tokenizer looks for, whose letters are tried too.

    A tokenizer that never ends does not end here either: whoever loads foreign files bounds the process's time.
    """
    began = time.thread_time()
    for length in (1, 8, 24, LONGEST_PROBE):
        for character in dict.fromkeys(PROBES + pattern[:MOST_PROBED]):
            for probe in (character * length, character * length + ("!" if character != "!" else "b") + ASCII):
                try:
                    text.encode(np.array([probe], object), Limits())
                except InputError as error:
                    if "has no tokens" not in str(error):
                        raise
                if (seconds := time.thread_time() - began) > SECONDS_FOR_PROBES:
                    raise InputError(f"{len(probe)} characters of {character!r}: after {seconds:.1f} s there is no end")


def _parts(sentence: str) -> Iterator[str]:
    """Ever longer beginnings of a long text, at last the text itself."""
    size = FIRST_PART
    while size < len(sentence):
        yield sentence[:size]
        size *= GROWTH
    yield sentence


def _first_line(error: BaseException) -> str:
    return str(error).partition("\n")[0][:200] or type(error).__name__


def _words(sentence: str, encoding: Encoding) -> list[str]:
    """Each token as the caller wrote it, which says more than `[UNK]`; added tokens by their name."""
    return [sentence[start:end] or token for (start, end), token in zip(encoding.offsets, encoding.tokens, strict=True)]
