"""One program per plan and method: the steps that run a graph forward, and those that walk back through it."""
