"""Logs, metrics and traces, and the output of native code."""
