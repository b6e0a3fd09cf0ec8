"""Cross-entropy of a linear head, in chunks, gradients made while the logits are still in cache.

It knows hidden states and targets, not models. N tokens, D width, V vocabulary. Logits lie the vocabulary first: a
processor's three bfloat16 products take two thirds of the time that they take with the tokens first.
"""

from typing import Any

import torch
from torch import Tensor, nn

from mantus.model.transformer import Transformer

IGNORE = -100
CHUNK_TOKENS = 512
"""512 x 4,096 float32 logits are 8 MB: inside the last-level cache of small machines."""


class LinearCrossEntropy(torch.autograd.Function):
    """Sum of cross-entropy, plus z_loss * logsumexp^2; never holds more than a chunk of logits."""

    @staticmethod
    def forward(ctx: Any, x_ND: Tensor, w_VD: Tensor, targets_N: Tensor, dtype: torch.dtype, z_loss: float) -> Tensor:
        """The sum (float32 scalar); gradients for x and w are made here."""
        w = w_VD.to(dtype)
        dx_ND = torch.empty_like(x_ND)
        dw_VD = torch.zeros_like(w_VD, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        total = x_ND.new_zeros((), dtype=torch.float32)
        for start in range(0, len(x_ND), CHUNK_TOKENS):
            rows = slice(start, start + CHUNK_TOKENS)
            x, target = x_ND[rows].to(dtype), targets_N[None, rows]
            logits = (w @ x.T).float()
            top, said = logits.amax(dim=0, keepdim=True), logits.gather(0, target)
            powers = logits.sub_(top).exp_()  # once: two thirds of what is not a matrix product
            sums = powers.sum(dim=0, keepdim=True)
            lse = top + sums.log()
            total += (lse - said + z_loss * lse.square()).sum()
            slope = powers.mul_((1 + 2 * z_loss * lse) / sums)
            slope.scatter_add_(0, target, torch.full_like(lse, -1.0))
            slope = slope.to(dtype)
            dx_ND[rows] = (slope.T @ w).to(dx_ND.dtype)
            if dw_VD is None:
                continue
            if dtype == dw_VD.dtype:
                dw_VD.addmm_(slope, x)
            else:
                dw_VD += slope @ x
        ctx.save_for_backward(dx_ND, dw_VD)
        return total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        """Scale the stored gradients."""
        dx_ND, dw_VD = ctx.saved_tensors
        return dx_ND * grads[0], None if dw_VD is None else dw_VD * grads[0], None, None, None


class NextToken(nn.Module):
    """A model and its objective as one module, so that data parallelism sees every weight used."""

    def __init__(self, model: Transformer, dtype: torch.dtype, z_loss: float = 0.0) -> None:
        super().__init__()
        self.inner = model
        self.inner.compute_dtype = dtype
        self.dtype, self.z_loss = dtype, z_loss

    def forward(self, ids_BT: Tensor, targets_BT: Tensor, documents_BT: Tensor | None = None) -> Tensor:
        """Sum of the loss over targets that are not IGNORE.

        documents_BT: numbers the documents of each row, one behind another; attention and positions stay within each.
        """
        positions_BT, lengths = (None, None) if documents_BT is None else by_documents(documents_BT)
        at_N, targets_N = trained(targets_BT)
        x_ND = self.inner.hidden(ids_BT, positions_BT, lengths, at_N)
        loss: Tensor = LinearCrossEntropy.apply(  # type: ignore[no-untyped-call]
            x_ND, self.inner.lm_head.weight, targets_N, self.dtype, self.z_loss
        )
        return loss


def trained(targets_BT: Tensor) -> tuple[Tensor, Tensor]:
    """Which of the flattened positions are trained, and their targets."""
    flat = targets_BT.flatten()
    at_N = (flat != IGNORE).nonzero().squeeze(1)
    return at_N, flat[at_N]


def by_documents(documents_BT: Tensor) -> tuple[Tensor, list[int]]:
    """Positions [B, T] within each document, and the documents' lengths in the order of the flattened rows."""
    begins = torch.ones_like(documents_BT, dtype=torch.bool)
    begins[:, 1:] = documents_BT[:, 1:] != documents_BT[:, :-1]
    at = begins.flatten().nonzero().squeeze(1)
    lengths = torch.diff(at, append=at.new_tensor([begins.numel()]))
    positions = torch.arange(begins.numel(), device=at.device) - at.repeat_interleave(lengths)
    return positions.view(begins.shape), lengths.tolist()
