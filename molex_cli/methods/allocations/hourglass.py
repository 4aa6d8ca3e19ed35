"""Hourglass: more experts at both ends (MoLA, arXiv 2402.08562, section 5.1)."""

from molex_cli.methods.allocations.bands import Bands
from molex_cli.methods.allocations.base import Shape, register

register("hourglass", Shape(Bands((8, 2, 2, 8))))
