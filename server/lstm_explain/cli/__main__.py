# SPDX-License-Identifier: Apache-2.0
"""Runs the command line as `python -m lstm_explain.cli`."""

from lstm_explain.cli import main

main()
