"""What is tried: one command, after one damage or with one odd setting, flag or variable."""

import json
import os
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatch
from pathlib import Path

from fuzz.damages import FAMILIES, damage, spelt
from fuzz.runner import Place, filled
from fuzz.workspace import Command, commands

WRITES = {
    **dict.fromkeys(("plan", "predict", "list", "sync", "diff"), ()),
    "eval": ("outputs/*/evaluations*",),
    "probe": ("outputs/*/probes*",),
}
"""What a command may write that is none of the workspace's, by its name; all others, anything in its folder."""


@dataclass(frozen=True)
class Try:
    """One try; as JSON it is what repeats it."""

    command: str = ""
    """The name of a command of the workspace; empty where `arguments` are all there is."""
    arguments: tuple[str, ...] = ()
    file: str = ""
    """The file that is damaged, from the working directory."""
    kind: str = ""
    at: int = 0
    value: str = ""
    environment: dict[str, str | None] = field(default_factory=dict)

    def __str__(self) -> str:
        return json.dumps({key: value for key, value in asdict(self).items() if value})

    @property
    def family(self) -> str:
        """Return what is odd: a file, a setting, a flag, the environment or nothing."""
        if self.file:
            return f"file {'value' if self.kind in FAMILIES else self.kind}"
        if self.environment:
            return "environment"
        if not self.arguments:
            return "nothing"
        return "setting" if any("=" in text for text in self.arguments) else "flag"


def of_json(text: str) -> Try:
    """Return the try that a line of a report describes."""
    content = json.loads(text)
    return Try(**{**content, "arguments": tuple(content.get("arguments", ()))})


def do_damage(place: Place, each: Try) -> None:
    """Damage the file of a try, if it has one."""
    if each.file:
        path = place.work / each.file
        damage(path, each.kind, each.at, filled(spelt(path, each.value), place))


@dataclass(frozen=True, repr=False)
class Workspace:
    """What there is to try in a template."""

    template: Place
    commands: dict[str, Command]
    settings: dict[str, tuple[str, ...]]
    """The keys of the settings of a run with each method."""
    files: dict[str, list[str]]
    """The files that each command reads, from the working directory, a file once for every pattern that finds it."""


def workspace(template: Place) -> Workspace:
    """Return what there is to try in a template."""
    found = {each.name: each for each in commands(template.work)}
    settings = {}
    for path in sorted(template.work.glob("outputs/*/record.json")):
        kept = json.loads(path.read_text())["settings"]
        settings[kept["method"]["name"]] = tuple(_keys(kept))
    names = _files(template)
    files = {
        each.name: [name for glob in each.reads for name in names if fnmatch(name, glob)] for each in found.values()
    }
    return Workspace(template, found, settings, files)


def _files(template: Place) -> list[str]:
    """Return the files of the working directory and the cache; links of W&B's lead out of the template."""
    found = (path for name in ("work", "cache") for path in (template.folder / name).rglob("*"))
    return sorted(os.path.relpath(path, template.work) for path in found if path.is_file() and not path.is_symlink())


def _keys(tree: object, above: str = "") -> list[str]:
    if not isinstance(tree, dict) or not tree:
        return [above]
    return [key for name, value in tree.items() for key in _keys(value, f"{above}.{name}" if above else name)]


def arguments(space: Workspace, each: Try) -> tuple[str, ...]:
    """Return the arguments of a try's command."""
    return (*(space.commands[each.command].arguments if each.command else ()), *each.arguments)


def command_of(space: Workspace, each: Try) -> Command:
    """Return the command of a try, with what it may write."""
    if each.command:
        return space.commands[each.command]
    name = each.arguments[0]
    return Command(name, each.arguments, (), WRITES.get(name, ("*",)))


def folder_of(path: str) -> str:
    """Return the run that a file lies in, or its folder."""
    parts = Path(path).parts
    return "/".join(parts[:2]) if parts[:1] == ("outputs",) and len(parts) > 2 else ""
