"""Muon, as torch has it, in the precision that the machine multiplies: torch's own always takes bfloat16.

A processor without bfloat16 computes its products forty times slower than those of float32: a step of the smallest
model took five seconds instead of one. Matrices of the same sides are multiplied together. It knows matrices and their
gradients, not models.

Shapes: M matrices, S their shorter side, L their longer one.
"""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

TOGETHER = 1 << 22
"""Numbers that are multiplied at once, at most: a small model's hundreds of small products take longer to begin than to
compute, and a large one's matrices together would take too much memory."""


class Muon(torch.optim.Muon):
    """Momentum, orthogonalised; updates are as large as AdamW's, so that one learning rate serves both.

    precision: of the products.  In bfloat16 it is torch.optim.Muon with adjust_lr_fn="match_rms_adamw", bit by bit on a
    processor that has bfloat16.
    """

    def __init__(self, params: Any, precision: torch.dtype, **settings: Any) -> None:
        super().__init__(params, **settings, adjust_lr_fn="match_rms_adamw")
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None, "the loop computes the loss"
        for group in self.param_groups:
            for weights in alike([weight for weight in group["params"] if weight.grad is not None]):
                updates = torch.stack([self._direction(weight, group) for weight in weights])
                updates = orthogonal(updates, group["ns_coefficients"], group["ns_steps"], group["eps"])
                for weight, update in zip(weights, updates, strict=True):
                    weight.mul_(1 - group["lr"] * group["weight_decay"])
                    update = update.T if is_tall(weight) else update
                    weight.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(weight.shape)))

    def _direction(self, weight: Tensor, group: dict[str, Any]) -> Tensor:
        """Where momentum leads, its longer side last, in the precision of the products."""
        state, grad = self.state[weight], weight.grad
        assert grad is not None
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        momentum = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
        update = grad.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        return (update.T if is_tall(weight) else update).to(self.precision)


def is_tall(weight: Tensor) -> bool:
    """Whether it has more rows than columns."""
    return weight.shape[0] > weight.shape[1]


def alike(weights: list[Tensor]) -> Iterator[list[Tensor]]:
    """Weights of the same two sides, whichever way they lie, as many as TOGETHER allows."""
    by_sides: dict[tuple[int, ...], list[Tensor]] = {}
    for weight in weights:
        by_sides.setdefault(tuple(sorted(weight.shape)), []).append(weight)
    for sides, same in by_sides.items():
        most = max(1, TOGETHER // math.prod(sides))
        yield from (same[start : start + most] for start in range(0, len(same), most))


def orthogonal(matrices_MSL: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """What is near each of M matrices, its shorter side S first, and has singular values of about 1.

    By Newton and Schulz's iteration. Keller Jordan, Muon: an optimizer for hidden layers in neural networks (2024).
    """
    a, b, c = coefficients
    x_MSL: Tensor = matrices_MSL / matrices_MSL.flatten(1).norm(dim=1).clamp(min=eps)[:, None, None]
    for _ in range(steps):
        gram_MSS = x_MSL @ x_MSL.mT
        x_MSL = torch.baddbmm(x_MSL, torch.baddbmm(gram_MSS, gram_MSS, gram_MSS, beta=b, alpha=c), x_MSL, beta=a)
    return x_MSL
