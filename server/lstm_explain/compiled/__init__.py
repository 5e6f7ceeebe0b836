# SPDX-License-Identifier: Apache-2.0
"""Compiles a model and a method to one ONNX file that predicts and explains, without this package at run time.

The rules of `operators` and the steps of `program` run unchanged on arrays that write down what is done to them as ONNX
nodes (`arrays.py`, `namespace.py`). Only recurrent nodes, whose rules are kernels in the engine, have a description of
their own (`recurrent/`).
"""
