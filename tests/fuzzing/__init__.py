"""Damaged models for the importer: what is changed (mutate), who tries it (worker), who watches (watch)."""
