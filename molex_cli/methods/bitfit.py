"""BitFit: train the biases that the model has, and the head (Ben Zaken et al. 2022)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molex_cli.errors import MethodError
from molex_cli.methods.base import Adapted, Group, OwnWeights, freeze, method

if TYPE_CHECKING:
    from molex_cli.models.structure import Backbone


@method("bitfit")
@dataclass(kw_only=True)
class BitFit(OwnWeights):
    """Train every bias inside the blocks."""

    name: str = "bitfit"
    display_name: str = "BitFit"
    learning_rate: float = 1e-3

    def inject(self, backbone: "Backbone") -> Adapted:
        """Unfreeze the biases of the blocks, those of normalisation layers too."""
        inside = f"{backbone.blocks_name}."
        biases = {
            name: p
            for name, p in backbone.model.named_parameters()
            if name.startswith(inside) and name.rpartition(".")[2] == "bias"
        }
        if not biases:
            raise MethodError(
                f"method=bitfit must have biases to train, got none in {backbone.name}; choose method=lora"
            )
        return Adapted(backbone=backbone, groups=freeze(backbone, Group(name="biases", parameters=biases)))
