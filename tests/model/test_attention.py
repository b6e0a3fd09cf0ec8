"""The gradients of attention in bfloat16 are near those of float64, whatever lengths, groups and scores."""

import pytest
import torch
from torch import Tensor

from mantus.model.attention import BLOCK, attend
from mantus.model.documents import by_document, lay_out

NEAR = 0.015
"""Of a gradient's norm; torch's own backward pass in bfloat16 is between 0.003 and 0.007 off here."""


def gradients(precision: torch.dtype, given: list[Tensor], slope: Tensor, lengths: list[int] | None) -> list[Tensor]:
    inputs = [x.to(precision).requires_grad_() for x in given]
    mixed = attend(*inputs) if lengths is None else by_document(*inputs, lay_out(lengths, inputs[0]))
    mixed.backward(slope.to(precision))
    return [x.grad.double() for x in inputs if x.grad is not None]


@pytest.mark.parametrize(
    ("rows", "length", "heads", "kv_heads", "width", "gain", "lengths"),
    [
        (2, 40, 6, 2, 64, 1.0, None),
        (1, 2 * BLOCK + 33, 4, 4, 32, 1.0, None),
        (1, BLOCK, 4, 1, 128, 1.0, None),
        (2, 96, 4, 2, 64, 6.0, None),  # scores of dozens: the products' rounding would show
        (1, 70, 4, 2, 64, 1.0, [33, 1, 36]),
        (2, 130, 4, 2, 64, 1.0, [33, 1, 96, 70, 60]),  # the last but one shares a call with the third
    ],
)
def test_gradients_are_near_those_of_float64(
    rows: int, length: int, heads: int, kv_heads: int, width: int, gain: float, lengths: list[int] | None
):
    torch.manual_seed(0)
    sizes = ((heads, gain), (kv_heads, 1.0), (kv_heads, 1.0))
    given = [(torch.randn(rows, length, number, width) * much).bfloat16() for number, much in sizes]
    slope = torch.randn(rows, length, heads, width).bfloat16()
    exact = gradients(torch.float64, given, slope, lengths)
    for ours, theirs in zip(gradients(torch.bfloat16, given, slope, lengths), exact, strict=True):
        assert ours.shape == theirs.shape
        assert float((ours - theirs).norm() / theirs.norm()) < NEAR


def test_what_comes_later_has_no_part_in_a_gradient():
    torch.manual_seed(0)
    given = [torch.randn(1, BLOCK + 20, 2, 32).bfloat16() for _ in range(3)]
    slope = torch.randn(1, BLOCK + 20, 2, 32).bfloat16()
    slope[:, 100:] = 0
    for gradient in gradients(torch.bfloat16, given, slope, None):
        assert gradient[:, :100].any()
        assert not gradient[:, 100:].any()
