"""Where a training step waits for its device, and how often: what is queued on a GPU runs dry meanwhile.

    python benchmarks/waits.py [SETTING ...] [--models minilm ...] [--methods lora ...]

On a GPU these are the waits that torch reports (torch.cuda.set_sync_debug_mode). On a CPU they are the operations that
would be: those whose result Python reads, or whose size depends on what a tensor holds; "elsewhere" is neither ours nor
a model's. Counted is the fifth step of the training loop, on random tokens. It has to wait once, for the numbers that
it reports.
"""

import argparse
import itertools
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from step_memory import real_steps
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

METHODS = ("bitfit", "lora", "mola_inverted", "mixlora", "molex", "peft/dora")
ROOTS = ("molex_cli", "peft", "transformers")
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "_unique2", "bincount")
WAITED = "called a synchronizing"
"""What torch begins to say of a wait; of other things it warns too."""
places = Counter[str]()


class Operations(TorchDispatchMode):
    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        chosen = args[1] if len(args) > 1 and isinstance(args[1], list | tuple) else ()  # as by x[mask]
        if name in WAITING or any(isinstance(each, torch.Tensor) and each.dtype is torch.bool for each in chosen):
            places[place()] += 1
        return func(*args, **(kwargs or {}))


class Lists(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in (torch.Tensor.tolist, torch.Tensor.numpy, torch.Tensor.cpu):  # which are no operations
            places[place()] += 1
        return func(*args, **(kwargs or {}))


def place() -> str:
    """Return the innermost line of ours, or of a library that knows models, that is being computed."""
    frames = [(Path(frame.filename).parts, frame.lineno) for frame in reversed(traceback.extract_stack())]
    known = (f"{'/'.join(at[at.index(root) :])}:{line}" for at, line in frames for root in ROOTS if root in at)
    return next(known, "elsewhere")


@contextmanager
def waits() -> Iterator[Counter[str]]:
    """Count what is waited for inside, by the line of code."""
    places.clear()
    if not torch.cuda.is_available():
        with Operations(), Lists():
            yield places
        return
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = lambda message, *_, **__: places.update([place()] * str(message).startswith(WAITED))
        torch.cuda.set_sync_debug_mode("warn")
        try:
            yield places
        finally:
            torch.cuda.set_sync_debug_mode("default")


def waits_of_step(settings: list[str], number: int = 5) -> Counter[str]:
    """Return where a step of this number, from 1, waits."""
    run = real_steps([*settings, f"train.max_steps={number}"])
    for _ in range(number - 1):
        next(run)
    with waits() as found:
        next(run)
    return Counter(found)


def main() -> None:
    """Print each arm's waits."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["tiny_bert", "tiny_llama"])
    parser.add_argument("--methods", nargs="+", default=METHODS)
    parser.add_argument("settings", nargs="*", default=[])
    options = parser.parse_intermixed_args()
    for model, method in itertools.product(options.models, options.methods):
        sizes = ["train.batch_size=4", "train.max_length=32"]
        found = waits_of_step([f"model={model}", f"method={method}", *sizes, *options.settings])
        print(f"{model} {method}: {found.total()}", *(f"{n} x {at}" for at, n in found.items()), sep="\n  ", flush=True)


if __name__ == "__main__":
    main()
