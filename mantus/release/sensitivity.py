"""Which layers suffer most from int8: each alone is quantised in torch, and what the model then says is compared.

It knows the arithmetic of the formats, not their files.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from mantus.release.measure import torch_model
from mantus.release.w8a8 import quantize_rows

WINDOWS = 4
BLOCK = 32
"""Weights that share a scale in Q8_0."""


@torch.no_grad()
def rank_layers(folder: Path, windows: Sequence[Sequence[int]], activations: bool) -> list[str]:
    """Names of the layers of a model by the KL divergence that int8 in each of them alone makes, largest first.

    A name is a prefix of tensors' names: `model.layers.3.`, `model.embed_tokens.`.  activations: round inputs too, as
    W8A8 does, and leave embedding and head out.
    """
    model = torch_model(folder).eval()
    asked = [torch.tensor([list(window)]) for window in windows[:WINDOWS]]
    truth = [model(ids).logits[0].log_softmax(-1) for ids in asked]
    layers = [f"model.layers.{number}." for number in range(model.config.num_hidden_layers)]
    if not activations:
        layers += ["model.embed_tokens.", *([] if model.config.tie_word_embeddings else ["lm_head."])]
    damage = {}
    for layer in layers:
        with quantised(model, layer, activations):
            found = [model(ids).logits[0].log_softmax(-1) for ids in asked]
        pairs = zip(truth, found, strict=True)
        damage[layer] = sum(float((own.exp() * (own - other)).sum(-1).mean()) for own, other in pairs)
    return sorted(layers, key=lambda layer: -damage[layer])


@contextmanager
def quantised(model: nn.Module, layer: str, activations: bool) -> Iterator[None]:
    """Within the block the matrices of a layer are what int8 makes of them; the head too where it is the embedding."""
    parts = [
        part
        for name, part in model.named_modules()
        if f"{name}.".startswith(layer) and isinstance(part, nn.Linear | nn.Embedding)
    ]
    stored = [part.weight.data for part in parts]
    hooks = [part.register_forward_pre_hook(_round_inputs) for part in parts if activations]
    for part in parts:
        part.weight.data = _as_w8a8(part.weight.data) if activations else round_blocks(part.weight.data)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
        for part, weight in zip(parts, stored, strict=True):
            part.weight.data = weight


def _round_inputs(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    return (round_rows(inputs[0]), *inputs[1:])


def _as_w8a8(weight: torch.Tensor) -> torch.Tensor:
    packed, scale = quantize_rows(weight)
    return packed * scale


def round_rows(values: torch.Tensor) -> torch.Tensor:
    """values [..., n] with each row rounded to 255 steps of its own peak."""
    step = values.abs().amax(-1, keepdim=True).clamp(min=1e-10) / 127
    return (values / step).round() * step


def round_blocks(weight: torch.Tensor) -> torch.Tensor:
    """weight [out, in] as Q8_0 stores it: blocks of 32 of a row have a scale each."""
    return round_rows(weight.reshape(-1, BLOCK)).reshape(weight.shape)
