"""Start a model with a copying circuit: one head that looks one token back, one that continues what came before.

It knows attention weights, not what a model is trained on.

A model has to find these two heads before it can repeat a word that it was not taught, and finding them takes millions
of tokens; induction heads are what Olsson et al. describe in "In-context Learning and Induction Heads" (2022). Writing
them into the initial weights is cheap. In layer 0 the first key/value head attends to the previous token, whatever it
is: every embedding carries a constant in its first entry, from which fixed queries and keys are made whose rotary
angles meet at distance one. What it reads goes into a subspace of its own. In layer 1 the first key/value head compares
the current token with that subspace, in the pairs of dimensions that rotary positions hardly turn, and so attends to
what followed the same token before; it adds that token to the output. Training changes all of it freely.
"""

import math
from typing import cast

import torch
from torch import Tensor

from mantus.model.norm import RMSNorm
from mantus.model.transformer import Attention, Block, Transformer

CONSTANT = 8.0
"""The constant entry of every embedding, in standard deviations of the others."""
NUM_FAST = 3
"""Rotary frequencies that find the previous token: together they repeat no earlier than a hundred tokens away."""
SLOWEST_TURN = 0.006
"""Radians a token, below which a pair of dimensions says little about position."""
FAST_GAIN, SLOW_GAIN = 1.5, 1.6
"""Of the query and key norms: how sharply the two heads attend."""
READ, WRITE_BACK, WRITE_OUT = 16.0, 16.0, 32.0
"""Size of the value and output matrices in standard deviations of an ordinary weight."""


@torch.no_grad()
def add_copying(model: Transformer, generator: torch.Generator) -> None:
    """Write the circuit over the first key/value head of the first two layers and the query heads that share it.

    ValueError when the model has no two layers or no query and key norms.
    """
    config = model.config
    if config.num_layers < 2 or config.arch != "qwen3":
        raise ValueError("copy_circuit: needs two layers and the qwen3 architecture")
    width, std = config.head_dim, config.initializer_range
    turn = config.rope_theta ** (-torch.arange(width // 2) / (width // 2))
    model.model.embed_tokens.weight[:, 0] = CONSTANT * std
    now, before, out = (_directions(width, config.hidden_size, generator) for _ in range(3))
    first, second = (cast(Block, model.model.layers[index]).self_attn for index in (0, 1))
    _look_back(first, turn)
    _connect(first, now * READ * std, before.T * WRITE_BACK * std)
    slow = torch.where(turn < SLOWEST_TURN, 1.0, 0.15).repeat(2)[:, None]
    _fill(second, now * slow * READ * std, before * slow * READ * std)
    _connect(second, out * READ * std, out.T * WRITE_OUT * std)
    fast = (torch.arange(width // 2) < NUM_FAST).repeat(2)
    for norm in (first.q_norm, first.k_norm):
        cast(RMSNorm, norm).weight[fast] = FAST_GAIN
    for norm in (second.q_norm, second.k_norm):
        cast(RMSNorm, norm).weight[slow[:, 0] == 1.0] = SLOW_GAIN


def _directions(num: int, width: int, generator: torch.Generator) -> Tensor:
    """Orthonormal rows [num, width] that leave the constant entry alone (fewer are orthogonal in a narrow model)."""
    square, _ = torch.linalg.qr(torch.randn(width, width, generator=generator))
    rows: Tensor = square[:num].clone() if num <= width else square.repeat(-(-num // width), 1)[:num].clone()
    rows[:, 0] = 0
    return rows


def _look_back(layer: Attention, turn: Tensor) -> None:
    """Queries and keys from the constant entry, such that a query meets the key one position before it."""
    width = layer.head_dim
    query, key = torch.zeros(width), torch.zeros(width)
    for pair in range(NUM_FAST):
        key[pair] = 1.0
        query[pair], query[width // 2 + pair] = math.cos(turn[pair]), -math.sin(turn[pair])
    for weight, wanted in ((layer.q_proj.weight, query), (layer.k_proj.weight, key)):
        for start in range(0, _shared(layer) * width if weight is layer.q_proj.weight else width, width):
            weight[start : start + width] *= 0.1
            weight[start : start + width, 0] = wanted / 2


def _fill(layer: Attention, query: Tensor, key: Tensor) -> None:
    layer.k_proj.weight[: len(key)] = key
    layer.q_proj.weight[: _shared(layer) * len(query)] = query.repeat(_shared(layer), 1)


def _connect(layer: Attention, value: Tensor, output: Tensor) -> None:
    """What the first key/value head reads, and where its query heads write it, each an equal share."""
    layer.v_proj.weight[: len(value)] = value
    shared = _shared(layer)
    layer.o_proj.weight[:, : shared * len(value)] = output.repeat(1, shared) / shared


def _shared(layer: Attention) -> int:
    """Query heads of one key/value head."""
    return layer.q_proj.weight.shape[0] // layer.k_proj.weight.shape[0]
