"""Muon, as torch has it, in the precision that the machine multiplies: torch's own always takes bfloat16.

A processor without bfloat16 computes its products forty times slower than those of float32: a step of the smallest
model took five seconds instead of one. It knows matrices and their gradients, not models.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor


class Muon(torch.optim.Muon):
    """Momentum, orthogonalised; updates are as large as AdamW's, so that one learning rate serves both.

    precision: of the products.  In bfloat16 every bit is that of torch.optim.Muon with adjust_lr_fn="match_rms_adamw".
    """

    def __init__(self, params: Any, precision: torch.dtype, **settings: Any) -> None:
        super().__init__(params, **settings, adjust_lr_fn="match_rms_adamw")
        self.precision = precision

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update every matrix that has a gradient."""
        assert closure is None, "the loop computes the loss"
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)

    def _update(self, weight: Tensor, grad: Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(grad)
        momentum = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
        update = grad.lerp(momentum, group["momentum"]) if group["nesterov"] else momentum
        update = orthogonal(update.to(self.precision), group["ns_coefficients"], group["ns_steps"], group["eps"])
        weight.mul_(1 - group["lr"] * group["weight_decay"])
        weight.add_(update, alpha=-group["lr"] * 0.2 * math.sqrt(max(weight.shape)))


def orthogonal(matrix: Tensor, coefficients: tuple[float, float, float], steps: int, eps: float) -> Tensor:
    """What is near a matrix and has singular values of about 1, by Newton and Schulz's iteration.

    Keller Jordan, Muon: an optimizer for hidden layers in neural networks (2024).
    """
    a, b, c = coefficients
    tall = matrix.size(0) > matrix.size(1)
    x = matrix.T if tall else matrix
    x = x / x.norm().clamp(min=eps)
    for _ in range(steps):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if tall else x
