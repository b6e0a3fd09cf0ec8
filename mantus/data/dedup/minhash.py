"""Near-duplicate search: shingles, MinHash bands, candidate pairs, exact Jaccard, clusters; all by arrays.

It knows integers and sets of them, not documents or files.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]

PRIME = np.uint64(0x100000001B3)
MIX = np.uint64(0x9E3779B97F4A7C15)

SLICE = 4096
"""Documents whose MinHash values are in memory at a time: they come as Python numbers."""
WINDOW = 4
"""How many of those before it a document is paired with in a band that many share."""
BLOCK, BLOCK_PAIRS = 1 << 19, 1 << 12
"""Shingles and pairs that are compared in one go."""


def shingles(words: Words, offsets: Counts, size: int) -> tuple[Words, Counts]:
    """Hashes of all runs of `size` words in each document, and where each document's begin.

    words: word hashes of all documents, one after the other.  offsets: num_documents + 1 starts into it.
    A document of fewer words has one shingle, the hash of all of them; an empty one has none.
    """
    lengths = np.diff(offsets)
    starts = np.concatenate([[0], np.cumsum(np.where(lengths >= size, lengths - size + 1, np.minimum(lengths, 1)))])
    padded = np.concatenate([words, np.zeros(size - 1, np.uint64)])
    hashes = np.zeros(len(words), np.uint64)
    for step in range(size):
        hashes *= PRIME
        hashes += padded[step : step + len(words)]
    begins = np.ones(len(words), bool)
    for step in range(1, size):  # runs that would reach into the next document
        begins[offsets[1:][lengths >= step] - step] = False
    short = np.flatnonzero((lengths > 0) & (lengths < size))
    first = offsets[:-1][short]
    begins[first] = True
    hashes[first] = 0
    for step in range(size):
        inside = step < lengths[short]
        hashes[first] = hashes[first] * PRIME + np.where(inside, padded[first + step], 0)
    return _scramble(hashes[begins]), starts


def _scramble(hashes: Words) -> Words:
    hashes = (hashes ^ (hashes >> np.uint64(31))) * MIX
    return hashes ^ (hashes >> np.uint64(29))


def bands(hashes: Words, starts: Counts, num_bands: int, rows: int) -> Words:
    """One hash for each document and band, from `num_bands * rows` MinHash values; [num_documents, num_bands]."""
    num = len(starts) - 1
    joined = np.zeros((num, num_bands), np.uint64)
    for first in range(0, num, SLICE):
        last = min(first + SLICE, num)
        part = hashes[starts[first] : starts[last]], starts[first : last + 1] - starts[first]
        values = _minhashes(*part, num_bands * rows).reshape(last - first, num_bands, rows)
        for row in range(rows):
            joined[first:last] = _scramble(joined[first:last] * PRIME + values[:, :, row])
    return joined


def _minhashes(hashes: Words, starts: Counts, num: int) -> Words:
    from rensa import RMinHash

    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, starts.astype(np.uint64), num, 1)
    return np.asarray(matrix.to_rows(), dtype=np.uint64)


def candidate_pairs(segments: Iterable[tuple[Words, Counts]]) -> Counts:
    """Pairs of documents that share a band, [num_pairs, 2], sorted, first < second.

    segments: hashes of a band and the numbers of the documents that have them, ascending; documents that share one are
    in one segment.  In a band that many share each is paired with the first of them and with the WINDOW before it: all
    pairs of the few, and of the many enough to join those that belong together.  Memory: a segment and the pairs.
    """
    found = np.zeros(0, np.uint64)
    for hashes, numbers in segments:
        order = np.argsort(hashes, kind="stable")
        equal = hashes[order][1:] == hashes[order][:-1]
        shared = np.concatenate([equal, [False]]) | np.concatenate([[False], equal])
        order = order[shared[: len(order)]]
        hashes, numbers = hashes[order], numbers[order]
        run = np.concatenate([[0], np.cumsum(hashes[1:] != hashes[:-1])])[: len(order)]
        pairs = [found, _packed(numbers[np.searchsorted(run, run)], numbers)]
        for step in range(1, min(WINDOW + 1, len(order))):
            same = np.flatnonzero(run[step:] == run[:-step])
            pairs.append(_packed(numbers[same], numbers[same + step]))
        found = np.unique(np.concatenate(pairs))
    return np.stack([found >> np.uint64(32), found & np.uint64(0xFFFFFFFF)], axis=1).astype(np.int64)


def _packed(left: Counts, right: Counts) -> Words:
    """Pairs of two documents as one number each: it sorts as the pair does."""
    two = left < right
    assert not len(right) or right.max() < 1 << 32, "numbers of documents have 32 bits"
    return left[two].astype(np.uint64) << np.uint64(32) | right[two].astype(np.uint64)


def overlaps(pairs: Counts, shingles_of: Callable[[int], Words]) -> Shares:
    """The Jaccard similarity of each pair's sets of shingles, [num_pairs].

    shingles_of: all shingles of a document, in any order and with repeats.  Memory: BLOCK shingles at a time, or
    those of one pair. In a block 52 bits of a shingle are compared; the other 12 tell BLOCK_PAIRS pairs apart.
    """
    found = [np.zeros(0)]
    block: list[tuple[Words, Words]] = []
    size = 0
    for left, right in pairs.tolist():
        block.append((shingles_of(left), shingles_of(right)))
        size += len(block[-1][0]) + len(block[-1][1])
        if size >= BLOCK or len(block) == BLOCK_PAIRS:
            found.append(_block_overlaps(block))
            block, size = [], 0
    return np.concatenate([*found, _block_overlaps(block)] if block else found)


def _block_overlaps(block: list[tuple[Words, Words]]) -> Shares:
    left, right = (_numbered([pair[side] for pair in block]) for side in (0, 1))
    both = np.sort(np.concatenate([left, right]))
    shared = np.bincount(_numbers(both[1:][both[1:] == both[:-1]]), minlength=len(block))
    union = np.bincount(_numbers(both), minlength=len(block)) - shared
    return np.where(union > 0, shared / np.maximum(union, 1), 1.0)


def _numbered(sets: list[Words]) -> Words:
    """The shingles of several sets, each set's own once, with the set's number in their highest 12 bits."""
    numbers = np.repeat(np.arange(len(sets), dtype=np.uint64) << np.uint64(52), [len(shingles) for shingles in sets])
    ordered = np.sort(numbers | np.concatenate(sets) >> np.uint64(12))  # np.unique is several times slower
    return ordered[np.concatenate([[True], ordered[1:] != ordered[:-1]])] if len(ordered) else ordered


def _numbers(shingles: Words) -> Counts:
    return (shingles >> np.uint64(52)).astype(np.int64)


def clusters(num: int, pairs: Counts) -> Counts:
    """The smallest member of each document's cluster, [num], for clusters joined by pairs."""
    label = np.arange(num)
    while True:
        ends = label[pairs]
        ends = ends[ends[:, 0] != ends[:, 1]]
        if not len(ends):
            return label
        np.minimum.at(label, ends.max(axis=1), ends.min(axis=1))  # the larger root joins the smallest it meets
        while (label != label[label]).any():
            label = label[label]


def recall(similarity: float, num_bands: int, rows: int) -> float:
    """The chance that two documents of this Jaccard similarity share a band."""
    return 1 - (1 - similarity**rows) ** num_bands


def word_lists(texts: Any) -> Any:
    """The lower-case words of each text of a polars series."""
    return texts.str.to_lowercase().str.extract_all(r"[\p{L}\p{N}_]+")


def word_hashes(lists: Any) -> tuple[Words, Counts]:
    """Hashes of the words of `word_lists`, and where each text's begin."""
    offsets = np.concatenate([[0], np.cumsum(lists.list.len().to_numpy())]).astype(np.int64)
    words = lists.explode().drop_nulls().hash(0).to_numpy().astype(np.uint64)
    assert len(words) == offsets[-1]
    return words, offsets


def text_shingles(texts: Any, size: int) -> tuple[Words, Counts]:
    """`shingles` of a polars series of texts: of runs of `size` words."""
    return shingles(*word_hashes(word_lists(texts)), size)
