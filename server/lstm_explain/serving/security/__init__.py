# SPDX-License-Identifier: Apache-2.0
"""Decides who may call, and over which connections."""
