"""Only the classification head is trained: the lower reference line."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molex_cli.methods.base import Adapted, OwnWeights, freeze, method

if TYPE_CHECKING:
    from molex_cli.models.structure import Backbone


@method("head")
@dataclass(kw_only=True)
class Head(OwnWeights):
    """Train the head on frozen features."""

    name: str = "head"
    display_name: str = "Head"
    learning_rate: float = 5e-3

    def inject(self, backbone: "Backbone") -> Adapted:
        """Freeze the base model."""
        return Adapted(backbone=backbone, groups=freeze(backbone))
