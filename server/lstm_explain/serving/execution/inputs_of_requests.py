# SPDX-License-Identifier: Apache-2.0
"""Turns the inputs of a request into what the engine takes: text into tokens, and groups into the entries they hold."""

from __future__ import annotations

import numpy as np

from lstm_explain.errors import InputError
from lstm_explain.inputs import check_inputs
from lstm_explain.repository.request import ModelRequest
from lstm_explain.repository.request_limits import Limits
from lstm_explain.repository.served_model import ServedModel
from lstm_explain.runner.groups import find_groups, words_of

TEXT = np.dtype(object)


def find_groups_of(served: ServedModel, request: ModelRequest) -> None:
    """Replaces the inputs by checked ones, finds the groups of their entries, and has the method value these groups.
    Raises InputError.
    """
    assert request.groups is not None
    model = served.model
    request.inputs = check_inputs(model.inputs, request.inputs)
    words = words_of(request.words, request.tokens)
    request.grouping = find_groups(request.groups, request.inputs, model.axes, model.labels, words)
    request.method = None if request.method is None else request.method.over_groups()


def read_text(served: ServedModel, request: ModelRequest, limits: Limits) -> None:
    """Replaces text by the ids of its tokens. limits: the server's. Raises InputError."""
    if not served.text_inputs and all(array.dtype != TEXT for array in request.inputs.values()):
        return
    arrays = dict(request.inputs)
    for name, array in request.inputs.items():
        if array.dtype != TEXT or name not in served.model.inputs:
            continue
        text = served.text_inputs.get(name)
        if text is None:
            wanted = served.model.inputs[name].dtype
            raise InputError(
                f"input {name!r} takes {wanted}, text came and it has no tokenizer", field=f"inputs.{name}"
            )
        own = limits.tightened(text.limits)
        arrays[name], request.tokens[name] = text.encode(array, own)
        if request.groups is not None and request.groups.words:
            request.words[name] = text.word_numbers(array, own)
    request.inputs = arrays
