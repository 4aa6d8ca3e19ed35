"""How far the features of tokens are from others."""

from torch import Tensor


def token_difference(one_BTD: Tensor, other_BTD: Tensor, mask_BT: Tensor) -> float:
    """Return the largest difference of a real token's features, as a share of their own norm."""
    real = mask_BT.bool()
    one, other = one_BTD.float()[real], other_BTD.float()[real]
    share = (one - other).norm(dim=-1) / one.norm(dim=-1).clamp(min=1e-30)
    return float(share.max())
