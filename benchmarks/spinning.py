"""How long OpenMP's threads should spin while they wait: two runs at once on two cores against one alone.

    python benchmarks/spinning.py [--values unset 0 1000 passive] [--rounds 7] [model=minilm method=mola_inverted]

Each value has two processes of two threads that do training steps (16 x 64 tokens). In every round each value is
measured alone and as a pair, values in an order drawn anew, so that what else the machine does hits all alike. Medians
of ratios: alone, the step against that of the value `unset` in the same round (below 1 is faster); as a pair, the speed
of the slower of the two against its speed alone.
"""

import argparse
import os
import random
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field

VARIABLES = ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY", "KMP_BLOCKTIME")


def work(settings: list[str]) -> None:
    """Do as many training steps as each line of the standard input says, and print their median time."""
    import torch

    torch.set_num_threads(2)
    from molex_cli.config import command_line, overrides
    from molex_cli.cost import training_step

    experiment = overrides.checked(command_line.CommandLine(overrides=settings))
    load = training_step.Load(rows=16, tokens=64, rounds=1)
    step = training_step.stepper(experiment.method.name, [experiment], load)
    print("ready", flush=True)
    for line in sys.stdin:
        seconds = []
        until = time.perf_counter() + float(line)
        while time.perf_counter() < until or not seconds:
            started = time.perf_counter()
            step()
            seconds.append(time.perf_counter() - started)
        print(statistics.median(seconds), flush=True)


def started(value: str, settings: list[str]) -> subprocess.Popen[str]:
    """Start a worker whose OpenMP waits as the value says."""
    environment = {name: text for name, text in os.environ.items() if name not in VARIABLES}
    environment |= {"OMP_NUM_THREADS": "2", "TOKENIZERS_PARALLELISM": "false", "MOLEX_OPENMP": "as it comes"}
    if value == "passive":
        environment["OMP_WAIT_POLICY"] = "PASSIVE"
    elif value != "unset":
        environment["GOMP_SPINCOUNT"] = value
    command = [sys.executable, __file__, "--work", *settings]
    return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def timed(worker: subprocess.Popen[str], seconds: float) -> float:
    """Return the median time of a worker's steps over so many seconds."""
    assert worker.stdin
    assert worker.stdout
    worker.stdin.write(f"{seconds}\n")
    worker.stdin.flush()
    return float(worker.stdout.readline())


def timed_together(pair: list[subprocess.Popen[str]], seconds: float) -> list[float]:
    """Return the median step times of two workers that run at once."""
    found = [0.0, 0.0]

    def one(index: int) -> None:
        found[index] = timed(pair[index], seconds)

    threads = [threading.Thread(target=one, args=(index,)) for index in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


@dataclass
class Found:
    """What was measured of a value, a number a round."""

    alone: list[float] = field(default_factory=list)
    pair: list[float] = field(default_factory=list)


def main() -> None:
    """Measure and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="*", help="of the run; minilm with MoLA unless given")
    parser.add_argument("--values", nargs="+", default=["unset", "0", "300", "1000", "3000", "10000", "passive"])
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=3.0, help="of a measurement")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work(options.settings)
        return
    workers = {value: [started(value, options.settings) for _ in range(2)] for value in options.values}
    for pair in workers.values():
        for worker in pair:
            assert worker.stdout
            worker.stdout.readline()
            timed(worker, 1.0)
    found = {value: Found() for value in workers}
    print(f"load average before: {os.getloadavg()[0]:.2f}", flush=True)
    for _ in range(options.rounds):
        for value in random.sample(options.values, len(options.values)):
            found[value].alone.append(timed(workers[value][0], options.seconds))
        for value in random.sample(options.values, len(options.values)):
            found[value].pair.append(max(timed_together(workers[value], options.seconds)))
    report(found)
    for pair in workers.values():
        for worker in pair:
            worker.kill()


def report(found: dict[str, Found]) -> None:
    """Print the table."""
    base = found.get("unset") or next(iter(found.values()))
    print(
        "| spin count | ms a step, alone | x unset | ms, two at once | of the speed alone |\n|---|---:|---:|---:|---:|"
    )
    for value, each in found.items():
        ratio = statistics.median(a / b for a, b in zip(each.alone, base.alone, strict=True))
        speed = statistics.median(a / b for a, b in zip(each.alone, each.pair, strict=True))
        alone, pair = (1000 * statistics.median(times) for times in (each.alone, each.pair))
        print(f"| {value} | {alone:.0f} | {ratio:.3f} | {pair:.0f} | {speed:.2f} |", flush=True)


if __name__ == "__main__":
    main()
