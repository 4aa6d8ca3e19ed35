"""Top: none in the lower half, more towards the top."""

from molex_cli.methods.allocations.bands import Bands
from molex_cli.methods.allocations.base import Shape, register

register("top", Shape(Bands((0, 0, 8, 12))))
