"""A saved run, opened again: the same scores in a fresh process, other tasks, mistakes and noise, new lines."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import batch

from molex_cli.cli import main
from molex_cli.data.perturb import characters, perturbed, words
from molex_cli.data.reading import Split
from molex_cli.layers.embedding_noise import embedding_noise

PAIRS = "a,b,label\n" + "".join(f"x{i} word {i * 7},y{i} more,{'yes' if i % 3 else 'no'}\n" for i in range(24))
OTHER = PAIRS.replace("yes", "same").replace("no\n", "different\n")
FILES = ["task=files", "task.columns=[a,b]", "task.files.train=rows.csv", "task.files.validation=rows.csv"]
SMOKE = ["experiment=smoke", "hardware.threads=1"]


@pytest.fixture(autouse=True)
def rows():
    Path("rows.csv").write_text(PAIRS)
    Path("other.csv").write_text(OTHER)


@pytest.fixture
def trained():
    def make(*settings):
        assert main(["train", *SMOKE, *FILES, "method=lora", "train.learning_rate=0.02", *settings]) == 0
        (folder,) = Path("outputs").glob("*-s0")
        return folder, json.loads((folder / "record.json").read_text())

    return make


def evaluate(capsys, *arguments):
    capsys.readouterr()
    assert main(["eval", "--json", *arguments]) == 0, capsys.readouterr().err
    return json.loads(capsys.readouterr().out.splitlines()[-1])


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert main([*arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


EVALUATE = """
import sys
from molex_cli.cli import main
for folder in sys.argv[1:]:
    assert main(["eval", "--json", f"run={folder}"]) == 0
"""


def test_a_fresh_process_gives_the_scores_and_predictions_of_the_runs():
    for method in ("lora", "molex", "molex_paper", "mola_inverted"):
        assert main(["train", *SMOKE, *FILES, "train.learning_rate=0.02", f"method={method}"]) == 0
    folders = sorted(Path("outputs").glob("*-s0"))
    assert len(folders) == 4
    command = [sys.executable, "-c", EVALUATE, *map(str, folders)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    results = [json.loads(line)[0] for line in done.stdout.splitlines() if line.startswith("[{")]
    for folder, result in zip(folders, results, strict=True):
        record = json.loads((folder / "record.json").read_text())
        assert result["scores"] == record["scores"]["last"]["scores"]
        assert result["loss"] == record["scores"]["last"]["loss"]
        assert result["evaluation"]["batch_size"] == record["evaluation"]["batch_size"]
        (again,) = (folder / "evaluations").glob("files-validation-*-predictions.jsonl")
        assert again.read_text() == (folder / "predictions-last.jsonl").read_text()


def test_the_best_adapter_and_another_split_can_be_scored(trained, capsys):
    folder, record = trained("train.evaluate_every=2")
    (best,) = evaluate(capsys, f"run={folder}", "which=best")
    assert best["scores"] == record["scores"]["best"]["scores"]
    assert best["step"] == record["scores"]["best"]["step"]
    (train,) = evaluate(capsys, f"run={folder}", "split=train")
    assert train["rows"] == 24
    (last,) = evaluate(capsys, f"run={folder}")
    assert (best["adapter"], last["adapter"]) == ("adapter-best.safetensors", "adapter-last.safetensors")
    evaluate(capsys, f"run={folder}", "train.max_length=8")
    assert len(list((folder / "evaluations").glob("*.json"))) == 4  # none writes over another


def test_the_batch_size_is_free_where_predictions_do_not_depend_on_it(trained, capsys):
    folder, _ = trained()
    ones, many = (evaluate(capsys, f"run={folder}", f"train.eval_batch_size={size}")[0] for size in (1, 16))
    assert ones["scores"] == many["scores"]
    assert ones["loss"] == pytest.approx(many["loss"], abs=1e-5)


def test_another_task_needs_to_be_told_what_the_labels_mean(trained, capsys):
    folder, record = trained()
    other = [f"run={folder}", *FILES[:2], "task.files.train=other.csv", "task.files.validation=other.csv"]
    other += ["task.labels=[different,same]"]
    line = refusal(capsys, "eval", *other)
    assert "map must give a label of different, same for each label of the run, got none for no" in line
    assert "'map={no: different, yes: same}'" in line
    (result,) = evaluate(capsys, *other, "map={no: different, yes: same}")
    assert result["scores"] == record["scores"]["last"]["scores"]
    (turned,) = evaluate(capsys, *other, "map={no: same, yes: different}")
    assert turned["scores"]["accuracy"] == pytest.approx(1 - result["scores"]["accuracy"])
    assert "which is none of its labels" in refusal(capsys, "eval", *other, "map={no: same, maybe: different}")


def test_outputs_of_one_meaning_are_added_up():
    from molex_cli.config.task import AnswerMode, Task
    from molex_cli.objectives.classification import Classification

    objective = Classification(Task(name="rows"), AnswerMode.head, ["follows", "does not"])
    objective.label_of_output = [0, 1, 1]
    merged = objective._merged(torch.tensor([[1.0, 0.7, 0.6]])).exp()
    probability = torch.tensor([1.0, 0.7, 0.6]).softmax(0)
    torch.testing.assert_close(merged[0], torch.stack([probability[0], probability[1] + probability[2]]))
    assert int(merged.argmax()) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a run must be named: add outputs/NAME"),
        (["run=nowhere"], "nowhere does not exist; name the folder of a run"),
        (["run=RUN", "which=first"], "which must be last or best, got first"),
        (["run=RUN", "split=dev"], "split must be train, validation or test, got dev"),
        (["run=RUN", "split=test"], "task.files.test must name a file, got null"),
        (
            ["run=RUN", "task=glue/stsb"],
            "task=glue/stsb must be of the kind that the run was trained on, got regr",
        ),
        (["run=RUN", "task=e2e"], "task=e2e must be answered by a decoder, got the encoder tiny_bert"),
        (["run=RUN", "characters=[1.5]"], "characters must be shares from 0 to 1, got 1.5"),
        (["run=RUN", "noise=[-1]"], "noise must be lengths from 0, got -1.0"),
        (["run=RUN", "noise=much"], "noise must fit its type, got noise=much"),
        (["run=RUN", "splt=train"], "splt is no setting; did you mean split?"),
        (["run=RUN", "noise=[nan]"], "noise must be lengths from 0, got nan"),
        (["run=RUN", "task.metrics=[f1]"], "task.metrics must come with task=NAME, got it alone"),
        (["run=RUN", "method=molex"], "method must be one of task, data_dir, cache_dir, train.max_rows"),
        (["run=RUN/adapter-last.safetensors", "which=best"], "which must be left out where run is an adapter file"),
        (["run=RUN", *FILES[:4], "task.label=b", "task.columns=[a]"], "must have a label of no, yes, got"),
    ],
)
def test_what_cannot_be_scored_is_said_in_one_line(trained, capsys, official_data, arguments, said):
    folder, _ = trained()
    given = [text.replace("RUN", str(folder)) for text in arguments]
    assert said in refusal(capsys, "eval", *given, f"data_dir={official_data}")


def test_a_curve_over_strengths_starts_at_the_score_itself_and_is_reproducible(trained, capsys):
    folder, record = trained()
    curve = evaluate(capsys, f"run={folder}", "noise=[0,5]", "characters=[0,0.5]", "words=[0,0.5]")
    assert [(each["perturbation"]["kind"], each["perturbation"]["strength"]) for each in curve] == [
        ("noise", 0.0), ("noise", 5.0), ("characters", 0.0), ("characters", 0.5), ("words", 0.0), ("words", 0.5),
    ]  # fmt: skip
    for same in curve[::2]:
        assert same["loss"] == pytest.approx(record["scores"]["last"]["loss"], abs=1e-6)
    assert all(changed["loss"] != pytest.approx(curve[0]["loss"], abs=1e-6) for changed in curve[1::2])
    again = evaluate(capsys, f"run={folder}", "noise=[5]", "train.eval_batch_size=1")
    assert again[0]["loss"] == pytest.approx(curve[1]["loss"], abs=1e-5)
    other = evaluate(capsys, f"run={folder}", "noise=[5]", "seed=1")
    assert other[0]["loss"] != pytest.approx(curve[1]["loss"], abs=1e-6)


def test_noise_has_the_given_length_on_every_token_and_none_on_padding(adapted):
    model = adapted("method=lora").model
    data = batch()
    layer = model.get_input_embeddings()
    plain = layer(data["input_ids"])
    with embedding_noise(model, 0.7, 0, 0):
        noisy = layer(data["input_ids"])
    length = (noisy - plain).norm(dim=-1)
    real = data["input_ids"] != 0
    torch.testing.assert_close(length[real], torch.full_like(length[real], 0.7), atol=1e-4, rtol=1e-4)
    assert float(length[~real].abs().max()) == 0.0
    assert torch.equal(layer(data["input_ids"]), plain)


def test_mistakes_depend_on_id_strength_and_seed_alone():
    split = Split(["a", "b", "c"], [("one two three four five", "six")] * 3, [0, 0, 0])
    for kind in ("characters", "words"):
        found = perturbed(split, kind, 0.5, 0).texts
        assert found == perturbed(split, kind, 0.5, 0).texts
        assert found != perturbed(split, kind, 0.5, 1).texts
        assert len(set(found)) > 1
        assert perturbed(split, kind, 0.0, 0).texts == split.texts
        assert all(text for texts in perturbed(split, kind, 1.0, 0).texts for text in texts)


def test_the_share_of_mistakes_is_about_the_strength():
    import random

    text = " ".join(["letters"] * 400)
    same = sum(a == b for a, b in zip(text.split(), characters(text, 0.02, random.Random(0)).split(), strict=False))
    assert 0.8 * 400 < same < 0.95 * 400  # 0.98 ** 7 = 0.87
    assert abs(len(words(text, 0.3, random.Random(0)).split()) - 400) < 60


@pytest.mark.parametrize("form", ["tabs", "json"])
def test_lines_are_predicted_as_the_validation_rows_were(trained, capsys, monkeypatch, form):
    folder, _ = trained()
    lines = [line.split(",") for line in PAIRS.splitlines()[1:]]
    if form == "tabs":
        text = "".join(f"{a}\t{b}\n" for a, b, _ in lines)
    else:
        text = "".join(json.dumps({"a": a, "b": b}) + "\n" for a, b, _ in lines)
    monkeypatch.setattr(sys, "stdin", io.StringIO(text))
    capsys.readouterr()
    assert main(["predict", f"run={folder}"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    known = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    assert [each["prediction"] for each in said] == [each["prediction"] for each in known]


def test_lines_that_do_not_fit_are_refused(trained, capsys, monkeypatch):
    folder, _ = trained()
    for text, said in (
        (
            "one cell\n",
            "line 1 must be a and b separated by tabs, or a JSON object with them, got 1 cells; "
            'write {"a": "...", "b": "..."}',
        ),
        ('{"a": "x"}\n', "line 1 must have b in its JSON object, got a; rename"),
        ('{"a": "x", "b": null}\n', "line 1 must have a value in b, got nothing"),
        ('{"a": "x", "b": ["y"]}\n', "line 1 must have a text in b, got"),
        ("{broken\n", "line 1 must be a and b separated by tabs, or a JSON object with them, got 1 cells"),
    ):
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        capsys.readouterr()
        assert main(["predict", f"run={folder}"]) == 2
        assert said in json.loads(capsys.readouterr().out)["error"]
    said = refusal(capsys, "predict", f"run={folder}", "--file=no.txt")
    assert "--file must be a file of rows or lines, got no.txt" in said
    Path("latin.txt").write_bytes("caf\xe9\tx\n".encode("latin-1"))
    said = refusal(capsys, "predict", f"run={folder}", "--file=latin.txt")
    assert "latin.txt must be UTF-8, got byte 0xe9" in said
    said = refusal(capsys, "predict", f"run={folder}", "task=glue/cola")
    assert "task must be one of hardware, cache_dir here, got a setting that is not read" in said


def test_lines_are_split_at_line_ends_only(trained, capsys):
    folder, _ = trained()
    Path("odd.txt").write_bytes("\ufeffone \u2028 two\tthree\x0bfour\r\n".encode())
    capsys.readouterr()
    assert main(["predict", f"run={folder}", "--file=odd.txt"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


def test_choices_in_a_file_are_read_as_in_the_official_files(official_data, capsys):
    short = ["train.max_rows=12", "train.max_steps=2", "train.max_length=120", "train.batch_size=4"]
    arguments = ["model=tiny_llama", "method=lora", "task=commonsense_qa", "hardware=cpu", f"data_dir={official_data}"]
    assert main(["train", *arguments, *short, "log.wandb=disabled"]) == 0
    (folder,) = Path("outputs").glob("*-s0")
    known = [json.loads(line) for line in (folder / "predictions-last.jsonl").read_text().splitlines()]
    official = (Path(official_data) / "commonsense_qa/dev.jsonl").read_text().splitlines()
    Path("new.jsonl").write_text("".join(official[int(row["id"].split(":")[1])] + "\n" for row in known))
    capsys.readouterr()
    assert main(["predict", f"run={folder}", "--file=new.jsonl"]) == 0
    said = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["prediction"] for each in said] == [each["prediction"] for each in known]
    assert [each["log_likelihoods"] for each in said] == [each["log_likelihoods"] for each in known]


def test_an_evaluation_names_what_scored_it_and_what_to_distrust(trained, capsys):
    folder, record = trained("train.learning_rate=1e-9")
    (result,) = evaluate(capsys, f"run={folder}", "train.max_rows=3")
    assert result["evaluation"]["answer_mode"] == "head"
    assert record["degenerate"] == ["all predictions are the same"]
    assert "all predictions are the same" in result["degenerate"]
    assert main(["eval", f"run={folder}"]) == 0
    assert "note: degenerate: all predictions are the same" in capsys.readouterr().out


def test_the_data_folder_of_the_run_is_taken_again(official_data, capsys):
    short = ["train.max_rows=8", "train.max_steps=1", "hardware=cpu", "log.wandb=disabled"]
    assert main(["train", "model=tiny_bert", "method=lora", "task=glue/rte", f"data_dir={official_data}", *short]) == 0
    (folder,) = Path("outputs").glob("*-s0")
    (result,) = evaluate(capsys, f"run={folder}", "train.max_rows=8")
    assert result["source"].startswith(official_data)
    line = refusal(capsys, "probe", f"run={folder}", "train.max_rows=1")
    assert "a probe must have training rows of two or more labels" in line
    meant = "map={entailment: entailment, not_entailment: neutral}"
    (mapped,) = evaluate(capsys, f"run={folder}", "task=glue/mnli", meant, "train.max_rows=8")
    assert mapped["loss"] is None  # infinite: contradiction has no probability


def test_a_language_model_answers_lines(official_data, capsys, monkeypatch):
    short = ["train.max_rows=4", "train.max_steps=1", "train.max_length=200", "task.language.max_new_tokens=3"]
    arguments = ["model=tiny_gpt2", "method=lora", "task=instruct/rte", "hardware=cpu", f"data_dir={official_data}"]
    assert main(["train", *arguments, *short, "log.wandb=disabled"]) == 0
    (folder,) = Path("outputs").glob("*-s0")
    monkeypatch.setattr(sys, "stdin", io.StringIO("A cat sleeps.\tAn animal sleeps.\n"))
    capsys.readouterr()
    assert main(["predict", f"run={folder}"]) == 0
    assert set(json.loads(capsys.readouterr().out)) == {"line", "prediction", "text"}


def test_the_list_of_tasks_tells_sizes_metrics_and_places(official_data, capsys):
    assert main(["list", "tasks", f"data_dir={official_data}"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert "classification" in lines["glue/cola"]
    assert "matthews, accuracy" in lines["glue/cola"]
    assert "8,551" in lines["glue/cola"]
    assert "1,043" in lines["glue/cola"]
    assert "(not there)" in lines["glue/wnli"]
    assert main(["list", "tasks", "data_dir=null"]) == 0
    assert "hub nyu-mll/glue/cola" in capsys.readouterr().out
    for what, expected in (("methods", "MoLA-▽"), ("models", "meta-llama")):
        assert main(["list", what]) == 0
        assert expected in capsys.readouterr().out
    assert "got task; did you mean tasks?" in refusal(capsys, "list", "task")
    assert "train.epoch is no setting" in refusal(capsys, "list", "tasks", "train.epoch=3")


@pytest.mark.parametrize("settings", [["model=tiny_bert", "method=molex"], ["model=tiny_gpt2", "method=lora"]])
def test_a_probe_scores_every_layer_and_the_input_of_the_first(trained, capsys, settings):
    pytest.importorskip("sklearn")
    folder, _ = trained(*settings)
    capsys.readouterr()
    assert main(["probe", "--json", f"run={folder}", "token=mean", f"plot={folder}/layers.svg"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert len(found["scores"]) == len(found["training"]) == 5
    assert all(0 <= scores["accuracy"] <= 1 for scores in found["scores"])
    # Training and validation rows are the same here, so both scores must be too.
    assert [scores["accuracy"] for scores in found["scores"]] == pytest.approx(found["training"])
    (kept,) = (folder / "probes").glob("files-mean-*.json")
    assert json.loads(kept.read_text()) == found
    assert "<svg" in (folder / "layers.svg").read_text()


def test_a_probe_reads_what_the_blocks_put_out(trained):
    from molex_cli.analysis import probe
    from molex_cli.checkpoints import saved_run as saved
    from molex_cli.data.encoding import encode
    from molex_cli.data.reading import read
    from molex_cli.runtime.hardware import Device, Hardware

    folder, _ = trained()
    run = saved.opened(folder, "last", Hardware(device=Device.cpu))
    split = read(run.experiment.task, None)[0]["validation"]
    encoded = encode(split, run.adapted.backbone.tokenizer, 64, Path("cache"))
    found = {token: probe.features(run.adapted, encoded, token, 16, run.device) for token in ("first", "last", "mean")}
    ids, types = (torch.from_numpy(part).long()[None] for part in encoded.row(3))
    with torch.no_grad():
        output = run.adapted.model.base_model(ids, token_type_ids=types, output_hidden_states=True)
    for layer, hidden in enumerate(output.hidden_states):
        for token, expected in (("first", hidden[0, 0]), ("last", hidden[0, -1]), ("mean", hidden[0].mean(0))):
            torch.testing.assert_close(torch.from_numpy(found[token][3, layer]), expected, atol=1e-5, rtol=1e-4)


def test_what_cannot_be_probed_is_said_in_one_line(trained, capsys, official_data):
    folder, _ = trained()
    run = [f"run={folder}", f"data_dir={official_data}"]
    said = refusal(capsys, "probe", *run, "task=commonsense_qa")
    assert "task=commonsense_qa must have labels or numbers to be probed for, got kind=multiple_choice" in said
    assert "token must be one of auto, mean, first, last, got middle" in refusal(capsys, "probe", *run, "token=middle")
    assert "plot must be a file to write" in refusal(capsys, "probe", *run, "plot=layers.doc")
