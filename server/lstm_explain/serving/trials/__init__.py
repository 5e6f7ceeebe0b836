# SPDX-License-Identifier: Apache-2.0
"""Tries every model in a process of its own, with limits, before a server process loads it."""
