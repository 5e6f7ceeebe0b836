# SPDX-License-Identifier: Apache-2.0
"""Runs a model many times on changed inputs, and combines the results: the shared parts of methods that need many
runs.
"""
