"""`molex merge`: a run as one Hugging Face model."""

from molex_cli.checkpoints.hub.opening import located
from molex_cli.cli.parser import Parser
from molex_cli.records.run_folder import adapter_of, require_unrouted
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

SUMMARY = "write a run as one Hugging Face model, with its updates added to the weights"
RULE = "molex merge must be given a run without routers"
WAY_OUT = "its expert or layer depends on the input, so that no one weight is equal to it: molex predict uses the run"


def main(argv: list[str]) -> int:
    """Write the model with the run's updates in its weights, and its tokenizer."""
    parser = Parser("merge", __doc__, examples=("molex merge outputs/NAME --output DIR",))
    parser.add_argument("run", type=expanded, metavar="RUN", help="folder of a run, an adapter file, or hub:USER/NAME")
    parser.add_argument("--output", required=True, type=expanded, metavar="DIR", help="new folder")
    parser.add_argument("--which", choices=["last", "best"], default="last", help="which adapter (default: last)")
    options = parser.parse(argv)
    run = located(options.run)

    require_unrouted(adapter_of(run, options.which), RULE, WAY_OUT)
    from molex_cli.checkpoints.merge import merge

    saved = merge(run, options.which, options.output)
    say(f"written to {options.output}: {saved.experiment.model.name} with {saved.experiment.method.display_name} in it")
    return 0
