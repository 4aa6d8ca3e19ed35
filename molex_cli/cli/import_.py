"""`molex import`: a LoRA adapter that PEFT wrote, as a saved run."""

from molex_cli.cli import saved
from molex_cli.cli.parser import Parser
from molex_cli.config import command_line, overrides
from molex_cli.errors import ConfigError
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

SUMMARY = "read a LoRA adapter that PEFT wrote as a saved run"
READ = ("model", "task", "data_dir", "cache_dir", "seed", "train.max_length", "train.eval_batch_size")


def main(argv: list[str]) -> int:
    """Write a folder that molex eval and molex predict open as any saved run."""
    parser = Parser(
        "import",
        __doc__,
        examples=("molex import DIR model=roberta_base task=glue/rte --output outputs/theirs",),
    )
    parser.add_argument("folder", type=expanded, metavar="DIR", help="PEFT's adapter folder")
    parser.add_overrides("model= it was trained on, task= it answers", reads=READ)
    parser.add_argument("--output", required=True, type=expanded, metavar="RUNDIR", help="new folder of the run")
    options = parser.parse(argv)
    if not options.folder.is_dir():
        what = "is a file" if options.folder.exists() else "does not exist"
        raise ConfigError(f"{options.folder} {what}; name the folder that PEFT wrote, with adapter_config.json in it")
    wrong = [text for text in options.overrides if text.startswith(("method=", "method."))]
    if wrong:
        raise ConfigError(f"method must be left out, got {wrong[0]}; the adapter says rank, alpha and targets")
    experiment = overrides.checked(command_line.CommandLine(overrides=[*options.overrides, "method=lora"]))
    saved.require_known(options.overrides, READ)
    if experiment.stages:
        raise ConfigError(f"task must be one task, got a sequence of {len(experiment.stages)}")

    from molex_cli.checkpoints.peft_import import import_adapter, read
    from molex_cli.methods.lora import LoRA

    adapter = read(options.folder)
    method = import_adapter(adapter, experiment, options.output).method
    if adapter.base and adapter.base not in (experiment.model.name, experiment.model.hub):
        say(f"note: PEFT names its base as {adapter.base}; the run takes model={experiment.model.name}")
    assert isinstance(method, LoRA)
    counts = f" x {' '.join(map(str, layers))}" if (layers := method.allocation.layers) else ""
    name = f"{method.display_name} of rank {method.rank}{counts}"
    say(f"written to {options.output}: {name}; molex eval outputs/NAME")
    return 0
