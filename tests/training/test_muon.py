"""Muon: torch's own in bfloat16, and the same thing in float32."""

from collections.abc import Callable

import pytest
import torch

from mantus.training.strategies import muon
from mantus.training.strategies.muon import Muon, alike, is_tall, orthogonal

SHAPES = ((24, 8), (8, 24), (16, 16), (8, 24))
COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def stepped(make: Callable[[list[torch.Tensor]], torch.optim.Optimizer]) -> list[torch.Tensor]:
    """Matrices after three steps along the same gradients."""
    chance = torch.Generator().manual_seed(1)
    weights = [torch.randn(shape, generator=chance).requires_grad_() for shape in SHAPES]
    optimizer = make(weights)
    for _ in range(3):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=chance)
        optimizer.step()
    return weights


def test_in_bfloat16_it_is_torchs_bit_by_bit():
    theirs = stepped(lambda w: torch.optim.Muon(w, lr=0.02, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"))
    ours = stepped(lambda w: Muon(w, torch.bfloat16, lr=0.02, weight_decay=0.1))
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_in_float32_it_goes_the_same_way():
    rounded = stepped(lambda w: Muon(w, torch.bfloat16, lr=0.02))
    exact = stepped(lambda w: Muon(w, torch.float32, lr=0.02))
    assert all(torch.allclose(a, b, atol=3e-3) for a, b in zip(exact, rounded, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(exact, rounded, strict=True))


@pytest.mark.parametrize("shape", SHAPES)
def test_singular_values_are_about_one(shape: tuple[int, int]):
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    wide = matrix.T if is_tall(matrix) else matrix
    values = torch.linalg.svdvals(orthogonal(wide[None], COEFFICIENTS, 5, 1e-7))
    assert values.min() > 0.4
    assert values.max() < 1.4


def test_matrices_of_the_same_sides_are_multiplied_together(monkeypatch: pytest.MonkeyPatch):
    weights = [torch.zeros(shape) for shape in SHAPES]
    tall, wide, square, again = weights
    assert [[id(w) for w in some] for some in alike(weights)] == [[id(tall), id(wide), id(again)], [id(square)]]
    monkeypatch.setattr(muon, "TOGETHER", 2 * wide.numel())
    assert [len(some) for some in alike(weights)] == [2, 1, 1]


def test_a_matrix_without_gradient_stays():
    weight = torch.ones(4, 4, requires_grad=True)
    Muon([weight], torch.float32, lr=0.1).step()
    assert torch.equal(weight, torch.ones(4, 4))
