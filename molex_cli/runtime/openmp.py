"""How long the threads of OpenMP spin while they wait for each other; no torch."""

import os
import sys

# docs/performance.md has the measurements. GNU's counts turns of a loop, Intel's and LLVM's milliseconds.
BOUNDS = {"GOMP_SPINCOUNT": "3000", "KMP_BLOCKTIME": "1"}
POLICIES = ("OMP_WAIT_POLICY", "KMP_LIBRARY")  # a policy of the user's own says how to wait


def bound_spinning() -> None:
    """Let waiting threads soon leave their core to others, here and in the processes that this one starts.

    OpenMP reads its variables when torch is loaded, so later calls do nothing. What the user has set stays.
    """
    if "torch" in sys.modules or any(name in os.environ for name in POLICIES):
        return
    for name, value in BOUNDS.items():
        os.environ.setdefault(name, value)
