"""The file of a study: what is compared, at which cost, how often at least and at most, and what is claimed."""

import hashlib
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations, product
from pathlib import Path
from typing import Any, Literal

import msgspec
from msgspec import Struct, field

from molex_cli.config import own_files
from molex_cli.config.hydra_internals import yaml_loader
from molex_cli.config.parsing import key_of
from molex_cli.config.sweeps import as_text
from molex_cli.errors import ConfigError, nearest
from molex_cli.records import NOT_IN_VARIANT, as_json
from molex_cli.runtime.paths import require_file
from molex_cli.statistics.sequential import DRAWS

FIRST_TUNING_SEED = 1000  # the reported seeds begin at 0
MOST_SEEDS = 100
CLAIM = re.compile(r"^\s*(?P<better>.+?)\s+>\s+(?P<than>.+?)\s*$")
UNKNOWN = re.compile(r"unknown field `(?P<key>.*?)`( - at|$)")
WHERE = re.compile(r" - at (`(key|value)` in )?`\$\.?(?P<where>.*)`$")
EXPECTED = re.compile(r"Expected `(?P<expected>\w+)( \| null)?`, got `(?P<got>\w+)`")
WORDS = {
    "array": "a list",
    "object": "a section",
    "str": "text",
    "int": "a whole number",
    "float": "a number",
    "null": "nothing",
}
NOT_TUNED = (*NOT_IN_VARIANT, "task", "stages", "train.selection", "train.selection_seed", "train.max_rows")
"""What changes on which rows, or where, a run is scored."""


class Match(Struct, forbid_unknown_fields=True, frozen=True):
    """Every arm gets the budget of one."""

    to: str
    by: Literal["parameters", "flops"] = "parameters"
    solve: Literal["rank", "total", "mean"] = "rank"
    within: float = 0.1
    """Largest difference from that budget, as a share of it."""


class Seeds(Struct, forbid_unknown_fields=True, frozen=True):
    """How many seeds every arm has at first, and at most."""

    first: int = 3
    most: int = 12
    start: int = 0
    """The first one; a study that goes on from another has seeds that were not seen yet."""


class Tune(Struct, frozen=True):
    """Values to choose from, by the mean score on the selection rows over seeds of their own."""

    grid: dict[str, list[Any]]
    seeds: int = 2

    def combinations(self) -> list[tuple[Any, ...]]:
        """Return every choice of a value of each setting."""
        return list(product(*self.grid.values()))

    def overrides(self, values: Sequence[Any]) -> list[str]:
        """Return a choice as for `molex train`."""
        return [f"{key}={as_text(value)}" for key, value in zip(self.grid, values, strict=True)]

    @property
    def each_seed(self) -> range:
        """Return the seeds, which no reported run has."""
        return range(FIRST_TUNING_SEED, FIRST_TUNING_SEED + self.seeds)


class Claim(Struct, frozen=True):
    """The hypothesis that one arm is better than another; of all pairs, that they differ."""

    one: str
    other: str
    is_directed: bool = True

    def __str__(self) -> str:
        return f"{self.one} {'>' if self.is_directed else 'and'} {self.other}"


class Study(Struct, forbid_unknown_fields=True, frozen=True):
    """A study as its file describes it."""

    arms: dict[str, list[str]]
    base: list[str] = field(default_factory=list)
    match: Match | None = None
    tune: dict[str, Any] | None = None
    claims: list[str] | None = None
    seeds: Seeds = field(default_factory=Seeds)
    alpha: float = 0.05
    which: Literal["last", "best"] = "last"
    """Evaluation that is compared."""

    def digest(self, variants: Mapping[str, str]) -> str:
        """Return what changes when anything but the wording of the file does; `variants` are those of its arms."""
        return hashlib.sha256(as_json([msgspec.to_builtins(self), variants]).encode()).hexdigest()

    @property
    def tuning(self) -> Tune | None:
        """Return what is tuned; None for nothing."""
        if self.tune is None:
            return None
        grid = {key: values for key, values in self.tune.items() if key != "seeds"}
        return Tune(grid, self.tune.get("seeds", Tune.__struct_defaults__[0]))

    @property
    def contests(self) -> list[Claim]:
        """Return the claims, or every pair of arms."""
        if self.claims is None:
            return [Claim(one, other, is_directed=False) for one, other in combinations(self.arms, 2)]
        found = [CLAIM.match(claim) for claim in self.claims]
        return [Claim(each["better"], each["than"]) for each in found if each]


def read(path: Path) -> Study:
    """Return the study in a YAML file; raise ConfigError with every problem, each with the file's name."""
    try:
        require_file(path)
    except OSError as error:
        raise ConfigError(f"a study must be a YAML file, got {path} ({error.strerror})") from None
    node = own_files.content(path)
    content = {} if node is None else yaml_loader()("").construct_document(node)
    try:
        study: Study = msgspec.convert(content, Study)
    except msgspec.ValidationError as error:
        raise ConfigError(f"{path}: {_misfit(str(error))}") from None
    if found := list(_problems(study)):
        raise ConfigError([f"{path}: {problem}" for problem in found])
    return study


def _misfit(message: str) -> str:
    """Return msgspec's complaint with the key first, and for an unknown key the nearest known one."""
    found = WHERE.search(message)
    where, what = (found["where"], message[: found.start()]) if found else ("", message)
    if unknown := UNKNOWN.search(message):
        kind = {"match": Match, "seeds": Seeds}.get(where, Study)
        return f"{where or 'a study'} has no {unknown['key']}; {nearest(unknown['key'], kind.__struct_fields__)}"
    if fitting := EXPECTED.fullmatch(what):
        expected, got = (WORDS.get(fitting[name], fitting[name]) for name in ("expected", "got"))
        return f"{where or 'a study'} must be {expected}, got {got}"
    return f"{where or 'a study'} must be as docs/study.md shows, got: {what[:1].lower()}{what[1:]}"


def _problems(study: Study) -> Iterator[str]:
    """Yield what is wrong with a study, each with its key."""
    if len(study.arms) < 2:
        yield f"arms must be two at least, got {', '.join(study.arms) or 'none'}"
    for name in study.arms:
        if not name.strip() or " > " in name:
            yield f"arms must have names without >, got {name or 'an empty one'}"
    yield from _seed_problems(study)
    least = len(study.contests) / DRAWS  # smaller ones no claim could reach
    if not least < study.alpha < 1:
        yield f"alpha must be between {least:.1g} and 1, got {study.alpha}"
    for where, overrides in {"base": study.base, **{f"arms.{name}": each for name, each in study.arms.items()}}.items():
        for text in overrides:
            if key_of(text) == "seed":
                yield f"{where} must leave the seed to the study, got {text}; seeds.first and seeds.most count them"
    if study.match:
        yield from _match_problems(study, study.match)
    if study.tuning:
        yield from _tune_problems(study, study.tuning)
    yield from list(_claim_problems(study)) or _unclaimed(study)


def _seed_problems(study: Study) -> Iterator[str]:
    first, most, start = study.seeds.first, study.seeds.most, study.seeds.start
    if first < 3:
        yield f"seeds.first must be at least 3, got {first}; fewer have no p"
    if most < first:
        yield f"seeds.most must be at least seeds.first, got {most} and {first}"
    if most > MOST_SEEDS:
        yield f"seeds.most must be at most {MOST_SEEDS}, got {most}"
    if start < 0:
        yield f"seeds.start must be at least 0, got {start}"


def _match_problems(study: Study, match: Match) -> Iterator[str]:
    if match.to not in study.arms:
        yield f"match.to must be an arm, got {match.to}; {nearest(match.to, study.arms)}"
    if not 0 < match.within < 1:
        yield f"match.within must be between 0 and 1, got {match.within}"


def _tune_problems(study: Study, tune: Tune) -> Iterator[str]:
    if not tune.grid:
        yield "tune must name a setting and its values, got none; for example train.learning_rate: [5e-4, 1e-3]"
    start, most = study.seeds.start, study.seeds.most
    if not (type(tune.seeds) is int and 1 <= tune.seeds <= MOST_SEEDS):
        yield f"tune.seeds must be a number of seeds from 1 to {MOST_SEEDS}, got {tune.seeds}"
    elif set(tune.each_seed) & set(range(start, start + most)):
        yield f"seeds.start must leave the seeds from {FIRST_TUNING_SEED} on to tuning, got {start} with {most} at most"
    for key, values in tune.grid.items():
        if any(key == each or key.startswith(f"{each}.") for each in NOT_TUNED):
            yield f"tune must leave alone on what and where runs are scored, got {key}"
        if not isinstance(values, list) or not values:
            yield f"tune.{key} must be a list of values, got {values if values != [] else 'an empty one'}"
        elif len({as_text(value) for value in values}) < len(values):
            yield f"tune.{key} must have each value once, got {', '.join(map(as_text, values))}"
    if study.match and any(key.endswith(f".{study.match.solve}") for key in tune.grid):
        yield f"tune must leave alone what match solves, got {study.match.solve} in both"


def _claim_problems(study: Study) -> Iterator[str]:
    if study.claims == []:
        yield "claims must have one at least, got none; without claims all pairs are compared"
    for claim in study.claims or ():
        if not CLAIM.match(claim):
            yield f"claims must read ARM > ARM, got {claim}"
    seen = set[frozenset[str]]()
    for contest in study.contests:
        pair = frozenset((contest.one, contest.other))
        for name in sorted(pair - set(study.arms)):
            yield f"claims must be on the arms, got {name} in {contest}; {nearest(name, study.arms)}"
        if len(pair) == 1:
            yield f"claims must be on two arms, got {contest}"
        elif pair in seen:
            yield f"claims must have each pair of arms once, got {contest} again"
        seen.add(pair)


def _unclaimed(study: Study) -> Iterator[str]:
    unclaimed = [name for name in study.arms if name not in arms_in(study.contests)]
    if unclaimed and len(study.arms) > 1:
        yield f"claims must name every arm, got none on {', '.join(unclaimed)}, which would never run; leave it out"


def arms_in(claims: Sequence[Claim]) -> list[str]:
    """Return the arms of some claims."""
    return list(dict.fromkeys(name for claim in claims for name in (claim.one, claim.other)))
