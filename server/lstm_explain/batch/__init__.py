# SPDX-License-Identifier: Apache-2.0
"""Explains whole data sets, shard by shard: data files in, Parquet files out."""
