"""`molex export`: a LoRA run in another program's format."""

from molex_cli.checkpoints.hub.opening import located
from molex_cli.cli.parser import Parser
from molex_cli.records.run_folder import adapter_of, require_unrouted
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

SUMMARY = "write a LoRA run as an adapter folder that PEFT opens"
RULE = "molex export must be given a run of LoRA, one expert and no router in each linear"


def main(argv: list[str]) -> int:
    """Write a run's adapter as a folder that PEFT opens."""
    parser = Parser("export", __doc__, examples=("molex export outputs/NAME --output DIR",))
    parser.add_argument("run", type=expanded, metavar="RUN", help="folder of a run, an adapter file, or hub:USER/NAME")
    parser.add_argument("--format", choices=["peft"], default="peft", help="peft (default)")
    parser.add_argument("--output", required=True, type=expanded, metavar="DIR", help="new folder")
    parser.add_argument("--which", choices=["last", "best"], default="last", help="which adapter (default: last)")
    options = parser.parse(argv)
    run = located(options.run)

    require_unrouted(adapter_of(run, options.which), RULE, "molex predict and molex eval use the run itself")
    from molex_cli.checkpoints.peft_export import export

    saved = export(run, options.which, options.output)
    say(f"written to {options.output}, for PeftModel.from_pretrained on {saved.experiment.model.name}")
    if saved.labels:
        say(f"its labels, in their order: {', '.join(saved.labels)}")
    return 0
