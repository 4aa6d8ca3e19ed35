"""Full fine-tuning: every parameter is trained. The upper reference line."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from molex_cli.methods.base import Adapted, Group, OwnWeights, freeze, method

if TYPE_CHECKING:
    from molex_cli.models.structure import Backbone


@method("full")
@dataclass(kw_only=True)
class Full(OwnWeights):
    """Train every parameter."""

    name: str = "full"
    display_name: str = "Full"
    learning_rate: float = 5e-5

    def inject(self, backbone: "Backbone") -> Adapted:
        """Unfreeze everything."""
        head = backbone.head()
        base = {name: p for name, p in backbone.model.named_parameters() if name not in head}
        # A pooler that the head does not read gets no gradient; that is the model's matter.
        return Adapted(backbone=backbone, groups=freeze(backbone, Group(name="backbone", parameters=base)))
