"""Trustworthy comparisons of parameter-efficient fine-tuning methods."""

from molex_cli.runtime.openmp import bound_spinning

__version__ = "0.1.0"

bound_spinning()  # before anything loads torch, in whatever process
