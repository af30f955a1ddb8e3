"""Accounting: the log counted again, beside the workers that count it."""
