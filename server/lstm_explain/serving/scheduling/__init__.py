# SPDX-License-Identifier: Apache-2.0
"""Decides how many requests run at once, in which threads, and when they are cancelled."""
