"""What the clean process imports once, so that the jobs that are forked from it start at once.

It computes nothing: threads that a computation leaves behind would not survive a fork.
"""

import contextlib
import gc
from importlib import import_module

import molex_cli.launching.torchrun
import molex_cli.run  # noqa: F401

FAMILIES = ("bert", "roberta", "gpt2", "llama")  # with what all of transformers' models share

for family in FAMILIES:
    import_module(f"transformers.models.{family}.modeling_{family}")
with contextlib.suppress(ImportError):
    import_module("wandb")
gc.collect()
gc.freeze()  # what is shared with the jobs stays shared
