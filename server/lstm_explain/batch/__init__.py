"""Explains whole data sets, shard by shard: data files in, Parquet files out."""
