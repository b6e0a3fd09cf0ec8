"""Optimisers and learning-rate schedules: Muon for hidden matrices, AdamW for the rest, or AdamW for all.

It knows parameters by name and shape, not losses.
"""

import math
from typing import Any

import torch
from torch import nn

from mantus.training.strategies.muon import Muon

BETAS = (0.9, 0.95)


def make_optimizers(
    model: nn.Module,
    name: str,
    lr: float,
    weight_decay: float,
    embedding_lr: float = 1.0,
    precision: torch.dtype = torch.float32,
) -> list[torch.optim.Optimizer]:
    """Optimisers for a model; norms and embeddings are not decayed.

    name: `adamw`, or `muon` (its updates are scaled to AdamW's size, so that one learning rate serves both).
    embedding_lr: the learning rate of embeddings and norms, as a share of `lr`.  precision: of Muon's products.
    """
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    hidden = [p for n, p in trained.items() if p.dim() == 2 and "embed" not in n and "lm_head" not in n]
    chosen = {id(p) for p in hidden}
    rest = [p for p in trained.values() if id(p) not in chosen]
    plain: dict[str, Any] = {"lr": lr, "betas": BETAS, "fused": True}
    others: dict[str, Any] = {"params": rest, "lr": lr * embedding_lr, "weight_decay": 0.0}
    if name == "muon":
        muon = Muon(hidden, precision, lr=lr, weight_decay=weight_decay, momentum=0.95)
        return [muon, torch.optim.AdamW([others], **plain)]
    groups = [{"params": hidden, "weight_decay": weight_decay}, *([others] if rest else [])]
    return [torch.optim.AdamW(groups, **plain)]


def learning_rate(step: int, steps: int, warmup: int, schedule: str, decay_share: float) -> float:
    """The factor of the peak learning rate at `step` (from 0).

    wsd: warm up, stay, fall linearly to 0 over the last `decay_share` of the steps.  cosine: warm up, fall to 0.
    """
    rising = min(1.0, (step + 1) / max(1, warmup))
    if schedule == "cosine":
        return rising * 0.5 * (1 + math.cos(math.pi * step / max(1, steps)))
    return rising * min(1.0, (steps - step) / max(1.0, decay_share * steps))
