"""How much runs at once, in which thread, and what ends it."""
