"""The published code of MoLEx and LoRA on GPT-2 as plain formulas, in our own words: the oracle of `molex_paper`.

Dimensions: B rows, T tokens, D features, H heads, L layers. Nothing here hides padding: a token sees all before it.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from molex_cli.layers.mixing import MixedBlock


def attention(z_BTD: Tensor, block: torch.nn.Module, heads: int, scale: float) -> Tensor:
    """Causal attention whose joint linear has updates on query and value alone: q + s B_q A_q z, k, v + s B_v A_v z."""
    joint = block.attn.c_attn
    query, key, value = (z_BTD @ joint.base.weight + joint.base.bias).split(z_BTD.shape[-1], -1)
    query = query + scale * (z_BTD @ joint.query.down[0].t() @ joint.query.up[0])
    value = value + scale * (z_BTD @ joint.value.down[0].t() @ joint.value.up[0])
    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (query, key, value))
    scores = q @ k.transpose(-1, -2) / math.sqrt(q.shape[-1])
    later = torch.ones(scores.shape[-2:], dtype=torch.bool).triu(1)
    mixed = scores.masked_fill(later, float("-inf")).softmax(-1) @ v
    return mixed.transpose(1, 2).flatten(2) @ block.attn.c_proj.weight + block.attn.c_proj.bias


def gpt2_block(z_BTD: Tensor, block: torch.nn.Module, heads: int, scale: float) -> Tensor:
    """One block: x + attention(norm x), then x + MLP(norm x), with no dropout."""
    x = z_BTD + attention(norm(z_BTD, block.ln_1), block, heads, scale)
    inner = norm(x, block.ln_2) @ block.mlp.c_fc.weight + block.mlp.c_fc.bias
    return x + functional.gelu(inner, approximate="tanh") @ block.mlp.c_proj.weight + block.mlp.c_proj.bias


def norm(x: Tensor, layer: torch.nn.LayerNorm) -> Tensor:
    return functional.layer_norm(x, x.shape[-1:], layer.weight, layer.bias, layer.eps)


def molex_gpt2(made, ids_BT: Tensor) -> tuple[Tensor, Tensor, list[int]]:
    """Return logits [B, T, V], the sum over mixing layers of L P_j, and the guests: one vote of all B*T tokens each."""
    model, scale = made.model.transformer, made.experiment.method.lora.scale
    heads = made.model.config.n_head
    blocks = list(model.h)
    bare = [block.host if isinstance(block, MixedBlock) else block for block in blocks]
    z = model.wte.weight[ids_BT] + model.wpe.weight[: ids_BT.shape[1]]
    balance, guests = torch.zeros(()), []
    for block, own in zip(blocks, bare, strict=True):
        output = gpt2_block(z, own, heads, scale)
        if isinstance(block, MixedBlock):
            logits = z @ block.gate.weight.t() + block.gate.bias
            guest = int(torch.mode(logits.argmax(-1).flatten()).values)
            balance = balance + len(blocks) * logits.softmax(-1)[..., guest].mean()
            alpha = block.host_weight()
            output = alpha * output + (1 - alpha) * gpt2_block(z, bare[guest], heads, scale)
            guests.append(guest)
        z = output
    return norm(z, model.ln_f) @ model.wte.weight.t(), balance, guests


def smoothed_loss(logits_BTV: Tensor, labels_BT: Tensor, smoothing: float) -> Tensor:
    """(1 - s) x the negative log-likelihood of the next token + s x its mean over the vocabulary, on learned tokens."""
    log_p = logits_BTV[:, :-1].log_softmax(-1)
    target = labels_BT[:, 1:]
    learned = target != -100
    right = -log_p.gather(-1, target.clamp(min=0)[..., None])[..., 0]
    loss_BT = (1 - smoothing) * right + smoothing * -log_p.mean(-1)
    return (loss_BT * learned).sum() / learned.sum()


def moe_linear(experts, x: Tensor, masks_ETI: Tensor, top_k: int, scale: float, keep: float) -> Tensor:
    """MoLA's linear, a dropout mask m for each expert: W x + b + s sum over the top k of S_e B_e A_e (m_e x / keep)."""
    y = functional.linear(x, experts.base.weight, experts.base.bias)
    probability = (x @ experts.router.t()).softmax(-1)
    kept, chosen = probability.topk(top_k, -1)
    gates = torch.zeros_like(probability).scatter(-1, chosen, kept / kept.sum(-1, keepdim=True))
    for e in range(experts.num_experts):
        dropped = x * masks_ETI[e] / keep
        y = y + scale * gates[..., e, None] * (dropped @ experts.down[e].t() @ experts.up[e])
    return y
