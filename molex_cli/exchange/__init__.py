"""Runs in other programs' formats: to and from PEFT's adapter folders, and merged into one model."""
