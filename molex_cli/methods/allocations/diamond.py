"""Diamond: more experts in the middle (MoLA, arXiv 2402.08562, section 5.1)."""

from molex_cli.methods.allocations.bands import Bands
from molex_cli.methods.allocations.base import Shape, register

register("diamond", Shape(Bands((2, 8, 8, 2))))
