# SPDX-License-Identifier: Apache-2.0
"""One program per plan and method: the steps that run a graph forward, and the steps of the backward pass."""
