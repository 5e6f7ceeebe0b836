# SPDX-License-Identifier: Apache-2.0
"""Manages the models of a server: finds, loads, imports, evicts and quarantines their versions."""
