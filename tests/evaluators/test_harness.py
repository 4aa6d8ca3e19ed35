"""lm-evaluation-harness around our model: the scores of our own likelihoods, whatever the batch, in our form."""

import json
import shutil
from pathlib import Path

import datasets
import pytest
from conftest import OFFICIAL_DATA
from lm_eval.tasks import manager
from support.runs import working_in

from molex_cli.cli import eval_language, main
from molex_cli.compare.evaluations import predictions_of
from molex_cli.evaluators import harness

QUESTIONS = 100
SHORT = 350  # characters of a question that our own scoring, which keeps room for every choice, need not cut
METHODS = ("lora", "mola_inverted", "molex")
TRAIN = [
    "train",
    "experiment=smoke",
    "hardware.threads=1",
    "model=tiny_llama",
    "task=openbook_qa",
    "data_dir=data",
    "train.max_rows=100",
    "train.max_length=256",
    "train.learning_rate=0.02",
]
TASK = """
task: own_questions
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
fewshot_split: test
output_type: multiple_choice
doc_to_text: "Question: {{question.stem}}\\nAnswer:"
doc_to_target: "{{['A', 'B', 'C', 'D'].index(answerKey)}}"
doc_to_choice: "{{question.choices | map(attribute='text') | list}}"
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
metadata: {version: 1.5}
"""


ROWS = "dataset_path: json\ndataset_kwargs: {data_files: {test: FILE}}\ntest_split: test\n"
WRITTEN = f"""{ROWS}
task: written
output_type: generate_until
doc_to_text: "Question: {{{{question.stem}}}}\\nAnswer:"
doc_to_target: "{{{{answerKey}}}}"
generation_kwargs: {{max_gen_toks: 12, until: ["!"]}}
metric_list: [{{metric: exact_match, aggregation: mean, higher_is_better: true}}]
"""
ROLLING = f"""{ROWS}
task: rolling
output_type: loglikelihood_rolling
doc_to_text: ""
doc_to_target: "{{{{question.stem}}}} {{{{question.stem}}}} {{{{question.stem}}}} {{{{question.stem}}}}"
metric_list: [{{metric: byte_perplexity, aggregation: weighted_perplexity, higher_is_better: false}}]
"""


def write_questions(file):
    """Write questions in the official layout: real ones where they are, else our own."""
    file.parent.mkdir(parents=True, exist_ok=True)
    if OFFICIAL_DATA:
        lines = (Path(OFFICIAL_DATA) / "openbook_qa" / "dev.jsonl").read_text().splitlines()
        short = [line for line in lines if len(line) < SHORT]
        file.write_text("\n".join(short[:QUESTIONS]) + "\n")
        return
    words = ["stone", "rain", "a long walk in the woods", "light of the sun", "ice", "wood and water", "sand"]
    rows = [
        {
            "id": f"q{i}",
            "question": {
                "stem": f"What is number {i} made of, {words[i % 7]} or",
                "choices": [{"text": words[(i * k + k) % 7] + "!" * k, "label": "ABCD"[k]} for k in range(4)],
            },
            "answerKey": "ABCD"[i % 4],
        }
        for i in range(QUESTIONS)
    ]
    file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Return a folder with a run of each method, and a task of the harness over the same questions."""
    folder = tmp_path_factory.mktemp("made")
    with working_in(folder):
        for name in ("train", "dev", "test"):
            write_questions(Path(f"data/openbook_qa/{name}.jsonl"))
        Path("tasks").mkdir()
        Path("tasks/own.yaml").write_text(TASK.replace("FILE", str(folder / "data/openbook_qa/dev.jsonl")))
        for method in METHODS:
            assert main([*TRAIN, f"method={method}"]) == 0
    return folder


@pytest.fixture
def runs(made, tmp_path, monkeypatch):
    """Return the folder of each method's run, copied to where the test works."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "datasets")
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return {method: next(Path("outputs").glob(f"*-{method}-*")) for method in METHODS}


def scored(capsys, folder, *settings):
    """Return what the harness scored, and the line of each example."""
    capsys.readouterr()
    asked = ["eval", "--json", f"run={folder}", "lm_eval=[own_questions]", "lm_eval_path=tasks", *settings]
    assert main(asked) == 0, capsys.readouterr().err
    shown = capsys.readouterr()
    assert shown.err == ""
    (result,) = json.loads(shown.out)
    files = (folder / "evaluations").glob("own_questions-lm_eval-????????.json")
    (file,) = [path for path in files if json.loads(path.read_text())["evaluation"] == result["evaluation"]]
    return result, rows_of(predictions_of(file))


def rows_of(file):
    return [json.loads(line) for line in file.read_text().splitlines()]


def likelihoods(rows):
    return [value for row in rows for value, _ in row["answers"]]


def refusal(capsys, *arguments):
    capsys.readouterr()
    assert main(["eval", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    return line


@pytest.mark.parametrize("method", METHODS)
def test_the_harness_and_our_likelihoods_agree_on_every_question_whatever_the_batch(method, runs, capsys):
    own, own_rows = (
        json.loads((runs[method] / "record.json").read_text()),
        rows_of(runs[method] / "predictions-last.jsonl"),
    )
    result, rows = scored(capsys, runs[method], "train.eval_batch_size=8")
    assert own["evaluation"]["answer_mode"] == "likelihood"
    assert result["rows_used"] == len(own_rows) == QUESTIONS
    assert result["scores"]["acc"] == own["scores"]["last"]["scores"]["accuracy"]
    assert [row["values"]["acc"] for row in rows] == [float(row["label"] == row["prediction"]) for row in own_rows]
    known = [value for row in own_rows for value in row["log_likelihoods"]]
    assert likelihoods(rows) == pytest.approx(known, abs=1e-4)
    _, ones = scored(capsys, runs[method], "train.eval_batch_size=1", "lm_eval_limit=20")
    assert likelihoods(ones) == pytest.approx(known[: len(likelihoods(ones))], abs=1e-4)


@pytest.mark.parametrize("method", METHODS)
def test_what_is_written_and_rolling_likelihoods_do_not_depend_on_the_batch_either(method, runs, capsys):
    file = str(Path("data/openbook_qa/dev.jsonl").absolute())
    Path("tasks/written.yaml").write_text(WRITTEN.replace("FILE", file))
    Path("tasks/rolling.yaml").write_text(ROLLING.replace("FILE", file))
    answers = []
    for size in (1, 8):
        asked = ["lm_eval=[written,rolling]", "lm_eval_path=tasks", "lm_eval_limit=9", f"train.eval_batch_size={size}"]
        assert main(["eval", "--json", f"run={runs[method]}", *asked]) == 0
        written, rolling = json.loads(capsys.readouterr().out)
        (found,) = [
            file
            for file in (runs[method] / "evaluations").glob("written-lm_eval-*.json")
            if json.loads(file.read_text())["evaluation"]["batch_size"] == size
        ]
        answers.append(([row["answers"] for row in rows_of(predictions_of(found))], rolling["scores"]))
    assert answers[0][0] == answers[1][0]
    assert answers[0][1] == pytest.approx(answers[1][1], rel=1e-5)
    assert written["metrics"]["exact_match"]["right_or_wrong"]
    assert not rolling["metrics"]["byte_perplexity"]["mean_of_examples"]
    assert not rolling["metrics"]["byte_perplexity"]["higher_is_better"]


def test_compare_tests_the_scores_of_the_harness_pairwise_and_names_another_protocol(runs, capsys):
    before = {path.name for path in Path().iterdir()}
    asked = ["lm_eval=own_questions", "lm_eval_path=tasks", "lm_eval_limit=30"]
    assert main(["eval", str(runs["lora"]), str(runs["molex"]), *asked]) == 0
    shown = capsys.readouterr()
    assert [line.split()[:3] for line in shown.out.splitlines()] == [
        [runs[method].name, "own_questions", "acc"] for method in ("lora", "molex")
    ]
    assert shown.err == ""
    assert {path.name for path in Path().iterdir()} - before <= {"cache", "datasets"}
    compare = ["compare", "outputs", "--evaluation", "own_questions", "--format", "json"]
    assert main([*compare, "--metric", "acc_norm"]) == 0
    shown = capsys.readouterr()
    assert "openbook_qa-mola_inverted" in shown.err
    report = json.loads(shown.out)
    assert report["effects"][0]["detail"].startswith("over examples of one seed")
    notes = " ".join(note["text"] for note in report["notes"])
    assert "on own_questions as molex eval scored it" in notes
    assert "of the evaluation differs" not in notes
    assert main(["eval", f"run={runs['molex']}", *asked, "lm_eval_num_fewshot=1"]) == 0
    task = Path("tasks/own.yaml")
    task.write_text(task.read_text().replace("1.5", "1.6"))
    harness._manager.cache_clear()
    harness._loaded.cache_clear()
    assert main(["eval", f"run={runs['molex']}", *asked, "lm_eval_num_fewshot=2"]) == 0
    capsys.readouterr()
    assert main(compare) == 0
    found = [
        json.loads(file.read_text()) for file in runs["molex"].glob("evaluations/own_questions-lm_eval-????????.json")
    ]
    prompts = {
        each["evaluation"]["protocol"]["num_fewshot"]: each["evaluation"]["protocol"]["prompts"] for each in found
    }
    assert len(prompts) == len(set(prompts.values())) == 3
    notes = " ".join(note["text"] for note in json.loads(capsys.readouterr().out)["notes"])
    assert "num_fewshot of the evaluation differs in openbook_qa tiny_llama: 0 (LoRA); 2 (MoLEx)" in notes
    assert "task version of the evaluation differs in openbook_qa tiny_llama: 1.5 (LoRA); 1.6 (MoLEx)" in notes
    assert main(["compare", "outputs", "--evaluation", "own_questions", "--metric", "acc_nrm"]) == 2
    assert "--metric must be one of own_questions, got acc_nrm; did you mean acc_norm?" in capsys.readouterr().err
    assert main(["compare", "outputs", "--evaluation", "own_question"]) == 2
    assert "got own_question; did you mean own_questions?" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        (["lm_eval=[own_question]"], "got own_question; did you mean own_questions?"),
        (["lm_eval_limit=3"], "lm_eval_limit must come with lm_eval=[arc_challenge], got it alone"),
        (["lm_eval=[own_questions]", "split=test"], "split must be left out beside lm_eval, got a value"),
        (["lm_eval=[own_questions]", "lm_eval_limit=0"], "lm_eval_limit must be above 0, got 0"),
        (
            ["lm_eval=[own_questions]", "lm_eval_path=nowhere"],
            "must be a folder of the harness's task files, got nowhere",
        ),
        (["lm_eval=[of_the_hub]"], "must get its rows from the hub, got no connection and no cached copy"),
        (["lm_eval=[broken]"], "lm_eval=broken must be a task that the harness can read, got: "),
        (["lm_eval=[written]"], "must leave room for a prompt, got answers of up to 256 tokens and a model of 256"),
        (["lm_eval=[own_questions]", "text=x"], "lm_eval must stand without text, got both"),
    ],
)
def test_what_cannot_be_scored_is_one_line(settings, told, runs, capsys, monkeypatch):
    monkeypatch.setattr(manager, "__file__", str(Path("tasks/none/x.py").absolute()))  # reading all of them takes long
    Path("tasks/of_the_hub.yaml").write_text(
        TASK.replace("own_questions", "of_the_hub")
        .replace("dataset_path: json", "dataset_path: no/such")
        .replace("dataset_kwargs: {data_files: {test: FILE}}\n", "")
    )
    file = str(Path("data/openbook_qa/dev.jsonl").absolute())
    Path("tasks/broken.yaml").write_text(
        TASK.replace("own_questions", "broken").replace("FILE", file).replace("question.stem", "nothing.there")
    )
    Path("tasks/written.yaml").write_text(WRITTEN.replace("FILE", file).replace("max_gen_toks: 12, ", ""))
    path = (
        [] if any("lm_eval_path" in each for each in settings) or "limit=3" in settings[0] else ["lm_eval_path=tasks"]
    )
    assert told in refusal(capsys, f"run={runs['lora']}", *settings, *path)


def test_without_the_extra_or_with_an_encoder_a_line_says_so(runs, capsys, monkeypatch):
    assert main(["train", "experiment=smoke", "hardware.threads=1", "method=head", "output_dir=encoders"]) == 0
    (encoder,) = Path("encoders").glob("*-s0")
    asked = ["lm_eval=[own_questions]", "lm_eval_path=tasks"]
    line = refusal(capsys, f"run={encoder}", *asked)
    assert "run must be of a language model for lm_eval, got one with a head (tiny_bert on" in line
    monkeypatch.setattr(eval_language, "is_installed", lambda module: False)
    line = refusal(capsys, f"run={runs['lora']}", *asked)
    assert line.startswith("molex: lm_eval must have lm-evaluation-harness, got none; pip install")
    assert "[lm-eval]" in line
