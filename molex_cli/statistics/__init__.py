"""Tests and intervals; how alike experts are; no torch."""
