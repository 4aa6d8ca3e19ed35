"""Inverted: more experts in higher layers (MoLA, arXiv 2402.08562, section 5.1)."""

from molex_cli.methods.allocations.bands import Bands
from molex_cli.methods.allocations.base import Shape, register

register("inverted", Shape(Bands((2, 4, 6, 8))))
