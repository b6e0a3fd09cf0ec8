"""What a step trains on: a pure function of (seed, step), whatever the number of processes.

It knows token arrays and rendered conversations, not models.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mantus.training.objectives.loss import IGNORE

Batch = tuple[Tensor, ...]
"""ids [B, T] and targets [B, T], int64; targets are IGNORE where nothing is to be learnt. What else a loss needs of
each row, [B], or position, [B, T], may follow."""


def in_passes(batch: Batch, micro_tokens: int, agree: Callable[[int], int], group: int = 1) -> list[Batch]:
    """A batch in parts of about `micro_tokens` (0: one), `group` rows kept together; gradients add up over them.

    agree: the largest of a number over all processes. Where others have more passes, the rest is padding, since every
    process must go through the same exchanges.
    """
    if not micro_tokens:
        return [batch]
    rows = max(1, micro_tokens // (batch[0].shape[1] * group)) * group
    parts: list[Batch] = list(zip(*(torch.split(tensor, rows) for tensor in batch), strict=True))
    ids, targets, *others = (tensor[:group] for tensor in batch)
    idle = (ids, torch.full_like(targets, IGNORE), *others)
    return [*parts, *[idle] * (agree(len(parts)) - len(parts))]


@dataclass(frozen=True)
class Sequences:
    """Pretraining: windows of one long token array, in a new order each epoch."""

    tokens: np.ndarray
    seq_len: int
    batch_tokens: int
    seed: int

    @property
    def per_step(self) -> int:
        """Windows a step."""
        return max(1, self.batch_tokens // self.seq_len)

    @property
    def count(self) -> int:
        """Windows an epoch."""
        return (len(self.tokens) - 1) // self.seq_len

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """This process's share of the step's windows."""
        first = step * self.per_step
        rows = [self._window(index) for index in range(first + rank, first + self.per_step, world)]
        stacked = torch.from_numpy(np.stack(rows).astype(np.int64))
        return stacked[:, :-1].contiguous(), stacked[:, 1:].contiguous()

    def _window(self, index: int) -> np.ndarray:
        epoch, position = divmod(index, self.count)
        start = int(self._order(epoch)[position]) * self.seq_len
        return self.tokens[start : start + self.seq_len + 1]

    def _order(self, epoch: int) -> np.ndarray:
        cached: dict[int, np.ndarray] = self.__dict__.setdefault("_orders", {})
        if epoch not in cached:
            cached.clear()
            cached[epoch] = np.random.default_rng([self.seed, epoch]).permutation(self.count)
        return cached[epoch]


Row = tuple[list[int], list[bool]]
LENGTH_MULTIPLE = 32
"""Padded lengths are multiples of this: every new shape costs the matrix library a kernel and the allocator a hole, and
a thousand different ones took 2 GiB more."""


def padded(length: int) -> int:
    """The length that a row of `length` tokens takes in a batch."""
    return -(-length // LENGTH_MULTIPLE) * LENGTH_MULTIPLE


class Conversations:
    """Tuning: rows of like length share a padded batch of at most `batch_tokens`; attention never crosses rows."""

    def __init__(self, rows: Sequence[Row], batch_tokens: int, seed: int, pad_id: int) -> None:
        self.rows, self.batch_tokens, self.seed, self.pad_id = rows, batch_tokens, seed, pad_id
        self._epochs: dict[int, list[list[int]]] = {}

    @property
    def steps_per_epoch(self) -> int:
        """Batches in the first epoch (epochs differ by a few)."""
        return len(self._plan(0))

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """This process's rows of the step's batch; with fewer rows than processes, some get a row of padding."""
        epoch = 0
        while step >= len(self._plan(epoch)):
            step -= len(self._plan(epoch))
            epoch += 1
        return self.collate(self._plan(epoch)[step][rank::world])

    def collate(self, indices: Sequence[int]) -> Batch:
        """The rows of these numbers as a batch."""
        return self.pad([self.rows[index] for index in indices])

    def pad(self, rows: Sequence[Row]) -> Batch:
        """Rows side by side, padded on the right; position t predicts t + 1 where that is trained."""
        longest = max((padded(len(ids)) for ids, _ in rows), default=LENGTH_MULTIPLE)
        ids = torch.full((max(1, len(rows)), longest), self.pad_id, dtype=torch.int64)
        targets = torch.full_like(ids, IGNORE)
        for index, (row, trained) in enumerate(rows):
            ids[index, : len(row)] = torch.tensor(row)
            kept = [token if use else IGNORE for token, use in zip(row[1:], trained[1:], strict=True)]
            targets[index, : len(row) - 1] = torch.tensor(kept)
        return ids, targets

    def _plan(self, epoch: int) -> list[list[int]]:
        if epoch not in self._epochs:
            self._epochs[epoch] = self._batches(np.random.default_rng([self.seed, epoch]))
        return self._epochs[epoch]

    def _batches(self, chance: np.random.Generator) -> list[list[int]]:
        """Numbers of the rows of each batch of an epoch."""
        jitter = chance.random(len(self.rows))
        by_length = sorted(range(len(self.rows)), key=lambda i: (len(self.rows[i][0]) // 16, jitter[i]))
        batches = list(self._fill(by_length))
        return [batches[index] for index in chance.permutation(len(batches))]

    def _fill(self, order: list[int]) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in order:
            if batch and (len(batch) + 1) * padded(len(self.rows[index][0])) > self.batch_tokens:
                yield batch
                batch = []
            batch.append(index)
        if batch:
            yield batch
