"""Whole data sets: explained shard by shard, in this process or on a Ray cluster. Knows nothing of gRPC."""
