# SPDX-License-Identifier: Apache-2.0
"""Runs requests on the engine: forms batches, and the runs that answer them."""
