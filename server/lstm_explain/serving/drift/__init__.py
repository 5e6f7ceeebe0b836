# SPDX-License-Identifier: Apache-2.0
"""Compares the relevance that is served with a reference, and says when it drifts."""
