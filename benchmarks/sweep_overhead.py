"""What a sweep costs beyond its jobs: python benchmarks/sweep_overhead.py

Fifty jobs of one step of a tiny model are run as a sweep, and one after the other in one process that has
everything imported. Then a finished sweep of two hundred jobs is asked for again.
"""

import contextlib
import io
import subprocess
import sys
import tempfile
import time

from molex_cli.config import command_line, overrides
from molex_cli.launching.torchrun import run_here

SMALL = ["experiment=smoke", "method=head", "train.max_steps=1"]
BEYOND, FINISHED = 50, 200


def sweep(count, folder):
    """Return the seconds that a sweep over so many seeds takes."""
    command = [sys.executable, "-m", "molex_cli", "train", "-m", *SMALL, f"seed=range(0,{count})"]
    started = time.perf_counter()
    subprocess.run([*command, f"output_dir={folder}"], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - started


def jobs_alone(count, folder):
    """Return the seconds that the same jobs take without a sweep around them."""
    made = [
        overrides.checked(command_line.CommandLine(overrides=[*SMALL, f"seed={seed}", f"output_dir={folder}"]))
        for seed in range(count + 1)
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        run_here(made.pop())  # imports
        started = time.perf_counter()
        for experiment in made:
            run_here(experiment)
    return time.perf_counter() - started


def main():
    with tempfile.TemporaryDirectory() as folder:
        whole = sweep(BEYOND, f"{folder}/sweep")
        alone = jobs_alone(BEYOND, f"{folder}/alone")
        beyond = (whole - alone) / BEYOND
        print(f"{BEYOND} jobs: {whole:.1f} s as a sweep, {alone:.1f} s alone: {beyond:.2f} s a job beyond")
        sweep(FINISHED, f"{folder}/sweep")
        print(f"{FINISHED} finished jobs asked for again: {sweep(FINISHED, f'{folder}/sweep'):.1f} s in all")


if __name__ == "__main__":
    main()
