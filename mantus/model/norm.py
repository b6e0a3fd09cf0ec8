"""Root-mean-square normalisation: torch's own, and for training on a processor one of half as many passes.

torch 2.13 composes it of some twenty operators there, forward and back, each of which reads all numbers again. It knows
activations, not models.

Shapes: N rows, W width.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class RMSNorm(nn.Module):
    """Scale to unit root mean square; sums are in float32 whatever the input is."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """x [..., width] -> the same shape and precision."""
        return rms_norm(x, self.weight, self.eps)


def rms_norm(x: Tensor, weight_W: Tensor, eps: float) -> Tensor:
    """x [..., W] over its root mean square, times the weight -> the same shape and precision."""
    if x.device.type == "cpu" and torch.is_grad_enabled() and not torch.compiler.is_compiling():
        normalised: Tensor = InFewPasses.apply(x, weight_W, eps)  # type: ignore[no-untyped-call]
        return normalised
    return F.rms_norm(x, weight_W.shape, weight_W.to(x.dtype), eps)


class InFewPasses(torch.autograd.Function):
    """The same with its gradients written out; torch's layer norm has a kernel for most of them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight_W: Tensor, eps: float) -> Tensor:
        """x [..., W] -> the same shape."""
        x_NW = x.reshape(-1, x.shape[-1])
        sums = torch.float32 if x.dtype in (torch.bfloat16, torch.float16) else x.dtype
        norms_N1 = torch.linalg.vector_norm(x_NW, dim=-1, keepdim=True, dtype=sums)
        scales_N1 = norms_N1.square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x_NW, weight_W, scales_N1)
        y_NW: Tensor = x_NW * scales_N1.to(x.dtype)
        return y_NW.mul_(weight_W.to(x.dtype)).view(x.shape)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """Layer norm's gradient at mean 0, and then without what it takes off for the mean."""
        x_NW, weight_W, scales_N1 = ctx.saved_tensors
        slope_NW = slopes[0].reshape(x_NW.shape)
        given = (slope_NW, x_NW, [x_NW.shape[1]], torch.zeros_like(scales_N1), scales_N1, weight_W.to(scales_N1.dtype))
        dx_NW = torch.ops.aten.native_layer_norm_backward(*given, None, [True, False, False])[0]
        taken_N1 = (slope_NW @ weight_W.to(slope_NW.dtype))[:, None] * (scales_N1 / x_NW.shape[1])
        dx_NW += taken_N1.to(dx_NW.dtype)
        dweight_W = None
        if ctx.needs_input_grad[1]:
            dweight_W = (slope_NW * x_NW).T @ scales_N1.squeeze(1).to(slope_NW.dtype)
            dweight_W = dweight_W.to(weight_W.dtype)
        return dx_NW.view(slopes[0].shape), dweight_W, None
