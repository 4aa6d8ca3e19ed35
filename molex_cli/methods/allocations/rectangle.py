"""Rectangle: as many experts in every layer (MoLA, arXiv 2402.08562, section 5.1)."""

from molex_cli.methods.allocations.bands import Bands
from molex_cli.methods.allocations.base import Shape, register

register("rectangle", Shape(Bands((5, 5, 5, 5))))
