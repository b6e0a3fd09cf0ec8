"""Attention within documents that lie one behind another in rows: causal, and none sees another.

Not by a block-diagonal mask, for which a kernel would visit every pair of positions of a row. It knows queries, keys
and values, not models.

Shapes: B batch, T time, N positions (B * T), P places, H head width; before it query heads or those of keys and values.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from mantus.model.attention import attend

ROUND = 64
"""Moved documents have rows of multiples of this: for each new shape the matrix library makes kernels, slowly."""


class Moves(NamedTuple):
    """Where positions go."""

    taken_P: Tensor
    """The position that each place takes."""
    owned_P: Tensor
    """The same, but N behind a document."""
    places_N: Tensor
    """The place of each position."""


@dataclass(frozen=True)
class Layout:
    """Which documents share a call."""

    batches: list[tuple[int, int]]
    """Rows and length of each call."""
    moves: Moves | None
    """None: each document is a call, as it lies. Otherwise those of like lengths are the rows of one, each followed by
    whatever comes behind it until its row is full: no query of its own sees that."""


def lay_out(lengths: Sequence[int], like: Tensor) -> Layout:
    """Documents of these lengths, in the order of the flattened rows, for queries like this tensor.

    In a processor's float32 they stay: there a call costs little, and what is behind a document as much as itself.
    """
    if like.device.type == "cpu" and like.dtype != torch.bfloat16:
        return Layout([(1, length) for length in lengths], None)
    begins, total = [0, *accumulate(lengths)], sum(lengths)
    alike: dict[int, list[int]] = {}
    for number, length in enumerate(lengths):
        alike.setdefault(-(-length // ROUND) * ROUND, []).append(number)
    taken: list[int] = []
    owned: list[int] = []
    places = [0] * total
    for longest, numbers in alike.items():
        for number in numbers:
            begin, end = begins[number], begins[number + 1]
            places[begin:end] = range(len(taken), len(taken) + end - begin)
            taken += [min(position, total - 1) for position in range(begin, begin + longest)]
            owned += [*range(begin, end), *[total] * (begin + longest - end)]
    moves = Moves(*(torch.tensor(numbers, device=like.device) for numbers in (taken, owned, places)))
    return Layout([(len(numbers), longest) for longest, numbers in alike.items()], moves)


def by_document(q_BTNH: Tensor, k_BTKH: Tensor, v_BTKH: Tensor, layout: Layout) -> Tensor:
    """Causal attention within each document -> the queries' shape."""
    moves = layout.moves
    flat = [x.flatten(0, 1) for x in (q_BTNH, k_BTKH, v_BTKH)]
    laid = [Laid.apply(x, moves) for x in flat] if moves else flat  # type: ignore[no-untyped-call]
    parts = zip(*(torch.split(x, [rows * length for rows, length in layout.batches]) for x in laid), strict=True)
    mixed = [attend(*(x.unflatten(0, size) for x in part)) for size, part in zip(layout.batches, parts, strict=True)]
    joined = torch.cat([x.flatten(0, 1) for x in mixed])
    found: Tensor = Taken.apply(joined, moves) if moves else joined  # type: ignore[no-untyped-call]
    return found.view(q_BTNH.shape)


class Laid(torch.autograd.Function):
    """Positions at their places."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, moves: Moves) -> Tensor:
        """x [N, heads, H] -> [P, heads, H]."""
        ctx.moves = moves
        return x.index_select(0, moves.taken_P)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """What is behind a document has no slope: nothing is to be added up."""
        return slopes[0].index_select(0, ctx.moves.places_N), None


class Taken(torch.autograd.Function):
    """Places back at their positions."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, moves: Moves) -> Tensor:
        """x [P, heads, H] -> [N, heads, H]."""
        ctx.moves = moves
        return x.index_select(0, moves.places_N)

    @staticmethod
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """None for what is behind a document."""
        return F.pad(slopes[0], (0, 0, 0, 0, 0, 1)).index_select(0, ctx.moves.owned_P), None
