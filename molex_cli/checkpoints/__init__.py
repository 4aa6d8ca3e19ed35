"""Adapter files and saved runs; to and from PEFT, merged into one model."""
