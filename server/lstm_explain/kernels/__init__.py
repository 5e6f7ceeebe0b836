# SPDX-License-Identifier: Apache-2.0
"""The time loops of LSTM, GRU and RNN, compiled."""

from __future__ import annotations

from lstm_explain.kernels import cache_folder

cache_folder.register()
