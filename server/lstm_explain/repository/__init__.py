"""A model as its owner keeps it: folders, model.yaml, tokenizer, limits; and as it is served and run in batches."""
