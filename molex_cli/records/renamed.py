"""Settings and keys that once had other names or were not there: files of before open, and ids stay what they were."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

TRAIN = {"accumulate": "gradient_accumulation_steps", "warmup": "warmup_ratio", "clip": "max_grad_norm"}
TASK = {"protocol": "answer_mode"}
ADDED: dict[str, Any] = {
    "task.objective": None,
    "model.dropout": None,
    "train.warmup_steps": None,
    "train.decay_biases_and_norms": True,
    "train.adam_beta1": 0.9,
    "train.adam_beta2": 0.999,
    "train.adam_epsilon": 1e-8,
    "train.label_smoothing": 0.0,
    "train.selection": 0.0,
    "train.selection_seed": 0,
    "cache_gb": 0.0,
    "log.routing": "full",
    "train.frozen_dropout": True,
    "method.which": "blocks",
    "method.voters": "prompt",
    "method.attend_padding": False,
    "method.joint_parts": [],
    "method.same_start": False,
    "method.dropout_per_expert": False,
    "method.scaling": "alpha_over_rank",
    "task.positive": None,
    "task.hub.revision": None,
    "task.metric_files": [],
    "task.metric_arguments": {},
    "task.higher_is_better": [],
    "task.lower_is_better": [],
    "preset": None,
    "task.files.split": None,
    "task.files.split_seed": 0,
    "task.official.split": None,
    "task.official.split_seed": 0,
    "method.allocation": {},
    "method.allocation.shape": None,
    "method.allocation.seed": 0,
    "method.allocation.mean": None,
    "method.allocation.total": None,
    "method.allocation.min": 1,
    "method.allocation.max": None,
    "method.allocation.bands": None,
    "method.allocation.layers": None,
    "method.allocation.rule": None,
    "method.allocation.rows": 256,
    "method.allocation.from_run": None,
}
"""Settings that came later, by full key, each with the value that means the behaviour of before.

That value says what an id leaves out; a default may be another. A stage's settings stand under `task`, those of
MoLEx's `lora` under `method`. Of a section, it is what is left of it without what came later.
"""
FROM_THE_START = {
    "method.allocation": ("top_k", ("shape", "seed", "mean", "total", "min", "max", "bands", "layers")),
}
"""A section that came later in one method only: a setting that the other one has beside it, MoLA, and what it had."""
NOT_DEFINING = ("method.allocation.scores",)
"""What decides nothing beside the other settings: the counts that come of scores stand there too."""
SAME_SETTINGS = {"method.lora.": "method."}
KINDS = {
    "choose": "multiple_choice",
    "write": "generation",
    "regress": "regression",
    "classify": "classification",
}
ROUTING = {"freedom": "utilisation"}
ATTEMPT = {"went_on_from_step": "resumed_from_step"}
SCORE = {"outcomes": "correctness"}


def settings_of_today(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of a file with today's names and values; what has them already stays as it is."""
    return _settings(settings, TRAIN, TASK, KINDS)


def first_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings under the names that they had first: ids are hashes of these."""
    return _settings(without_added(settings), _turned(TRAIN), _turned(TASK), _turned(KINDS))


def without_added(settings: Mapping[str, Any], prefix: str = "", kept_always: Sequence[str] = ()) -> dict[str, Any]:
    """Return the settings without those that came later and mean the behaviour of before, and what defines nothing."""
    found = {}
    for name, value in settings.items():
        key = prefix + name
        kept = value
        if key == "stages" and isinstance(value, dict):
            kept = {stage: without_added(of_stage, "task.") for stage, of_stage in value.items()}
        elif isinstance(value, dict):
            beside, first = FROM_THE_START.get(key, ("", ()))
            kept = without_added(value, SAME_SETTINGS.get(f"{key}.", f"{key}."), first if beside in settings else ())
        is_added = key in ADDED and kept == ADDED[key] and name not in kept_always
        if not is_added and key not in NOT_DEFINING:
            found[name] = kept
    return found


def is_later(key: str) -> bool:
    """Return whether a setting came later, by its full key."""
    return _shared(key) in ADDED


def value_before(key: str) -> Any:
    """Return the value of a setting that came later that means the behaviour of before."""
    return ADDED[_shared(key)]


def added_later(settings: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yield full key and value of before for each setting that came later and that the settings do not have."""
    sections = {"": "", **{f"stages.{name}.": "task." for name in settings.get("stages", {})}, **SAME_SETTINGS}
    for at, prefix in sections.items():
        for key, value in ADDED.items():
            path = at + key.removeprefix(prefix)
            if key.startswith(prefix) and not _has(settings, path):
                yield path, value


def record_of_today(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of a record with today's names; raise TypeError or AttributeError where it is none."""
    found = dict(content)
    found["settings"] = settings_of_today(content["settings"])
    found["attempts"] = [_keys(each, ATTEMPT) for each in content.get("attempts", [])]
    found["evaluation"] = _keys(content.get("evaluation", {}), TASK)
    found["scores"] = {
        which: _keys(score, SCORE) if isinstance(score, dict) else score
        for which, score in content.get("scores", {}).items()
    }
    found["routing"] = routing_of_today(content.get("routing", {}))
    return found


def routing_of_today(routing: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a file says of each layer's routing, with today's names."""
    return {layer: _routing(statistics) for layer, statistics in routing.items()}


def _routing(statistics: Mapping[str, Any]) -> dict[str, Any]:
    found = _keys(statistics, ROUTING)
    if "modules" in found:
        found["modules"] = {name: _keys(each, ROUTING) for name, each in found["modules"].items()}
    return found


def _settings(
    settings: Mapping[str, Any],
    train: Mapping[str, str],
    task: Mapping[str, str],
    kinds: Mapping[str, str],
) -> dict[str, Any]:
    found = dict(settings)
    if isinstance(found.get("train"), Mapping):
        found["train"] = _keys(found["train"], train)
    if isinstance(found.get("task"), Mapping):
        found["task"] = _task(found["task"], task, kinds)
    if isinstance(found.get("stages"), Mapping):
        found["stages"] = {name: _task(stage, task, kinds) for name, stage in found["stages"].items()}
    return found


def _task(task: Mapping[str, Any], names: Mapping[str, str], kinds: Mapping[str, str]) -> dict[str, Any]:
    found = _keys(task, names)
    return found | ({"kind": kinds.get(found["kind"], found["kind"])} if "kind" in found else {})


def _shared(key: str) -> str:
    """Return the key under which a setting stands in `ADDED`."""
    for at, prefix in SAME_SETTINGS.items():
        if key.startswith(at):
            return prefix + key.removeprefix(at)
    section, _, rest = key.partition(".")
    return f"task.{rest.partition('.')[2]}" if section == "stages" else key


def _has(settings: Any, path: str) -> bool:
    for name in path.split("."):
        if not isinstance(settings, Mapping) or name not in settings:
            return False
        settings = settings[name]
    return True


def _keys(content: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in content.items()}


def _turned(names: Mapping[str, str]) -> dict[str, str]:
    return {new: old for old, new in names.items()}
