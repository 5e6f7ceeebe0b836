"""The models that a server has: found, loaded, imported, taken out, quarantined."""
