"""Simulate the shuffles of a corpus: sizes, not data. How full the fullest bucket or segment is, and what that needs.

It knows laws of sizes and how hashes spread, not documents. Memory: a few arrays of CHUNK numbers.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CHUNK = 1 << 22
"""Documents drawn at a time."""

Sizes = npt.NDArray[np.float64]
Counts = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Law:
    """Log-normal: the logarithm of a document's bytes is normal."""

    mu: float
    sigma: float

    @property
    def mean(self) -> float:
        """Mean bytes of a document."""
        return float(np.exp(self.mu + self.sigma**2 / 2))

    @property
    def deviation(self) -> float:
        """Standard deviation, in bytes."""
        return self.mean * float(np.sqrt(np.expm1(self.sigma**2)))


@dataclass(frozen=True, slots=True)
class Filled:
    """How full buckets are."""

    documents: Counts
    bytes: Sizes
    largest_document: float = 0.0
    """Bytes; 0 where single documents were not drawn."""

    @property
    def skew(self) -> float:
        """The fullest one's bytes over the mean."""
        return float(self.bytes.max() / self.bytes.mean())


def fill_buckets(documents: int, buckets: int, law: Law, seed: int) -> Filled:
    """Every document drawn by itself: its size, and its bucket, which a hash of its id picks evenly.

    buckets: a power of two, at most 65,536.
    """
    assert buckets & (buckets - 1) == 0
    assert buckets <= 1 << 16
    chance = np.random.Generator(np.random.SFC64(seed))
    counts, sums, largest = np.zeros(buckets, np.int64), np.zeros(buckets), 0.0
    for start in range(0, documents, CHUNK):
        num = min(CHUNK, documents - start)
        sizes = chance.standard_normal(num, np.float32)
        sizes *= np.float32(law.sigma)
        sizes += np.float32(law.mu)
        np.exp(sizes, out=sizes)
        places = np.frombuffer(chance.bytes(2 * num), np.uint16) & np.uint16(buckets - 1)
        counts += np.bincount(places, minlength=buckets)
        sums += np.bincount(places, weights=sizes, minlength=buckets)
        largest = max(largest, float(sizes.max()))
    return Filled(counts, sums, largest)


def fill_from_sources(sources: dict[str, tuple[int, Law]], buckets: int, seed: int) -> dict[str, Filled]:
    """For each source how it fills the buckets. sources: documents and law of each, by name.

    Counts are drawn exactly (multinomial), a bucket's bytes by the normal limit of a sum of so many documents.
    """
    chance = np.random.default_rng(seed)
    found = {}
    for name, (documents, law) in sources.items():
        counts = chance.multinomial(documents, np.full(buckets, 1 / buckets))
        sums = counts * law.mean + np.sqrt(counts) * law.deviation * chance.standard_normal(buckets)
        found[name] = Filled(counts, np.maximum(sums, 0.0))
    return found


def fill_segments(documents: int, bands: int, segments: int, hot_share: float, seed: int) -> Counts:
    """Records in each segment of each band, [bands, segments]: drawn exactly for keys that are independent.

    hot_share: share of documents that have one value in common, another one in each band; they meet in one segment.
    """
    chance = np.random.default_rng(seed)
    hot = round(documents * hot_share)
    counts: Any = chance.multinomial(documents - hot, np.full(segments, 1 / segments), size=bands)
    counts[np.arange(bands), chance.integers(segments, size=bands)] += hot
    return np.asarray(counts, np.int64)
