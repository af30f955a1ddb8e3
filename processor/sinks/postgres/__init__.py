"""Totals, dedupe keys and checkpoints in one PostgreSQL transaction."""
