# SPDX-License-Identifier: Apache-2.0
"""Damaged models: how they are changed (mutate), the process that tries them (worker), and the process that watches it
(watch).
"""
