"""Whole commands against a hub on the loopback device, with the real clients: what comes from it, and what may fail."""

import json
import shutil
from pathlib import Path

from support.hub import READER, STRANGER, Fault, contents, cut, hanging, shortened, status
from support.runs import only_record

pytest_plugins = ["support.hub.fixtures"]

SMALL = ["train.max_steps=2", "train.batch_size=4", "hardware=cpu", "hardware.threads=1"]
MODEL, DATA = "FacebookAI/roberta-base", "nyu-mll/glue"
ANY = ["train", "task=glue/rte", "method=lora", *SMALL]
RTE = [*ANY, *contents.ROBERTA]
FROM_FILES = ["train", "task=builtin/nli", "train.max_rows=16", "method=lora", *contents.ROBERTA, *SMALL]
ROWS = ["train", "task=glue/rte", "method=lora", "model=tiny_bert", *SMALL]
"""Commands that need the hub for both, for the model alone, and for the rows alone."""


def serve(hub, **about):
    """Serve the model and the data set of RTE."""
    model = hub.add("models", MODEL, contents.roberta(), **about)
    return model, hub.add("datasets", DATA, contents.glue(), **about)


def main(repository):
    """Return the commit of the main branch."""
    return repository.refs["main"]


def test_presets_of_the_hub_train_from_it_in_shards_and_as_a_decoder(hub, molex):
    model = hub.add("models", MODEL, contents.roberta(shard="20KB"))
    decoder = hub.add("models", "openai-community/gpt2-medium", contents.gpt2())
    data = hub.add("datasets", DATA, contents.glue())
    for folder, of, settings in (("encoder", model, contents.ROBERTA), ("decoder", decoder, contents.GPT2)):
        ended = molex(*ANY, *settings, f"output_dir={folder}")
        assert ended.code == 0, ended.err
        record, _ = only_record(folder)
        assert [record["data"][split]["rows"] for split in ("train", "validation")] == [24, 12]
        assert [record["data"][split]["commit"] for split in ("train", "validation")] == [main(data)] * 2
        assert record["base"]["commit"] == main(of)
    shards = {each.path for each in hub.requests(r"roberta-base/resolve/.*/model-0000\d-of-0000", "GET|HEAD")}
    assert len(shards) > 1
    assert not any(each.path.endswith((".bin", ".msgpack", "README.md")) for each in hub.requests("roberta-base"))


def test_a_commit_is_pinned_and_another_one_is_another_base_where_files_differ(hub, molex):
    model, data = serve(hub)
    first = main(model), main(data)
    assert molex(*RTE).code == 0
    model.commit({"README.md": b"a card alone"})
    again = molex(*RTE)
    assert "finished before" in again.out  # no file that is loaded differs
    model.commit(contents.roberta(seed=1))
    assert molex(*RTE).code == 0
    records = [json.loads(path.read_text()) for path in sorted(Path("outputs").glob("*/record.json"))]
    assert len({each["base"]["fingerprint"] for each in records}) == 2
    assert {each["base"]["commit"] for each in records} == {first[0], main(model)}
    folders = sorted(map(str, Path("outputs").glob("glue*")))
    compared = molex("compare", *folders)
    assert "files of the base model" in compared.out
    # What was saved is opened with the base that it was trained on, whatever main is now.
    hub.log.clear()
    old = next(path.parent for path in Path("outputs").glob("*/record.json") if first[0] in path.read_text())
    scored = molex("eval", f"run={old}", "split=validation")
    assert scored.code == 0, scored.err
    assert hub.requests(f"/revision/{first[0]}")
    named = molex(*RTE, f"model.revision={first[0]}", f"task.hub.revision={first[1]}", "output_dir=named")
    assert named.code == 0, named.err
    assert only_record("named")[0]["base"]["commit"] == first[0]


def test_a_run_that_resumes_gets_the_commits_that_it_began_with(hub, hub_process, molex):
    model, data = serve(hub)
    first = main(model), main(data)
    assert molex(*RTE).code == 0
    (path,) = Path("outputs").glob("*/record.json")
    record = json.loads(path.read_text())
    path.write_text(json.dumps({**record, "status": "interrupted"}))
    model.commit(contents.roberta(seed=1))
    data.commit(contents.glue(word="phrase"))
    again = molex(*RTE)
    assert again.code == 0, again.err
    resumed, _ = only_record()
    assert resumed["attempts"]
    assert (resumed["base"]["commit"], resumed["data"]["train"]["commit"]) == first
    del model.commits[first[0]]  # the cache has it still
    path.write_text(json.dumps({**record, "status": "interrupted"}))
    assert "; the cached copy of FacebookAI/roberta-base is taken" in molex(*RTE).err
    shutil.rmtree(hub_process.home)
    path.write_text(json.dumps({**record, "status": "interrupted"}))
    assert molex(*RTE).line().endswith("resume=never starts over beside it")


def test_what_is_not_there_is_named(hub, molex):
    serve(hub)
    line = molex(*FROM_FILES, "model.hub=FacebookAI/robreta-base").line()
    assert line.startswith("model.hub must be a model on the hub, got FacebookAI/robreta-base, which http://127.0.0.1:")
    assert line.endswith("mend the id, or set HF_TOKEN (hf auth login) if it is private")
    line = molex(*FROM_FILES, "model.hub=a/b/c").line()
    assert line.startswith("model.hub must be a model by its id, OWNER/NAME, got a/b/c; ")
    line = molex(*FROM_FILES, "model.revision=v9").line()
    assert line.startswith("model.revision must be a branch, a tag or a commit of FacebookAI/roberta-base, got v9; ")
    line = molex("plan", *contents.ROBERTA, "method=lora", "model.revision=v9").line()
    assert line.startswith("model.revision must be a branch")
    line = molex(*ROWS, "task.hub.path=nyu-mll/gleu").line()
    assert line.startswith("task.hub.path must be a data set on the hub, got nyu-mll/gleu, which")
    assert "task.hub.revision must be a branch" in molex(*ROWS, "task.hub.revision=v9").line()
    line = molex(*ROWS, "task.hub.subset=rtee").line()
    assert line == "task.hub.subset must be one of nyu-mll/glue, got rtee; did you mean rte?"
    line = molex(*ROWS, "task.hub.validation=valid").line()
    assert line == "task.hub.validation must be one of nyu-mll/glue, got valid; did you mean validation?"
    assert not Path("outputs").exists() or not list(Path("outputs").glob("glue*"))


def test_a_gate_is_named_with_and_without_a_token_and_no_token_is_left_behind(hub, molex):
    serve(hub, gated=True)
    for command, page in ((FROM_FILES, MODEL), (ROWS, f"datasets/{DATA}")):
        line = molex(*command).line()
        assert "which is gated; ask for access at http://127.0.0.1:" in line
        assert line.endswith(f"/{page}, then set HF_TOKEN or run hf auth login")
        assert molex(*command, HF_TOKEN=STRANGER).line().endswith("the token is valid, but has no access")
    assert "HF_TOKEN must be a token that the hub knows" in molex(*FROM_FILES, HF_TOKEN="hf_" + "u" * 34).line()
    ended = molex(*RTE, HF_TOKEN=READER)
    assert ended.code == 0, ended.err
    assert any(each.token == READER for each in hub.requests("/resolve/"))
    for path in Path().rglob("*"):
        assert not path.is_file() or READER.encode() not in path.read_bytes(), path


def test_an_answer_that_does_not_count_is_asked_for_again_and_else_named(hub, molex):
    serve(hub)
    hub.faults.append(Fault(f"/api/models/{MODEL}", status(503), times=1))
    hub.faults.append(Fault("/storage/", cut(), times=2))
    assert molex(*RTE).code == 0
    assert not any(fault.times for fault in hub.faults)


FAULTS = {
    "503": (Fault(f"/api/models/{MODEL}", status(503)), "got 503 from http://127.0.0.1:"),
    "429": (Fault(f"/api/models/{MODEL}", status(429, Retry_After="300")), "run it again in 300 s; a token (HF_TOKEN)"),
    "429 later": (Fault("/storage/", status(429, Retry_After="300")), "run it again in 300 s; a token (HF_TOKEN)"),
    "silent": (
        Fault(f"/api/models/{MODEL}", hanging()),
        "and only a part of the cached copy of FacebookAI/roberta-base;",
    ),
    "silent later": (Fault("/storage/", hanging(), times=7), "got no connection to the hub at http://127.0.0.1:"),
    "cut later": (Fault("/storage/", cut()), "got a connection to http://127.0.0.1:"),
    "500 later": (Fault("/storage/", status(500)), "got 500 from http://127.0.0.1:"),
    "short": (Fault("/storage/", shortened(), method="GET"), "got a file of another size from http://127.0.0.1:"),
    "no hub": (Fault("/resolve", status(200), method="HEAD"), "HF_ENDPOINT must be the address of a hub, got http://"),
}


def test_each_fault_is_one_line_and_the_next_try_completes(hub, molex):
    serve(hub)
    for name, (fault, said) in FAULTS.items():
        hub.faults = [fault]
        assert said in molex(*FROM_FILES).line(), name
    hub.faults = []
    ended = molex(*FROM_FILES)
    assert ended.code == 0, ended.err
    assert only_record()[0]["base"]["commit"] == main(hub.repositories["models", MODEL])


def test_without_the_hub_its_cached_copies_serve_and_else_a_line_says_so(hub, molex):
    model, data = serve(hub)
    with hub.gone():
        line = molex(*FROM_FILES).line()
        assert line.startswith("model=roberta_base must come from the hub, got no connection to the hub at http://127.")
        assert line.endswith(
            "(Connection refused); run it again later, or set model.folder=PATH (and model.hub=null), or choose "
            "model=minilm"
        )
        line = molex(*ROWS).line()
        assert line.startswith(
            "task=glue/rte must come from the hub, got no connection to the hub at http://127.0.0.1:"
        )
        assert line.endswith("set data_dir=PATH (or MOLEX_DATA) to a folder that holds glue/RTE/train.tsv")
    line = molex(*ROWS, HF_HUB_OFFLINE="1").line()
    assert line.startswith("task=glue/rte must come from the hub, got HF_HUB_OFFLINE set and no cached copy of nyu-mll")
    hub.faults = []
    assert molex(*RTE).code == 0
    with hub.gone():
        refused = molex(*RTE, "seed=1")
    hub.faults = [Fault("", status(503))]
    for seed, ended, why in ((1, refused, "Connection refused"), (2, molex(*RTE, "seed=2"), "it answers 503")):
        assert ended.code == 0, ended.err
        (note,) = [line for line in ended.err.splitlines() if line.startswith("note: ")]
        assert f"({why}); the cached copy of " in note
        (path,) = Path("outputs").glob(f"*-s{seed}/record.json")
        record = json.loads(path.read_text())
        assert (record["base"]["commit"], record["data"]["train"]["commit"]) == (main(model), main(data))


def test_a_damaged_file_in_the_cache_is_one_line_with_the_folder_to_remove(hub, hub_process, molex):
    serve(hub)
    assert molex(*FROM_FILES).code == 0
    (weights,) = hub_process.home.rglob("model.safetensors")
    weights.resolve().write_bytes(weights.read_bytes()[:-100])
    line = molex(*FROM_FILES, "seed=1").line()
    assert line.startswith("model=roberta_base must be loadable from ")
    assert f"remove {weights.parents[2]} and run it again" in line
