"""Whole commands against a hub on the loopback device, with the real clients: what comes from it, and what may fail."""

from support.hub import contents
from support.runs import only_record

pytest_plugins = ["support.hub.fixtures"]

SMALL = ["train.max_steps=2", "train.batch_size=4", "hardware=cpu", "hardware.threads=1"]
RTE = ["train", "task=glue/rte", "method=lora", *SMALL]


def serve(hub):
    hub.add("models", "FacebookAI/roberta-base", contents.roberta(shard="20KB"))
    hub.add("models", "openai-community/gpt2-medium", contents.gpt2())
    hub.add("datasets", "nyu-mll/glue", contents.glue())


def test_presets_of_the_hub_train_from_it_in_shards_and_as_a_decoder(hub, molex):
    serve(hub)
    for folder, model in {"encoder": contents.ROBERTA, "decoder": contents.GPT2}.items():
        ended = molex(*RTE, *model, f"output_dir={folder}")
        assert ended.code == 0, ended.err
        record, _ = only_record(folder)
        assert record["status"] == "finished"
        assert [record["data"][split]["rows"] for split in ("train", "validation")] == [24, 12]
    shards = hub.requests(r"roberta-base/resolve/.*/model-0000\d-of-0000", "HEAD")
    assert len({each.path for each in shards}) > 1
    assert all(each.token is None for each in hub.requests("/storage/"))
