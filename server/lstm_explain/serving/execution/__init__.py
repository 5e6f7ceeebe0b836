"""Runs requests on the engine: forms batches, and the runs that answer them."""
