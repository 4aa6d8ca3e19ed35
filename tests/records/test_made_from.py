"""What two runs of one name were made from, and how a setting that came later is found by its key."""

from molex_cli.records import renamed
from molex_cli.records.made_from import differences, made_from


def of(processes: int, level: str) -> dict[str, object]:
    settings = {"method": {"level": level}, "hardware": {"processes": processes, "precision": "fp32", "base": "fp32"}}
    return made_from(settings, {}, {})


def test_processes_make_another_run_only_where_the_rows_of_a_batch_choose_together() -> None:
    assert differences(of(1, "batch"), of(2, "batch")) == ["hardware.processes: 1 -> 2"]
    assert differences(of(1, "sequence"), of(2, "sequence")) == []


def test_what_is_known_of_one_run_alone_makes_no_difference() -> None:
    data, base = {"train": {"fingerprint": "f" * 64, "labels": {"a": 1, "b": 2}}}, {"fingerprint": "g" * 64}
    known = made_from({"train": {"epochs": 1}}, data, base)
    assert known == {
        "train.epochs": 1,
        "rows of train": "f" * 8,
        "labels of train": "a, b",
        "files of the base model": "g" * 8,
    }
    assert differences(known, {}) == differences({}, known) == []
    assert differences(known, known | {"labels of train": "a, c"}) == ["labels of train: a, b -> a, c"]


def test_a_later_setting_is_found_in_stages_and_inside_a_mixture() -> None:
    for key in ("task.positive", "stages.one.positive"):
        assert renamed.is_later(key)
        assert renamed.value_before(key) is None
    assert renamed.value_before("method.lora.same_start") is False
    assert not renamed.is_later("method.rank")
