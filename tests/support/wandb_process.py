"""A fixture for tests that start a process of W&B."""

import os
import sys
from contextlib import suppress

import pytest


@pytest.fixture(autouse=True)
def no_process_of_wandb_is_left():
    """End W&B's own process after a test: it belongs to the environment that the test made."""
    yield
    if wandb := sys.modules.get("wandb"):
        with suppress(Exception):
            wandb.teardown()
        os.environ.pop("WANDB_SERVICE", None)
