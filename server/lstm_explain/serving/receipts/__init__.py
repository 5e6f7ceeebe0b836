# SPDX-License-Identifier: Apache-2.0
"""Receipts: signed records of explanations that anyone with model and input can check (docs/provenance.md)."""
