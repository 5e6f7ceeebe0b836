# SPDX-License-Identifier: Apache-2.0
"""The audit log: who had what explained, by which version of a model, and who changed the models."""
