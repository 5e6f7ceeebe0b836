"""Every operator, its kind and its vector-Jacobian product, in one table."""
