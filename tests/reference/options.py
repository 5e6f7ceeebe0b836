# SPDX-License-Identifier: Apache-2.0
"""Networks over every option of recurrent nodes, for the tests of the reference."""

from __future__ import annotations

from typing import Any

STATES = (None, "constant", "input")
DIRECTIONS = ("forward", "reverse", "bidirectional")

# Every option of the three nodes at least once, as arguments of recurrent_model.
OPTIONS: dict[str, dict[str, Any]] = {
    "lstm": {},
    "lstm-bidirectional": {"direction": "bidirectional"},
    "lstm-reverse-Y_h": {"direction": "reverse", "head": "Y_h"},
    "lstm-states": {"initial_states": "input", "head": "Y_c"},
    "lstm-constant-states": {"initial_states": "constant", "layers": 2},
    "lstm-stacked-mean": {"layers": 2, "head": "mean", "direction": "bidirectional"},
    "lstm-sum": {"head": "sum"},
    "lstm-lens": {"sequence_lens": True, "direction": "bidirectional", "head": "Y_h"},
    "lstm-lens-Y_c": {"sequence_lens": True, "direction": "reverse", "head": "Y_c", "initial_states": "input"},
    "lstm-peepholes": {"peepholes": True, "initial_states": "input"},
    "lstm-input-forget": {"input_forget": True},
    "lstm-clip": {"clip": 0.3},
    "lstm-everything": {"peepholes": True, "input_forget": True, "clip": 0.5, "direction": "bidirectional"},
    "lstm-no-bias": {"bias": False},
    "lstm-hard": {
        "activations": ["HardSigmoid", "Softsign", "ScaledTanh"],
        "activation_alpha": [0.25, 1.5],
        "activation_beta": [0.4, 0.7],
    },
    "gru": {"op": "GRU"},
    "gru-lbr": {"op": "GRU", "linear_before_reset": True},
    "gru-bidirectional": {"op": "GRU", "direction": "bidirectional", "initial_states": "input", "layers": 2},
    "gru-lbr-lens": {"op": "GRU", "linear_before_reset": True, "sequence_lens": True, "head": "Y_h"},
    "gru-clip": {"op": "GRU", "clip": 0.3},
    "gru-lbr-clip-reverse": {"op": "GRU", "linear_before_reset": True, "clip": 0.3, "direction": "reverse"},
    "rnn": {"op": "RNN"},
    "rnn-bidirectional": {"op": "RNN", "direction": "bidirectional", "layers": 2, "head": "mean"},
    "rnn-states-lens": {"op": "RNN", "initial_states": "input", "sequence_lens": True, "head": "Y_h"},
    "rnn-relu-clip": {"op": "RNN", "activations": ["Relu"], "clip": 0.8},
    "rnn-affine": {"op": "RNN", "activations": ["Affine"], "activation_alpha": [0.6], "activation_beta": [0.1]},
}
