"""Pretrained models: where they come from, and the structure methods work on."""
