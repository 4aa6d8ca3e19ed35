"""The loop: its schedule, its gradients, its checks."""

import itertools
import re

import pytest
import torch
from conftest import batch

from molex_cli.config.task import AnswerMode, Task
from molex_cli.config.train import LearningRateSchedule, Train
from molex_cli.data.encoding import encode
from molex_cli.data.reading import Split
from molex_cli.errors import ConfigError, TrainingError
from molex_cli.methods.base import Group
from molex_cli.models.byte_tokenizer import byte_tokenizer
from molex_cli.objectives.classification import Classification
from molex_cli.runtime.hardware import Device, Hardware, accelerator, random_stream, stream_seed
from molex_cli.training.gradient_flow import GradientFlow
from molex_cli.training.loop import Schedule, Training, optimizer, rate_factor, steps

CPU = Hardware(device=Device.cpu)


def encoded(tmp_path, num_rows=20):
    texts = [(f"{'word ' * (i % 7)}{i}", f"text {i * i}") for i in range(num_rows)]
    rows = Split([f"train:{i}" for i in range(num_rows)], texts, [i % 2 for i in range(num_rows)], "test")
    return encode(rows, byte_tokenizer(64), 64, tmp_path)


def trained(adapted, tmp_path, *arguments, seed=0, **settings):
    made = adapted("method=mola_inverted", "method.dropout=0", *arguments)
    for module in made.model.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
    made.model.config.attention_probs_dropout_prob = 0.0
    for module in made.model.modules():
        if hasattr(module, "dropout_prob"):
            module.dropout_prob = 0.0
    train = Train(batch_size=8, epochs=2, **settings) if "batch_size" not in settings else Train(epochs=2, **settings)
    return made, list(loop_of(made, encoded(tmp_path), train, seed=seed))


def loop_of(made, rows, train, seed=0):
    training = Training.of(made, train, learning_rate=1e-3)
    return steps(
        training,
        Classification(Task(name="rows"), AnswerMode.head, ["no", "yes"]),
        rows,
        train,
        seed=seed,
        accelerator=accelerator(CPU),
    )


def test_accumulated_parts_train_like_the_whole_batch(adapted, tmp_path):
    whole, one = trained(adapted, tmp_path, "method.balance=0", batch_size=8)
    parts, other = trained(adapted, tmp_path, "method.balance=0", batch_size=2, gradient_accumulation_steps=4)
    assert [s.tokens for s in one] == [s.tokens for s in other]
    assert [s.loss for s in one] == pytest.approx([s.loss for s in other], abs=1e-5)
    for name, p in whole.trainable().items():
        torch.testing.assert_close(parts.trainable()[name], p, atol=2e-4, rtol=1e-3)


def test_training_twice_gives_identical_losses(adapted, tmp_path):
    runs = [[s.loss for s in trained(adapted, tmp_path)[1]] for _ in range(2)]
    assert runs[0] == runs[1]
    assert runs[0] != [s.loss for s in trained(adapted, tmp_path, seed=1)[1]]


def test_two_methods_with_the_same_seed_see_the_same_batches(adapted, tmp_path, monkeypatch):
    rows, seen = encoded(tmp_path), []
    make_batch = Classification.batch

    def watched(self, encoded, chosen, *rest):
        seen[-1].append(list(chosen))
        return make_batch(self, encoded, chosen, *rest)

    monkeypatch.setattr(Classification, "batch", watched)
    for method, seed in (("mola_inverted", 3), ("lora", 3), ("head", 3), ("head", 4)):
        seen.append([])
        list(loop_of(adapted(f"method={method}"), rows, Train(batch_size=4, epochs=2), seed=seed))
    assert seen[0] == seen[1] == seen[2] != seen[3]
    first, second = seen[0][:5], seen[0][5:]
    assert sorted(itertools.chain(*first)) == sorted(itertools.chain(*second)) == list(range(20))
    assert first != second, "each epoch has an order of its own"


def test_gradients_longer_than_the_limit_are_shortened_to_it_before_the_step(adapted, tmp_path):
    train = Train(batch_size=8, max_steps=2, max_grad_norm=1e-3)
    training = Training.of(adapted("method=lora"), train, learning_rate=1e-3)
    applied = []

    def measure(adam, *_):
        gradients = [p.grad for group in adam.param_groups for p in group["params"] if p.grad is not None]
        applied.append(float(torch.stack([g.norm() for g in gradients]).norm()))

    training.adam.register_step_pre_hook(measure)
    objective = Classification(Task(name="rows"), AnswerMode.head, ["no", "yes"])
    done = list(steps(training, objective, encoded(tmp_path), train, seed=0, accelerator=accelerator(CPU)))
    assert min(step.gradient_norm for step in done) > 1e-2, "the record tells the length before"
    assert applied == pytest.approx([1e-3, 1e-3], rel=1e-2)


def test_the_balance_loss_of_parts_is_their_mean_weighted_by_rows(adapted, tmp_path):
    made, found = adapted("method=mola_inverted"), []
    balance_of_part = made.auxiliary_loss

    def watched(**arguments):
        found.append(balance_of_part(**arguments))
        return found[-1]

    made.auxiliary_loss = watched
    train = Train(batch_size=3, gradient_accumulation_steps=3, max_steps=1)
    (step,) = loop_of(made, encoded(tmp_path, num_rows=8), train)
    a, b, c = (float(each.detach()) for each in found)
    assert step.balance_loss == pytest.approx((3 * a + 3 * b + 2 * c) / 8, rel=1e-5)


def test_the_gradient_of_the_balance_loss_counts_each_part_by_its_rows(adapted, tmp_path):
    def gradient(coefficient):
        made, seen = adapted("method=mola_inverted"), []
        made.balance = coefficient
        router = next(p for name, p in made.trainable().items() if name.endswith("router"))
        factors = iter((1.0, 10.0, 100.0))
        made.auxiliary_loss = lambda **_: next(factors) * router.sum()
        router.register_hook(lambda grad: seen.append(grad.clone()))
        train = Train(batch_size=3, gradient_accumulation_steps=3, max_steps=1)
        list(loop_of(made, encoded(tmp_path, num_rows=8), train))
        return sum(seen)

    added = gradient(2.0) - gradient(0.0)
    torch.testing.assert_close(added, torch.full_like(added, 2 * (3 * 1 + 3 * 10 + 2 * 100) / 8))


def test_dropout_differs_from_step_to_step_and_by_the_seed(adapted, tmp_path):
    def losses(seed, rate):
        made = adapted("method=lora", "method.dropout=0.5")
        train = Train(batch_size=8, epochs=3)
        training = Training.of(made, train, learning_rate=rate)
        rows = encoded(tmp_path, num_rows=8)  # one batch an epoch
        objective = Classification(Task(name="rows"), AnswerMode.head, ["no", "yes"])
        return [s.loss for s in steps(training, objective, rows, train, seed=seed, accelerator=accelerator(CPU))]

    still = losses(seed=0, rate=1e-12)  # the weights stay, so that only dropout changes
    assert len(set(still)) == 3
    assert still == losses(seed=0, rate=1e-12)
    assert not set(still) & set(losses(seed=1, rate=1e-12))


def test_the_balance_loss_is_reported_apart_from_the_task_loss(adapted, tmp_path):
    _, with_balance = trained(adapted, tmp_path, "method.balance=5.0", max_steps=1)
    _, without = trained(adapted, tmp_path, "method.balance=0", max_steps=1)
    assert with_balance[0].loss == without[0].loss
    assert with_balance[0].balance_loss == pytest.approx(without[0].balance_loss)
    assert with_balance[0].gradient_norm > without[0].gradient_norm


def test_a_loss_that_is_not_finite_stops_with_the_step_and_the_way_out(adapted, tmp_path):
    made = adapted("method=lora")
    with torch.no_grad():
        made.model.classifier.bias.fill_(float("nan"))
    loop = loop_of(made, encoded(tmp_path), Train())
    with pytest.raises(TrainingError, match=r"loss must be finite, got nan at step 1; lower train\.learning_rate"):
        next(loop)


def test_the_timetable_counts_steps_and_stops_at_max_steps():
    table = Schedule.of(Train(batch_size=4, gradient_accumulation_steps=2, epochs=1.5), 20)
    assert (table.effective_batch, table.steps_per_epoch, table.total_steps) == (8, 3, 4)
    assert Schedule.of(Train(max_steps=2), 1000).total_steps == 2
    assert len(list(table.batches([5] * 20, seed=0))) == 4


@pytest.mark.parametrize("schedule", LearningRateSchedule, ids=lambda schedule: schedule.name)
def test_the_learning_rate_rises_to_its_peak_and_never_wastes_a_step(schedule):
    factors = [rate_factor(step, 100, 10, schedule) for step in range(100)]
    assert all(a < b for a, b in itertools.pairwise(factors[:11]))
    assert max(factors) == pytest.approx(factors[10]) == pytest.approx(1.0)
    assert min(factors) > 0
    assert all(a >= b for a, b in itertools.pairwise(factors[10:]))


def test_the_rate_follows_the_formula_of_its_schedule():
    of = {name: [rate_factor(s, 24, 6, LearningRateSchedule[name]) for s in range(24)] for name in ("linear", "cosine")}
    for factors in of.values():
        assert factors[:7] == pytest.approx([1 / 7, 2 / 7, 3 / 7, 4 / 7, 5 / 7, 6 / 7, 1])
    # A third of the way down: 1 - 1/3, and (1 + cos 60 degrees) / 2; halfway they meet.
    assert (of["linear"][12], of["cosine"][12]) == pytest.approx((2 / 3, 3 / 4))
    assert (of["linear"][18], of["cosine"][18]) == pytest.approx((1 / 3, 1 / 4))
    assert (of["linear"][15], of["cosine"][15]) == pytest.approx((1 / 2, 1 / 2))


def test_a_run_is_scored_after_every_so_many_steps_and_after_the_last():
    table = Schedule.of(Train(batch_size=4, epochs=2, evaluate_every=3), 20)
    assert [step for step in range(1, 11) if table.evaluates_after(step)] == [3, 6, 9, 10]


def test_each_group_keeps_its_own_rate_and_decay(adapted):
    made = adapted("method=mola_inverted")
    made.groups.append(Group(name="gates", parameters={}, learning_rate=2.0))
    made.groups[1].learning_rate, made.groups[1].weight_decay = 5e-3, 0.3
    groups = {
        group["name"]: (group["peak"], group["weight_decay"])
        for group in optimizer(made, 1e-2, Train(weight_decay=0.1)).param_groups
    }
    assert groups == {"adapters": (1e-2, 0.1), "routers": (5e-3, 0.3), "head": (1e-2, 0.1)}


def test_the_gradient_check_names_a_tensor_that_gets_none(adapted):
    made = adapted("method=lora")
    name = next(name for name in made.trainable() if name.endswith("up"))
    dead = made.trainable()[name]
    dead.register_hook(torch.zeros_like)
    flow = GradientFlow.of(made)
    for seed in range(3):
        made.model(**batch(seed=seed)).loss.backward()
        flow.observe()
        with torch.no_grad():
            for p in made.trainable().values():
                p.sub_(0.1 * p.grad)
    report = flow.report()
    assert report["passed"] is False
    assert name in report["without_gradient"]


def test_one_step_is_too_few_to_judge(adapted):
    made = adapted("method=lora")
    flow = GradientFlow.of(made)
    made.model(**batch()).loss.backward()
    flow.observe()
    assert flow.report()["passed"] is None


def test_random_streams_do_not_move_each_other():
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with random_stream(0, "adapters"):
        inside = torch.rand(5)
    assert torch.equal(torch.rand(3), expected)
    with random_stream(0, "adapters"):
        assert torch.equal(torch.rand(5), inside)
    assert stream_seed(0, "adapters") != stream_seed(0, "head") != stream_seed(1, "head")


def test_biases_and_norms_are_spared_from_decay_where_that_is_set_and_a_groups_own_decay_holds(adapted):
    made = adapted("method=bitfit", "model=tiny_bert")
    made.groups.insert(0, Group(name="norms", parameters={"bert.embeddings.LayerNorm.weight": torch.nn.Parameter()}))
    molex = adapted("method=molex_paper", "method.gate_weight_decay=0.2")
    spared = Train(weight_decay=0.1, decay_biases_and_norms=False)

    def decays(adapted, train):
        name_of = {id(p): name for group in adapted.groups for name, p in group.parameters.items()}
        groups = optimizer(adapted, 1e-3, train).param_groups
        assert sum(len(group["params"]) for group in groups) == len(name_of)
        return {name_of[id(p)]: group["weight_decay"] for group in groups for p in group["params"]}

    assert set(decays(made, Train(weight_decay=0.1)).values()) == {0.1}
    found = decays(made, spared)
    assert {name for name, decay in found.items() if decay} == {"classifier.weight"}
    assert found["bert.embeddings.LayerNorm.weight"] == 0.0
    found = decays(molex, spared)
    gates = {decay for name, decay in found.items() if ".gate." in name or "host_weight" in name}
    assert gates == {0.2}
    assert {decay for name, decay in found.items() if name.endswith((".down", ".up"))} == {0.1}
    assert (found["classifier.weight"], found["classifier.bias"]) == (0.1, 0.0)


def test_norms_of_every_family_count_as_norms(adapted):
    for model in ("tiny_llama", "tiny_gpt2", "tiny_deberta", "tiny_gemma"):
        groups = optimizer(adapted("method=full", f"model={model}"), 1e-3, Train(decay_biases_and_norms=False))
        decayed, spared = groups.param_groups[0]["params"], groups.param_groups[1]["params"]
        assert {p.ndim for p in decayed} <= {2}
        assert {p.ndim for p in spared} == {1}


def test_warm_up_is_a_share_of_the_steps_or_a_number_of_them_and_exactly_one(experiment):
    assert Train(warmup_ratio=0.25).warmup(24) == 6
    assert Train(warmup_ratio=None, warmup_steps=100).warmup(24) == 100
    factors = [rate_factor(step, 24, 100, LearningRateSchedule.linear) for step in range(24)]
    assert factors == pytest.approx([(step + 1) / 101 for step in range(24)])
    assert experiment("train.warmup_ratio=null", "train.warmup_steps=0").train.warmup(10) == 0
    for settings, said in (
        (["train.warmup_steps=5"], "train.warmup_steps must go with train.warmup_ratio=null, got 5 and 0.06"),
        (["train.warmup_ratio=null"], "train.warmup_ratio must be set unless train.warmup_steps is, got null"),
        (["train.warmup_ratio=null", "train.warmup_steps=-1"], "train.warmup_steps must be at least 0, got -1"),
        (["train.adam_epsilon=0"], "train.adam_epsilon must be above 0, got 0"),
        (["train.adam_beta2=1"], "train.adam_beta2 must be at least 0 and below 1, got 1"),
    ):
        with pytest.raises(ConfigError, match=re.escape(said)):
            experiment(*settings)


def test_steps_of_warm_up_reach_the_loop(adapted, tmp_path):
    train = Train(batch_size=5, warmup_ratio=None, warmup_steps=9, max_steps=3)
    rates = [step.learning_rate for step in loop_of(adapted("method=head"), encoded(tmp_path), train)]
    assert rates == pytest.approx([1e-4, 2e-4, 3e-4])


def test_the_optimizer_takes_epsilon_and_betas(adapted):
    adam = optimizer(adapted("method=head"), 1e-3, Train(adam_epsilon=1e-6, adam_beta1=0.8, adam_beta2=0.98))
    assert (adam.defaults["eps"], adam.defaults["betas"]) == (1e-6, (0.8, 0.98))
