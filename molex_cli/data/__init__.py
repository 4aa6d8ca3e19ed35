"""Rows to batches: reading, encoding, ordering."""
