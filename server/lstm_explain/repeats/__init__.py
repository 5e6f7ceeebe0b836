# SPDX-License-Identifier: Apache-2.0
"""Recognises a cell that an exporter unrolled over time, and writes its repeats as one Scan."""
