"""Gates that look at a hidden state and give every layer a logit, and the weight of a mixing layer's own output.

Dimensions: B sequences, T tokens, D features, P projected features, L layers of the model.
"""

import math

import torch
from torch import Tensor, nn

INIT_STD = 0.02
VECTOR_STD = 0.01
FIRST_TEMPERATURE, HIGHEST_TEMPERATURE = 2.0, 100.0


class LinearGate(nn.Module):
    """g(z) = W z + b (arXiv 2503.11144), with W from N(0, 0.02) and b zero."""

    def __init__(self, width: int, num_layers: int, device: torch.device) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(num_layers, width, device=device).normal_(0.0, INIT_STD))
        self.bias = nn.Parameter(torch.zeros(num_layers, device=device))

    def forward(self, z: Tensor) -> Tensor:
        """Return a logit for each layer, in float32 or better: [B, T, D] to [B, T, L]."""
        return _linear(z, self.weight, self.bias)

    def flops_per_token(self) -> float:
        """Return the forward FLOPs."""
        return 2.0 * self.weight.numel()


class CosineGate(nn.Module):
    """exp(tau) cos(W z + b, v_i): the cosine between the projected state and one learned vector a layer.

    The published code normalises the projection along the tokens instead of the features
    (`over_tokens`). The temperature exp(tau) starts at 2 and is at most 100.
    """

    def __init__(
        self, width: int, num_layers: int, device: torch.device, *, projected: int, over_tokens: bool = False
    ) -> None:
        super().__init__()
        self.over_tokens = over_tokens
        self.weight = nn.Parameter(torch.empty(projected, width, device=device).normal_(0.0, INIT_STD))
        self.bias = nn.Parameter(torch.zeros(projected, device=device))
        self.vectors = nn.Parameter(torch.empty(num_layers, projected, device=device).normal_(0.0, VECTOR_STD))
        self.temperature = nn.Parameter(torch.full((), math.log(FIRST_TEMPERATURE), device=device))

    def forward(self, z: Tensor) -> Tensor:
        """Return a logit for each layer, in float32 or better: [B, T, D] to [B, T, L]."""
        projected_BTP = _linear(z, self.weight, self.bias)
        unit_BTP = nn.functional.normalize(projected_BTP, dim=-2 if self.over_tokens else -1)
        cosine_BTL = unit_BTP @ nn.functional.normalize(self.vectors.to(unit_BTP.dtype), dim=-1).t()
        return cosine_BTL * self.temperature.clamp(max=math.log(HIGHEST_TEMPERATURE)).exp()

    def flops_per_token(self) -> float:
        """Return the forward FLOPs."""
        return 2.0 * (self.weight.numel() + self.vectors.numel())


def _linear(z: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Return W z + b in float32 even where a model was cast to less: votes are counted from it."""
    dtype = torch.float64 if weight.dtype == torch.float64 else torch.float32
    return nn.functional.linear(z.to(dtype), weight.to(dtype), bias.to(dtype))


class HostWeight(nn.Module):
    """The weight alpha of a layer's own output, a fixed number or learned from it.

    Learned, it is sigmoid(a) of one number or, as the published code has it, the first of the softmax of
    two. Both start at exactly the given value; the published code starts two numbers at (alpha,
    1 - alpha), which for 0.95 gives 0.711.
    """

    def __init__(self, value: float, device: torch.device, *, learned: bool = False, softmax: bool = False) -> None:
        super().__init__()
        self.value = value
        self.logits: nn.Parameter | None = None
        if learned:
            odds = math.log(value / (1 - value))
            start = [0.5 + odds / 2, 0.5 - odds / 2] if softmax else [odds]
            self.logits = nn.Parameter(torch.tensor(start, device=device))

    def forward(self) -> Tensor | float:
        """Return alpha, a number or a scalar tensor."""
        return self.value if self.logits is None else self._learned(self.logits)[0]

    def of_guest(self, device: torch.device) -> Tensor:
        """Return the guest's weight 1 - alpha as a tensor: [1]."""
        if self.logits is None:
            return torch.full((1,), 1 - self.value, device=device)
        return 1 - self._learned(self.logits)

    def _learned(self, logits: Tensor) -> Tensor:
        """Return alpha: [1]."""
        return logits.softmax(0)[:1] if len(logits) == 2 else logits.sigmoid()
