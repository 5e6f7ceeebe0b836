"""Decides who may call, and over which connections."""
