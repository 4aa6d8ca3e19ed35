"""BitFit: train the biases that the model has, and the head (Ben Zaken et al. 2022)."""

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from molex_cli.errors import MethodError
from molex_cli.methods.base import Adapted, Group, OwnWeights, freeze, method

if TYPE_CHECKING:
    from molex_cli.models.structure import Backbone


class Which(Enum):
    """The biases of the blocks, or all of the base model's, as the authors have it."""

    blocks = "blocks"
    all = "all"


@method("bitfit")
@dataclass(kw_only=True)
class BitFit(OwnWeights):
    """Train biases: those inside the blocks or, beside them, those of the embedding's norm and the pooler."""

    name: str = "bitfit"
    display_name: str = "BitFit"
    learning_rate: float = 1e-3
    which: Which = Which.blocks
    """blocks; or all: the embedding norm's, the last norm's and the pooler's biases too, where the model has them."""

    def paper(self) -> str:
        """Return the paper that the method is from."""
        return "Ben Zaken et al. 2022, arXiv 2106.10199"

    def inject(self, backbone: "Backbone") -> Adapted:
        """Unfreeze the biases, those of normalisation layers too; the head's train in any case."""
        inside = f"{backbone.blocks_name if self.which is Which.blocks else backbone.model.base_model_prefix}."
        head = backbone.head()
        biases = {
            name: p
            for name, p in backbone.model.named_parameters()
            if name.startswith(inside) and name.rpartition(".")[2] == "bias" and name not in head
        }
        if not biases:
            raise MethodError(
                f"method=bitfit must have biases to train, got none in {backbone.name}; choose method=lora"
            )
        return Adapted(backbone=backbone, groups=freeze(backbone, Group(name="biases", parameters=biases)))
