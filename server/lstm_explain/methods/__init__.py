"""Explanation methods, one file each, all over the same backward walk."""
