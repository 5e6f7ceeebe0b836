"""Reads models as their owners keep them (folders, model.yaml, tokenizer, limits), and prepares them for requests."""
