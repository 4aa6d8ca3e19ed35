"""What all routers of a model did in one forward pass, computed together once the pass is over.

Layers have different numbers of experts, so everything is padded to the most, M, and those of equal number lie
together. Tokens come last: sums over a short last dimension are several times slower on CPUs.

Dimensions: T tokens, G linears that share an input, E experts of a layer, J layers, N linears of the model.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor

from molex_cli.layers.routing import (
    RoutingSums,
    balance_loss,
    full_precision,
    probabilities,
    routing_sums,
    running_totals,
    softmax_backward,
    widened,
)
from molex_cli.runtime import distributed


class Layer(Protocol):
    """What is to be known of a layer."""

    num_experts: int
    modules: list[str]
    """Its linears."""


class Seen(NamedTuple):
    """What the routers of linears that share an input did."""

    layer: int
    """Number of the layer among those that are routed."""
    linear: int
    """Number of the first linear among the layer's."""
    logits: Tensor | None
    """[T, G, E]; None where the gates are nobody's choice."""
    gates: Tensor
    """[T, G, E]."""


@dataclass(frozen=True, eq=False)
class Plan:
    """How the routings of a pass lie in one tensor."""

    sizes: tuple[tuple[int, int], ...]
    """(G, E) of each, in their order."""
    places: Tensor
    """Where each linear's sums are in the totals: [N]."""
    layer_of: Tensor
    """1 where a linear is of a layer: [J, N]."""
    experts: Tensor
    """Of each layer: [J]."""
    most: int
    """M."""

    def bands(self) -> Iterator[tuple[int, int, int]]:
        """Yield first linear, end and experts of the linears with equally many."""
        start = 0
        for experts, sizes in groupby(self.sizes, key=lambda size: size[1]):
            end = start + sum(count for count, _ in sizes)
            yield start, end, experts
            start = end

    def stacked(self, values: Sequence[Tensor], padding: float) -> Tensor:
        """Return tensors [T, G, E] as one: [N, M, T]."""
        tokens = values[0].shape[0]
        filler = None if all(value.shape[-1] == self.most for value in values) else values[0].new_full((), padding)
        pieces = []
        for value in values:
            missing = self.most - value.shape[-1]
            each = value.movedim(0, -1)
            if filler is None or not missing:
                pieces.append(each.flatten(0, 1))
                continue
            for own in each:
                pieces += [own, filler.expand(missing, tokens)]
        return torch.cat(pieces).view(-1, self.most, tokens)

    def parts(self, values_NMT: Tensor) -> list[Tensor]:
        """Return the [T, G, E] that `stacked` was made of."""
        linears = values_NMT.split([count for count, _ in self.sizes])
        pairs = zip(linears, self.sizes, strict=True)
        return [part[:, :experts].movedim(-1, 0) for part, (_, experts) in pairs]


class Probabilities(torch.autograd.Function):
    """The softmax over experts of the routers of a pass: `Plan`, then logits [T, G, E] each, to [N, M, T]."""

    @staticmethod
    def forward(ctx: Any, plan: Plan, *logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return the probabilities, and the variance of the logits [N, T], which has no gradient."""
        stacked_NMT = plan.stacked(logits, -math.inf)
        found_NMT = probabilities(stacked_NMT.movedim(-1, 0)).movedim(0, -1)
        variance_NT = torch.cat([_variance(stacked_NMT[start:end, :experts]) for start, end, experts in plan.bands()])
        ctx.save_for_backward(found_NMT)
        ctx.plan, ctx.dtype = plan, stacked_NMT.dtype
        ctx.mark_non_differentiable(variance_NT)
        ctx.set_materialize_grads(False)
        return found_NMT, variance_NT

    @staticmethod
    def backward(ctx: Any, grad_NMT: Tensor | None, _: None) -> tuple:
        """Return the gradients of the logits."""
        plan: Plan = ctx.plan
        if grad_NMT is None:
            return (None, *(None for _ in plan.sizes))
        (found_NMT,) = ctx.saved_tensors
        grad = softmax_backward(found_NMT.movedim(-1, 0), grad_NMT.movedim(-1, 0)).movedim(0, -1)
        return (None, *plan.parts(grad.to(ctx.dtype)))


def _variance(logits_NET: Tensor) -> Tensor:
    return logits_NET.float().var(1, unbiased=False)


@dataclass
class Group:
    """The routings of a pass that were of equally shaped tokens."""

    weights: Tensor
    """Of the tokens: [T]."""
    seen: list[Seen] = field(default_factory=list)
    counted: "Counted | None" = None


class Counted(NamedTuple):
    """What was found of a group."""

    plan: Plan
    probability: Tensor
    """[N, M, T]."""
    sums: Tensor
    """Packed `RoutingSums` of each linear: [N, 3 M + 3]."""


class RoutingPass:
    """The routings of the last forward pass, and their running totals since these were taken."""

    def __init__(self, weights_of: Callable[[torch.Size, Tensor], Tensor]) -> None:
        """Take what gives the weights of tokens of a shape, flattened, beside a tensor of theirs."""
        self._weights_of = weights_of
        self._layers: list[Layer] = []
        self._seen: list[tuple[torch.Size, Seen]] = []
        """In this forward pass, by the shape of the tokens; not grouped yet, since compiled code adds to it."""
        self._groups: dict[torch.Size, Group] = {}
        self._plans: dict[Any, Plan] = {}
        self._totals: Tensor | None = None
        """Packed `RoutingSums` of every linear, in the order of layers and linears."""
        self._in_totals: set[int] = set()
        """Layers with something in the totals."""

    def __getstate__(self) -> dict[str, Any]:
        """Leave the last forward pass out of copies: it hangs on the graph of the original."""
        return {**self.__dict__, "_seen": [], "_groups": {}}

    def join(self, layer: "Layer") -> int:
        """Add a layer and return its number."""
        self._layers.append(layer)
        return len(self._layers) - 1

    def clear(self) -> None:
        """Forget the last forward pass."""
        self._seen, self._groups = [], {}

    def see(self, seen: Seen, shape: torch.Size) -> None:
        """Keep a routing of tokens of a shape until the pass is over."""
        self._seen.append((shape, seen))

    def end(self) -> None:
        """Group what was seen, at the end of a pass: the weights of its tokens are known then."""
        for shape, seen in self._seen:
            if shape not in self._groups:
                self._groups[shape] = Group(self._weights_of(shape, seen.gates))
            self._groups[shape].seen.append(seen)
        self._seen = []

    def count(self) -> None:
        """Add what was seen to the totals."""
        for group in self._groups.values():
            self._in_totals |= {each.layer for each in group.seen}
            plan, _, sums = self._counted(group)
            totals = self._totals_on(sums.device)
            totals.index_add_(0, plan.places, sums.to(totals.dtype))

    def balances(self, *, split: bool = False) -> Tensor:
        """Return the balance loss of each layer in the last forward pass, 1 when balanced: [J].

        With `split`, all processes have rows of that forward pass, and each returns its part of the sum.
        """
        found = [self._counted(group) for group in self._groups.values()]
        with full_precision(found[0].sums):
            pairs = zip(found, self._groups.values(), strict=True)
            importance_JM = _added([each.plan.layer_of @ _over_tokens(each, group) for each, group in pairs])
            load_JM = _added([each.plan.layer_of @ each.sums[:, : each.plan.most] for each in found])
            tokens_J1 = importance_JM.detach().sum(-1, keepdim=True)
            if split:
                load_JM, tokens_J1 = distributed.all_reduce(load_JM), distributed.all_reduce(tokens_J1)
            load_JM = load_JM / load_JM.sum(-1, keepdim=True).clamp(min=1)
            return balance_loss(load_JM, importance_JM / tokens_J1.clamp(min=1e-9), found[0].plan.experts)

    def sums(self, layer: int) -> Tensor | None:
        """Return the packed `RoutingSums` of a layer's linears since they were last taken; None for nothing."""
        if layer not in self._in_totals or self._totals is None:
            return None
        return widened(self._totals[self._rows(layer)].cpu(), self._layers[layer].num_experts)

    def put(self, layer: int, sums: Tensor | None) -> None:
        """Put a layer's sums into the place of those so far; None begins anew."""
        if sums is None:
            self._in_totals.discard(layer)
            if self._totals is not None:
                self._totals[self._rows(layer)] = 0
        else:
            self._in_totals.add(layer)
            totals = self._totals_on(None)
            totals[self._rows(layer)] = widened(sums, self._most()).to(totals)

    def _counted(self, group: Group) -> Counted:
        if group.counted is None:
            with full_precision(group.weights):
                group.counted = self._count_of(group)
            group.seen = []  # views, whose bases the backward pass is to free
        return group.counted

    def _count_of(self, group: Group) -> Counted:
        group.seen.sort(key=lambda seen: seen.gates.shape[-1])
        plan = self._plan(group.seen)
        gates_NMT = plan.stacked([seen.gates for seen in group.seen], 0.0)
        logits = [seen.logits for seen in group.seen if seen.logits is not None]
        if logits:
            probability_NMT, variance_NT = Probabilities.apply(plan, *logits)
        else:
            probability_NMT, variance_NT = gates_NMT, torch.zeros_like(gates_NMT[:, 0])
        with torch.no_grad():
            probability, gates, variance = (each.movedim(-1, 0) for each in (probability_NMT, gates_NMT, variance_NT))
            return Counted(plan, probability_NMT, routing_sums(probability, gates, group.weights, variance))

    def _plan(self, seen: Sequence[Seen]) -> Plan:
        key = (seen[0].gates.device, *((each.layer, each.linear, each.gates.shape[1:]) for each in seen))
        if key not in self._plans:
            self._plans[key] = self._made_plan(seen)
        return self._plans[key]

    @torch.inference_mode(False)  # training uses it, too
    def _made_plan(self, seen: Sequence[Seen]) -> Plan:
        device = seen[0].gates.device
        linears = [(each.layer, each.linear + i) for each in seen for i in range(each.gates.shape[1])]
        layer_of = torch.zeros(len(self._layers), len(linears))
        layer_of[[layer for layer, _ in linears], range(len(linears))] = 1.0
        return Plan(
            sizes=tuple((each.gates.shape[1], each.gates.shape[2]) for each in seen),
            places=torch.tensor([self._rows(layer).start + index for layer, index in linears], device=device),
            layer_of=layer_of.to(device),
            experts=torch.tensor([float(layer.num_experts) for layer in self._layers], device=device),
            most=self._most(),
        )

    def _most(self) -> int:
        return max(layer.num_experts for layer in self._layers)

    def _rows(self, layer: int) -> slice:
        """Return where a layer's linears are in the totals."""
        start = sum(len(each.modules) for each in self._layers[:layer])
        return slice(start, start + len(self._layers[layer].modules))

    def _totals_on(self, device: torch.device | None) -> Tensor:
        """Return the totals, on this device or where they are."""
        rows = sum(len(layer.modules) for layer in self._layers)
        self._totals = running_totals(self._totals, (rows, RoutingSums.width(self._most())), device)
        return self._totals


def _added(values: Sequence[Tensor]) -> Tensor:
    return values[0] if len(values) == 1 else torch.stack(list(values)).sum(0)


def _over_tokens(counted: Counted, group: Group) -> Tensor:
    """Return the summed probability of each linear's experts: [N, M]."""
    return (counted.probability.flatten(0, 1) @ group.weights).view(-1, counted.plan.most)
