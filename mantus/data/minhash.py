"""Near-duplicate search: shingles, MinHash bands, candidate pairs, exact Jaccard, clusters; all by arrays.

It knows integers and sets of them, not documents or files.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
Counts = npt.NDArray[np.int64]

PRIME = np.uint64(0x100000001B3)
MIX = np.uint64(0x9E3779B97F4A7C15)


def shingles(words: Words, offsets: Counts, size: int) -> tuple[Words, Counts]:
    """Hashes of all runs of `size` words in each document, and where each document's begin.

    words: word hashes of all documents, one after the other.  offsets: num_documents + 1 starts into it.
    A document of fewer words has one shingle, the hash of all of them; an empty one has none.
    """
    lengths = np.diff(offsets)
    nums = np.where(lengths >= size, lengths - size + 1, np.minimum(lengths, 1))
    starts = np.concatenate([[0], np.cumsum(nums)])
    document = np.repeat(np.arange(len(lengths)), nums)
    first = offsets[:-1][document] + np.arange(starts[-1]) - starts[:-1][document]
    hashes = np.zeros(len(first), np.uint64)
    for step in range(size):
        inside = first + step < offsets[1:][document]
        hashes = hashes * PRIME + np.where(inside, words[np.minimum(first + step, max(0, len(words) - 1))], 0)
    return _scramble(hashes), starts


def _scramble(hashes: Words) -> Words:
    hashes = (hashes ^ (hashes >> np.uint64(31))) * MIX
    return hashes ^ (hashes >> np.uint64(29))


def bands(hashes: Words, starts: Counts, num_bands: int, rows: int) -> Words:
    """One hash for each document and band, from `num_bands * rows` MinHash values; [num_documents, num_bands]."""
    from rensa import RMinHash

    num = len(starts) - 1
    matrix = RMinHash.digest_matrix_from_flat_token_hashes(hashes, starts.astype(np.uint64), num_bands * rows, 1)
    values = np.asarray(matrix.to_rows(), dtype=np.uint64).reshape(num, num_bands, rows)
    joined = np.zeros((num, num_bands), np.uint64)
    for row in range(rows):
        joined = _scramble(joined * PRIME + values[:, :, row])
    return joined


def candidate_pairs(table: Words) -> Counts:
    """Pairs of documents that share a band, [num_pairs, 2], sorted, first < second.

    In a band that many share each is paired with the first and with its neighbour, which is enough to join them.
    """
    found = [np.zeros((0, 2), np.int64)]
    for band in table.T:
        order = np.argsort(band, kind="stable")
        same = band[order][1:] == band[order][:-1]
        run = np.concatenate([[0], np.cumsum(~same)])
        first = order[np.searchsorted(run, run)]
        found.append(np.stack([order[:-1][same], order[1:][same]], axis=1))
        found.append(np.stack([first[1:][same], order[1:][same]], axis=1))
    pairs = np.concatenate(found)
    return np.unique(pairs[pairs[:, 0] < pairs[:, 1]], axis=0)


def jaccard(left: Words, right: Words) -> float:
    """Shared part of two sets of shingles, each sorted and without repeats."""
    num_shared = len(np.intersect1d(left, right, assume_unique=True))
    union = len(left) + len(right) - num_shared
    return num_shared / union if union else 1.0


def verified(pairs: Counts, shingles_of: Callable[[int], Words], threshold: float) -> Counts:
    """The pairs whose shingles overlap by `threshold` or more."""
    held: dict[int, Words] = {}
    kept = []
    for left, right in pairs.tolist():
        if left not in held:
            held = {left: shingles_of(left)}  # pairs are sorted: no earlier one comes again
        if jaccard(held[left], shingles_of(right)) >= threshold:
            kept.append((left, right))
    return np.array(kept, np.int64).reshape(-1, 2)


def clusters(num: int, pairs: Counts) -> Counts:
    """The smallest member of each document's cluster, [num], for clusters joined by pairs."""
    parent = list(range(num))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for left, right in pairs.tolist():
        a, b = root(left), root(right)
        parent[max(a, b)] = min(a, b)
    return np.array([root(item) for item in range(num)], np.int64)


def word_hashes(texts: Any) -> tuple[Words, Counts]:
    """Hashes of the lower-case words of a polars series of texts, and where each text's begin."""
    lists = texts.str.to_lowercase().str.extract_all(r"[\p{L}\p{N}_]+")
    offsets = np.concatenate([[0], np.cumsum(lists.list.len().to_numpy())]).astype(np.int64)
    words = lists.explode().drop_nulls().hash(0).to_numpy().astype(np.uint64)
    assert len(words) == offsets[-1]
    return words, offsets
