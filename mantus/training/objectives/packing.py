"""Tuning on packed rows: whole conversations one behind another, best fit decreasing; none is ever cut.

It knows rendered conversations by their lengths, not what they say. B rows, T time.
Source: Johnson 1973, Near-optimal bin packing algorithms: best fit, the longest first.
"""

from bisect import bisect_left, insort
from collections.abc import Sequence
from itertools import islice

import numpy as np
import torch

from mantus.training.objectives.batches import Batch, Conversations, Row


def best_fit(lengths: Sequence[int], order: Sequence[int], size: int) -> list[list[int]]:
    """Bins of items that sum to at most `size`: each item, in this order, goes where it leaves the least room.

    lengths: of the items, none above `size`.  order: numbers of items, longest first for few bins.
    """
    bins: list[list[int]] = []
    rooms: list[tuple[int, int]] = []  # (what is free, bin), sorted
    for item in order:
        at = bisect_left(rooms, (lengths[item], -1))
        if at < len(rooms):
            room, number = rooms.pop(at)
        else:
            room, number = size, len(bins)
            bins.append([])
        bins[number].append(item)
        if room > lengths[item]:
            insort(rooms, (room - lengths[item], number))
    return bins


class Packed(Conversations):
    """Batches of rows of up to `seq_len` tokens; a third tensor [B, T] numbers the conversations of each row."""

    def __init__(self, rows: Sequence[Row], seq_len: int, batch_tokens: int, seed: int, pad_id: int) -> None:
        super().__init__(rows, batch_tokens, seed, pad_id)
        self.seq_len = seq_len
        self._bins: list[list[int]] = []

    def collate(self, indices: Sequence[int]) -> Batch:
        """The bins of these numbers, a row each; what is behind the last conversation of a row is one of padding."""
        chosen = [[self.rows[row] for row in self._bins[index]] for index in indices]
        ids, targets = self.pad([_joined(rows) for rows in chosen])
        documents = torch.zeros_like(ids)
        for row, conversations in enumerate(chosen):
            ends = np.cumsum([len(ids) for ids, _ in conversations])
            for end in ends:
                documents[row, int(end) :] += 1
        return ids, targets, documents

    def _batches(self, chance: np.random.Generator) -> list[list[int]]:
        """Bins anew for each epoch: conversations of one length change places."""
        jitter, lengths = chance.random(len(self.rows)), [len(ids) for ids, _ in self.rows]
        order = sorted(range(len(self.rows)), key=lambda index: (-lengths[index], jitter[index]))
        self._bins = best_fit(lengths, order, self.seq_len)
        rest = iter(chance.permutation(len(self._bins)).tolist())
        per_step = max(1, self.batch_tokens // self.seq_len)
        return list(iter(lambda: list(islice(rest, per_step)), []))


def _joined(rows: Sequence[Row]) -> Row:
    """Rows as one, in which none is asked for the first token of the next."""
    ids = [token for row, _ in rows for token in row]
    return ids, [use and place > 0 for _, trained in rows for place, use in enumerate(trained)]
