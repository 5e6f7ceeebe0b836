# SPDX-License-Identifier: Apache-2.0
"""Reads models as their owners keep them (folders, model.yaml, tokenizer, limits), and prepares them for requests."""
