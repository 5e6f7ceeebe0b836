# SPDX-License-Identifier: Apache-2.0
"""The steps of a program, one file per kind: how each runs, and how it specialises itself for shapes that repeat."""
