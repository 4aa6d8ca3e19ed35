"""What the harness returns as an evaluation: the better end, and a digest of all that a model was asked."""

from molex_cli.evaluators.harness_results import described, rows_of
from molex_cli.metrics.base import Metric


def sample(index, choice, score):
    return {
        "doc_id": index,
        "filter": "none",
        "filtered_resps": [(-1.0, True)],
        "arguments": [("Q", choice), ("Q", " no")],
        **dict.fromkeys(("doc_hash", "prompt_hash", "target_hash"), "0" * 20),
        "metrics": ["rate"],
        "rate": score,
    }


def told(choice, *scores):
    """Return what is told of a task whose rate of errors is the mean of some scores."""
    found = {
        "results": {"own": {"alias": "own", "rate,none": sum(scores) / len(scores), "rate_stderr,none": "N/A"}},
        "higher_is_better": {"own": {"rate": False}},
        "samples": {"own": [sample(index, choice, score) for index, score in enumerate(scores)]},
        **{key: {} for key in ("n-samples", "versions", "n-shot", "configs")},
    }
    return described("own", found, rows_of("own", found, named=False), None, 1)


def test_a_task_of_the_same_name_with_other_choices_is_another_protocol():
    one, other = told(" yes", 1.0, 0.0), told(" yep", 1.0, 0.0)
    assert one["fingerprint"] == other["fingerprint"]
    assert one["protocol"]["prompts"] != other["protocol"]["prompts"]


def test_a_comparison_gets_the_better_end_and_how_examples_count():
    share = Metric.from_data("rate", told(" yes", 1.0, 0.0)["metrics"]["rate"])
    assert share.better(0.1, 0.2)
    assert (share.low, share.high, share.by_example.name) == (0.0, 1.0, "right_or_wrong")
    assert told(" yes", 0.3, 0.5)["metrics"]["rate"]["by_example"] == "mean"
