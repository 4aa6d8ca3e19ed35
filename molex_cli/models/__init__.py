"""Backbones: where they come from, how they are loaded, their blocks and linears."""
