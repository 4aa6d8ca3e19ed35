"""A training step on a GPU, which these machines do not have."""

import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1]


def test_no_tensor_of_a_step_is_left_on_the_cpu():
    methods = ["lora", "mola_inverted", "mola_random", "mixlora", "molex", "full"]
    command = [sys.executable, "-m", "support.step_on_gpu", *methods]
    done = subprocess.run(command, cwd=TESTS, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [f"{method} gpu:0 torch.float32" for method in methods]
