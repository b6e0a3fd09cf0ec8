"""Causal attention: torch's kernels, and in bfloat16 on a processor a backward pass of whole matrix products.

torch's own backward pass multiplies small tiles there, slower than it does in float32: a third of a small model's step.
It knows queries, keys and values, not models.

Shapes: B batch, T time, N query heads, K key/value heads, G = N / K, H head width, R = B * K, Q = G * the queries of a
block, W = H + 2.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

BLOCK = 256
"""Queries that meet their keys at once: what lies beyond the diagonal of a block is computed for nothing."""


def attend(q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor) -> Tensor:
    """Causal attention within each row -> [B, T, N, H]."""
    q_BNTH, k_BKTH, v_BKTH = (x.transpose(1, 2) for x in (q_BTNH, k_BTKH, v_BTKH))
    if q_BTNH.dtype == torch.bfloat16 and q_BTNH.device.type == "cpu" and torch.is_grad_enabled():
        mixed_BNTH = InBlocks.apply(q_BNTH, k_BKTH, v_BKTH)  # type: ignore[no-untyped-call]
    else:
        mixed_BNTH = by_torch(q_BNTH, k_BKTH, v_BKTH)
    mixed_BTNH: Tensor = mixed_BNTH.transpose(1, 2)
    return mixed_BTNH


def by_torch(q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor) -> Tensor:
    """Causal attention by torch's own kernels -> [B, N, T, H]."""
    grouped = q_BNTH.shape[1] != k_BKTH.shape[1]
    return F.scaled_dot_product_attention(q_BNTH, k_BKTH, v_BKTH, is_causal=True, enable_gqa=grouped)


class InBlocks(torch.autograd.Function):
    """torch's forward pass, and gradients for a block of queries at a time."""

    @staticmethod
    def forward(ctx: Any, q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor) -> Tensor:
        """[B, N, T, H]."""
        shared = q_BNTH.shape[1] // k_BKTH.shape[1]
        k_BNTH, v_BNTH = (x.repeat_interleave(shared, 1) for x in (k_BKTH, v_BKTH))
        out, lse_BNT = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(q_BNTH, k_BNTH, v_BNTH, 0.0, True)
        ctx.save_for_backward(q_BNTH, k_BKTH, v_BKTH, out, lse_BNT)
        mixed_BNTH: Tensor = out
        return mixed_BNTH

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """The gradients of queries, keys and values."""
        return gradients(slopes[0], *ctx.saved_tensors)


@torch.library.custom_op("mantus::attention_gradients", mutates_args=())
def gradients(
    slope_BNTH: Tensor, q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor, out_BNTH: Tensor, lse_BNT: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients of queries, keys and values, in their shapes.

    slope: of the output.  lse: the logarithm of each query's summed exponentials.  A product rounds what it gives to
    bfloat16, of a large score more than of what is left when lse is taken off. So two more columns take it off within
    the product, and the mean slope likewise.
    """
    (B, N, T, H), K = q_BNTH.shape, k_BKTH.shape[1]
    scale, kind = H**-0.5, q_BNTH.dtype
    q_RGTW = widened(q_BNTH * scale, -lse_BNT, K)
    slope_RGTW = widened(slope_BNTH, -(slope_BNTH.float() * out_BNTH).sum(-1), K)
    k_RTW, v_RTW = (F.pad(x, (0, 2), value=1.0).flatten(0, 1) for x in (k_BKTH, v_BKTH))
    k_RTH = k_RTW[..., :H] * scale
    dq_RGTH = q_RGTW.new_empty(B * K, N // K, T, H)
    dk_RTH, dv_RTH = (torch.zeros(B * K, T, H, device=q_BNTH.device) for _ in range(2))
    for start in range(0, T, BLOCK):
        end = min(start + BLOCK, T)
        q_RQW, slope_RQW = (x[:, :, start:end].flatten(1, 2) for x in (q_RGTW, slope_RGTW))
        weights_RQT = torch.bmm(q_RQW, k_RTW[:, :end].mT).exp_()
        weights_RQT.view(-1, end - start, end).tril_(start)
        slopes_RQT = torch.bmm(slope_RQW, v_RTW[:, :end].mT).mul_(weights_RQT)
        dq_RGTH[:, :, start:end] = torch.bmm(slopes_RQT, k_RTH[:, :end]).view(B * K, N // K, -1, H)
        dk_RTH[:, :end] += torch.bmm(slopes_RQT.mT, q_RQW[..., :H])
        dv_RTH[:, :end] += torch.bmm(weights_RQT.mT, slope_RQW[..., :H])
    return dq_RGTH.view(q_BNTH.shape), dk_RTH.to(kind).view(k_BKTH.shape), dv_RTH.to(kind).view(v_BKTH.shape)


@gradients.register_fake
def _(slope_BNTH: Tensor, q_BNTH: Tensor, k_BKTH: Tensor, v_BKTH: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return q_BNTH.new_empty(q_BNTH.shape), k_BKTH.new_empty(k_BKTH.shape), v_BKTH.new_empty(v_BKTH.shape)


def widened(x_BNTH: Tensor, more_BNT: Tensor, num_kv_heads: int) -> Tensor:
    """x with one number more a row, in two columns, since one is not exact enough -> [R, G, T, W]."""
    high = more_BNT.to(x_BNTH.dtype)
    x_BNTW = torch.cat([x_BNTH, torch.stack([high, more_BNT - high], -1).to(x_BNTH.dtype)], -1)
    B, _, T, W = x_BNTW.shape
    return x_BNTW.reshape(B * num_kv_heads, -1, T, W)
