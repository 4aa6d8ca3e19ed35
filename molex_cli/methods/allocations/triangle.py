"""Triangle: more experts in lower layers (MoLA, arXiv 2402.08562, section 5.1)."""

from molex_cli.methods.allocations.bands import Bands
from molex_cli.methods.allocations.base import Shape, register

register("triangle", Shape(Bands((8, 6, 4, 2))))
