# SPDX-License-Identifier: Apache-2.0
"""The processes of one server: a parent that holds the port, and the workers that serve it."""
