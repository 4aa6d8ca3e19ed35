"""The feed-forward network of a layer, found by the names of its linears."""

from dataclasses import dataclass

from molex_cli.errors import MethodError
from molex_cli.models.structure import Backbone, Linear

# The linears that read the network's input, and the one that gives its output, by the ends of their names after what
# comes before both. Between them every family works on each feature, or each token's features, alone.
NETWORKS = (
    (("gate_proj", "up_proj"), "down_proj"),  # Llama, Mistral, Gemma, Qwen
    (("gate_up_proj",), "down_proj"),  # Phi-3
    (("up_proj",), "down_proj"),  # MPT
    (("c_fc",), "c_proj"),  # GPT-2
    (("intermediate.dense",), "output.dense"),  # BERT, RoBERTa, DeBERTa, ELECTRA
    (("lin1",), "lin2"),  # DistilBERT
    (("fc1",), "fc2"),  # OPT, Phi
    (("fc_in",), "fc_out"),  # GPT-J
    (("dense_h_to_4h",), "dense_4h_to_h"),  # GPT-NeoX, Falcon, BLOOM
    (("Wi",), "Wo"),  # ModernBERT
)


@dataclass(frozen=True)
class FeedForward:
    """The linears of one feed-forward network."""

    inputs: tuple[Linear, ...]
    """Those that read its input."""
    output: Linear

    @property
    def linears(self) -> tuple[Linear, ...]:
        """Return all of them, in the order in which they are called."""
        return (*self.inputs, self.output)


def feed_forwards(backbone: Backbone) -> list[FeedForward]:
    """Return the feed-forward network of every layer; raise MethodError for a model whose layers have not one each."""
    layers: list[dict[str, Linear]] = [{} for _ in range(backbone.num_layers)]
    for linear in backbone.linears():
        layers[linear.layer][linear.name.removeprefix(f"{backbone.blocks_name}.{linear.layer}.")] = linear
    return [_found(backbone, linears) for linears in layers]


def _found(backbone: Backbone, linears: dict[str, Linear]) -> FeedForward:
    for inputs, output in NETWORKS:
        before = [name.removesuffix(output) for name in linears if f".{name}".endswith(f".{output}")]
        found = [
            FeedForward(tuple(linears[start + name] for name in inputs), linears[start + output])
            for start in before
            if all(start + name in linears for name in inputs)
        ]
        if len(found) == 1:
            return found[0]
        if found:
            break
    known = "; ".join(f"{' and '.join(inputs)} with {output}" for inputs, output in NETWORKS)
    raise MethodError(
        f"model must have one feed-forward network of known names in each layer, got {backbone.name} with "
        f"{', '.join(sorted(linears)) or 'no linears'}; known are {known}"
    )
