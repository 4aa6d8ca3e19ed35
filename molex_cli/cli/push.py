"""`molex push`: a run's adapter on the Hugging Face hub, with a model card."""

import argparse
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from molex_cli.checkpoints.hub import trouble
from molex_cli.checkpoints.hub.opening import located
from molex_cli.cli.parser import Parser
from molex_cli.runtime.paths import expanded
from molex_cli.runtime.streams import say

if TYPE_CHECKING:
    from molex_cli.checkpoints.hub.folder import Wanted

SUMMARY = "send a run's adapter to the Hugging Face hub, with a model card"
MESSAGE = "A run of molex"


def main(argv: list[str]) -> int:
    """Send a run, or write what would be sent into a folder."""
    options = _parser().parse(argv)
    trouble.require_names(options.repo, options.revision)
    token = None if options.dry_run else trouble.require_token()
    run = located(options.run)

    from molex_cli.checkpoints.hub import folder

    wanted = _wanted(options)
    folder.require_pushable(run, wanted)
    if token is None:
        return _written(run, wanted, options.dry_run)
    return _sent(run, wanted, token, options)


def _parser() -> Parser:
    parser = Parser(
        "push",
        "Send a run's adapter, its record and a model card to a repository of the Hugging Face hub, which is made if "
        "need be. Folders, host and accounts of this machine are left out. hub:USER/NAME then stands for the run "
        "wherever a command opens one.",
        examples=(
            "molex push outputs/NAME --repo USER/NAME --dry-run DIR",
            "molex push outputs/NAME --repo USER/NAME --which best --private",
        ),
    )
    parser.add_argument("run", type=expanded, metavar="RUN", help="folder of a finished run")
    parser.add_argument("--repo", required=True, metavar="USER/NAME", help="repository on the hub")
    parser.add_argument("--which", choices=["last", "best"], default="last", help="which adapter (default: last)")
    parser.add_argument("--private", action="store_true", help="make the repository private if it is new")
    parser.add_argument("--revision", metavar="BRANCH", help="branch to send to, made if need be (default: main)")
    parser.add_argument("--message", default=MESSAGE, metavar="TEXT", help="message of the commit")
    parser.add_argument("--license", metavar="ID", help="licence for the card's metadata, as the hub names it: mit")
    parser.add_argument("--predictions", action="store_true", help="send the predictions of the evaluation, too")
    parser.add_argument("--peft", action="store_true", help="write PEFT's adapter beside (LoRA; needs the extra peft)")
    parser.add_argument(
        "--degenerate", action="store_true", help="send a degenerate run, too; its card says what it is"
    )
    parser.add_argument("--dry-run", type=expanded, metavar="DIR", help="write all into a new folder, send nothing")
    return parser


def _wanted(options: argparse.Namespace) -> "Wanted":
    from molex_cli.checkpoints.hub.folder import Wanted

    return Wanted(
        repo=options.repo,
        revision=options.revision,
        which=options.which,
        license=options.license,
        predictions=options.predictions,
        peft=options.peft,
        message=options.message,
        degenerate=options.degenerate,
    )


def _written(run: Path, wanted: "Wanted", output: Path) -> int:
    from molex_cli.checkpoints.folders import new_folder
    from molex_cli.checkpoints.hub import folder

    with new_folder(output, "--dry-run") as temporary:
        folder.write(run, wanted, temporary)
    say(f"written to {output}, nothing was sent: {_listed(output)}")
    return 0


def _sent(run: Path, wanted: "Wanted", token: str, options: argparse.Namespace) -> int:
    from molex_cli.checkpoints.hub import folder, upload

    with tempfile.TemporaryDirectory() as name:
        temporary = Path(name)
        folder.write(run, wanted, temporary, [token])
        about = {"private": options.private, "revision": options.revision, "message": wanted.message}
        sent = upload.send(temporary, options.repo, token, **about)
        files = _listed(temporary)
    say(
        f"{files} sent to {sent.url}, commit {sent.commit[:12]}"
        if sent.changed
        else f"{sent.url} has all of it already"
    )
    say(f"molex eval {_name(wanted)}{'' if wanted.which == 'last' else ' which=best'}")
    return 0


def _name(wanted: "Wanted") -> str:
    return f"hub:{wanted.repo}" + (f"@{wanted.revision}" if wanted.revision else "")


def _listed(folder: Path) -> str:
    return ", ".join(sorted(path.name for path in folder.iterdir()))
