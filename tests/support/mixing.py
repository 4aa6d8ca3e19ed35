"""MoLEx far from its start."""

import torch

MODELS = ["tiny_bert", "tiny_gpt2", "tiny_llama"]


def spread(made, scale=0.3, seed=1):
    """Let adapters and gates be far from their start, so that layers, guests and votes differ."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for group in made.groups:
            for p in group.parameters.values():
                if group.name != "alphas":
                    p.add_(scale * torch.randn_like(p))
    made.model.eval()
    return made
