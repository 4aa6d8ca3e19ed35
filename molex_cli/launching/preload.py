"""What the clean process imports once, so that the jobs that are forked from it start at once.

It computes nothing: threads that a computation leaves behind would not survive a fork.
"""

import contextlib
import gc
import signal
from importlib import import_module

FAMILIES = ("bert", "roberta", "gpt2", "llama")  # with what all of transformers' models share

raises = signal.signal(signal.SIGINT, signal.SIG_DFL)  # Ctrl-C in the midst of imports ends this process without a word
for name in ("molex_cli.run", "molex_cli.launching.torchrun"):
    import_module(name)
for family in FAMILIES:
    import_module(f"transformers.models.{family}.modeling_{family}")
with contextlib.suppress(ImportError):
    import_module("wandb")
gc.collect()
gc.freeze()  # what is shared with the jobs stays shared
signal.signal(signal.SIGINT, raises)  # for the jobs, which write their records first
