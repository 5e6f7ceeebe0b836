# SPDX-License-Identifier: Apache-2.0
"""Hostile tokenizers and oversized texts are refused."""

from __future__ import annotations

import base64
import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lstm_explain.cancellation import Cancelled, CancelScope, cancel_scope
from lstm_explain.errors import Error, InputError, ModelError
from lstm_explain.repository.request_limits import Limits
from lstm_explain.repository.text_inputs import MAX_PROBE_LENGTH, TextInput, load_text_input

I64 = np.dtype("i8")
BLANK = dict.fromkeys(("truncation", "padding", "normalizer", "post_processor", "decoder"))
VOCABULARY = {"[UNK]": 0, "a": 1, "b": 2, ",": 3, "[CLS]": 4}
WORDS = {"type": "WordLevel", "vocab": VOCABULARY, "unk_token": "[UNK]"}
SENTIMENT = Path(__file__).parents[2] / "models" / "sentiment" / "tokenizer.json"


def written(folder: Path, **parts: Any) -> Path:
    whole = {"version": "1.0", **BLANK, "added_tokens": [], "pre_tokenizer": {"type": "Whitespace"}, "model": WORDS}
    path = folder / "tokenizer.json"
    path.write_text(json.dumps({**whole, **parts}))
    return path


def loaded(folder: Path, dtype: np.dtype[Any] = I64, **parts: Any) -> TextInput:
    return load_text_input(written(folder, **parts), "tokens", dtype)


def texts(*values: str) -> np.ndarray:
    return np.array(values, dtype=object)


def split(expression: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": expression}, "behavior": "Isolated", "invert": False}


def truncation(length: int, stride: int, direction: str = "Right") -> dict[str, Any]:
    return {"direction": direction, "max_length": length, "strategy": "LongestFirst", "stride": stride}


def replaced(character: str, content: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": character}, "content": content}


@pytest.mark.parametrize("expression", ["(a+)+$", "(a|aa)+$", "(a|a)*b", r"(\w+\s?)+$", "(,,?)+$"])
def test_a_pathological_expression_is_refused_on_loading(tmp_path: Path, expression: str) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json: .*(retry-limit|did not end)"):
        loaded(tmp_path, pre_tokenizer=split(expression))


@pytest.mark.parametrize(
    "steps",
    [
        [replaced("a", "a a"), replaced("b", "b b")] * 8,
        [replaced("ж", "x " * 100)],
        [replaced("film", "x " * 1000)],
        [replaced("", "b" * 100)],
        [replaced("ж", "xxxxxxxxxx"), replaced("x", "yyyyyyyyyy")],
        [
            {"type": "Lowercase"},
            replaced("Ж", "XXXXXXXXXX"),
            {"type": "Sequence", "normalizers": [replaced("x", "y" * 10)]},
        ],
        [{"type": "Replace", "pattern": {"Regex": "ж|я"}, "content": "x " * 100}],
    ],
)
def test_a_normalizer_that_multiplies_characters_is_refused(tmp_path: Path, steps: list[dict[str, Any]]) -> None:
    """For any character, also one that no probe contains, and for a word."""
    with pytest.raises(ModelError, match="may replace one character"):
        loaded(tmp_path, normalizer={"type": "Sequence", "normalizers": steps})


def test_too_many_normalizers_and_pre_tokenizers_are_refused(tmp_path: Path) -> None:
    endless = {"type": "Sequence", "pretokenizers": [{"type": "Whitespace"}] * 10_000}
    with pytest.raises(ModelError, match="10001 normalizers and pre-tokenizers"):
        loaded(tmp_path, pre_tokenizer=endless)


def test_independent_replacements_do_not_multiply(tmp_path: Path) -> None:
    steps = [
        replaced("—", " -- "),
        replaced("…", " ... "),
        replaced("½", "1/2"),
        replaced("¼", "1/4"),
        replaced("№", "No"),
    ]
    text = loaded(tmp_path, normalizer={"type": "Sequence", "normalizers": steps})
    assert text.quick
    assert text.encode(texts("film …"))[0].shape == (1, 2)


def test_characters_of_an_expression_are_probed_on_loading(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"tokenizer\.json: .*(retry-limit|did not end)"):
        loaded(tmp_path, pre_tokenizer=split("(ж+ж+)+я"))


def test_a_precompiled_normalizer_never_runs_in_the_event_loop(tmp_path: Path) -> None:
    """Its effect on a character is unknown, and tokenising in a thread releases the interpreter lock."""
    nothing = base64.b64encode((4096).to_bytes(4, "little") + bytes(4096)).decode()  # a trie without a leaf
    text = loaded(tmp_path, normalizer={"type": "Precompiled", "precompiled_charsmap": nothing})
    assert not text.quick


@pytest.mark.parametrize("stride", [8, 9, 1000])
def test_a_stride_as_long_as_the_maximum_is_refused(tmp_path: Path, stride: int) -> None:
    with pytest.raises(ModelError, match="stride"):
        loaded(tmp_path, truncation=truncation(8, stride))


def test_special_tokens_count_against_a_stride(tmp_path: Path) -> None:
    ends = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [4], "tokens": ["[CLS]"]}},
    }
    with pytest.raises(ModelError, match="stride"):
        loaded(tmp_path, truncation=truncation(8, 7), post_processor=ends)
    with pytest.raises(ModelError, match="no room"):
        loaded(tmp_path, truncation=truncation(1, 0), post_processor=ends)


@pytest.mark.parametrize("direction", ["Right", "Left"])
def test_truncated_tokens_are_dropped(tmp_path: Path, direction: str) -> None:
    """The first (or last) tokens stay; the overflow would be `max_length` tokens for each further one."""
    text = loaded(tmp_path, truncation=truncation(50, 49, direction))
    sentence = " ".join("ab"[i % 3 % 2] for i in range(500))
    encoding = text.tokenizer.encode(sentence)
    assert sum(len(part) for part in encoding.overflowing) <= 500
    ids, _ = text.encode(texts(sentence))
    whole = [1 + i % 3 % 2 for i in range(500)]
    assert ids.tolist() == [whole[:50] if direction == "Right" else whole[-50:]]


def test_a_post_processor_that_multiplies_tokens_is_refused(tmp_path: Path) -> None:
    many = {
        "type": "TemplateProcessing",
        "single": [{"Sequence": {"id": "A", "type_id": 0}}] * 1000,
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
        "special_tokens": {},
    }
    with pytest.raises(ModelError):
        loaded(tmp_path, post_processor=many)


def test_ids_beyond_the_type_of_the_input_are_an_input_error(tmp_path: Path) -> None:
    model = {**WORDS, "vocab": {**VOCABULARY, "huge": 3_000_000_000}}
    text = loaded(tmp_path, np.dtype("i4"), model=model)
    with pytest.raises(InputError, match="3000000000"):
        text.encode(texts("huge"))


def test_too_many_characters_are_refused_before_they_are_tokenised(tmp_path: Path) -> None:
    text = loaded(tmp_path)
    text.tokenizer = None  # whoever asks it for anything fails
    with pytest.raises(InputError, match="8000000 characters"):
        text.encode(texts("," * 8_000_000))
    with pytest.raises(InputError, match="12 characters of text, at most 10"):
        text.encode(texts(*["a b"] * 4), Limits(characters=10))
    with pytest.raises(InputError, match="5 samples, at most 4"):
        text.encode(texts(*["a"] * 5), Limits(batch=4))


def test_too_many_tokens_are_refused_after_a_part_of_the_text(tmp_path: Path) -> None:
    text = loaded(tmp_path)
    longest = _lengths(text)
    with pytest.raises(InputError, match=r"text 1 has at least \d+ tokens .*, at most 100 are"):
        text.encode(texts("a", "a " * 100_000), Limits(steps=100))
    assert max(longest) < 5000


def test_padding_does_not_multiply_a_batch(tmp_path: Path) -> None:
    text = loaded(tmp_path)
    batch = texts("a " * 20_000, *["a"] * 4000)
    with pytest.raises(InputError, match="4001 texts of up to 20000 tokens are 80020000 elements"):
        text.encode(batch, Limits(elements=1_000_000))


def test_tokenising_stops_when_the_caller_has_gone(tmp_path: Path) -> None:
    text, requested = loaded(tmp_path), [0]
    longest = _lengths(text)

    def check() -> None:
        requested[0] += 1
        if requested[0] == 3:
            raise Cancelled(InputError("enough"))

    with pytest.raises(Cancelled), cancel_scope(CancelScope(check)):
        text.encode(texts("a " * 100_000))
    assert max(longest) < 10_000


@pytest.mark.parametrize("length", [1, 1000, 1024, 1025, 2048, 5000, 100_000])
def test_a_long_text_gets_the_tokenizers_own_tokens(length: int) -> None:
    text = load_text_input(SENTIMENT, "tokens", I64)
    sentence = ("A film-maker's dream , isn't it ? Né 3.14 ... " * (length // 40 + 1))[:length]
    ids, words = text.encode(texts(sentence), Limits(steps=100_000))
    expected = text.tokenizer.encode(sentence)
    assert ids[0].tolist() == expected.ids
    assert words[0].tolist() == [sentence[a:b] for a, b in expected.offsets]


def test_a_slow_tokenizer_is_moved_out_of_the_event_loop(tmp_path: Path) -> None:
    """It passes on loading, since its expression is slow only after a character that is not probed."""
    text = loaded(tmp_path, pre_tokenizer=split(r"q(z+)+q"))
    assert text.quick
    with pytest.raises(InputError, match="text 0 cannot be tokenised"):
        text.encode(texts("q" + "z" * MAX_PROBE_LENGTH))
    assert not text.quick


def test_other_threads_run_while_a_slow_tokenizer_works(tmp_path: Path) -> None:
    """A pattern that backtracks a lot, but neither on the probes nor beyond the library's limit."""
    text = loaded(tmp_path, pre_tokenizer=split("q(a|aa)+$"))
    slow = texts(" ".join(["q" + "a" * 20 + "!"] * 12))
    text.quick = False  # as it is from the second such text on

    def longest_wait() -> float:
        """The longest wait of this thread, as a share of the time that the other thread takes."""
        working = threading.Thread(target=lambda: text.encode(slow))
        moments = [time.perf_counter()]
        working.start()
        while working.is_alive():
            working.join(0.001)
            moments.append(time.perf_counter())
        return float(max(np.diff(moments)) / (moments[-1] - moments[0]))

    assert min(longest_wait() for _ in range(5)) < 0.8  # a busy machine may let this thread wait, too


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"version": "1.0", "model": 3}'])
def test_an_invalid_tokenizer_file_is_a_model_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_bytes(content)
    with pytest.raises(Error, match="not a tokenizer"):
        load_text_input(path, "tokens", I64)


def _lengths(text: TextInput) -> list[int]:
    """The lengths of the texts that the tokenizer gets from now on."""
    requested: list[int] = []

    class Counting:
        def __init__(self, tokenizer: Any) -> None:
            self._tokenizer = tokenizer

        def encode(self, part: str) -> Any:
            requested.append(len(part))
            return self._tokenizer.encode(part)

        def encode_batch(self, parts: list[str]) -> Any:
            requested.extend(map(len, parts))
            return self._tokenizer.encode_batch(parts)

    text.tokenizer = Counting(text.tokenizer)
    return requested
