"""Runs a model many times on changed inputs, and puts what came of it together: what methods of many runs share."""
