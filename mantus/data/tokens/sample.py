"""A sample of a corpus: of each source the documents whose ids hash lowest, as many bytes of it as are asked for.

It does not know what the sample is for. Memory: hashes of ids of about as many documents as it has, no texts.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mantus.data.corpus import part_paths


def id_hash(name: str) -> bytes:
    """What documents are chosen by, 8 bytes."""
    return hashlib.blake2b(name.encode(), digest_size=8).digest()


@dataclass
class Pool:
    """The documents of lowest hash that together have `wanted` bytes, so far; each id once, whatever its number."""

    wanted: float
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    """Id -> bytes of the text, how many documents have it."""
    reach: bytes = b"\xff" * 9
    """No id with a higher hash can be in the sample."""

    def add(self, name: str, size: int) -> None:
        """Offer a document."""
        if name in self.sizes or id_hash(name) <= self.reach:
            self.sizes[name] = size, self.sizes.get(name, (0, 0))[1] + 1

    def prune(self) -> None:
        """Forget what lies beyond the bytes wanted."""
        kept: dict[str, tuple[int, int]] = {}
        total, last = 0, b""
        for name in sorted(self.sizes, key=id_hash):
            if total >= self.wanted:
                self.reach = last
                break
            kept[name], last = self.sizes[name], id_hash(name)
            total += kept[name][0]
        self.sizes = kept

    @property
    def stats(self) -> dict[str, int]:
        """Documents of the sample, and their bytes."""
        return {
            "documents": sum(num for _, num in self.sizes.values()),
            "bytes": sum(size * num for size, num in self.sizes.values()),
        }


def draw(corpus: Path, pools: dict[str, Pool]) -> None:
    """Fill pools from a corpus. pools: by source; one named '' is for all of them."""
    for frame in _frames(corpus):
        for name, source, size in zip(frame["id"], frame["source"], frame["text"].str.len_bytes(), strict=True):
            _pool(pools, source).add(name, size)
        for pool in pools.values():
            pool.prune()


def chosen(corpus: Path, pools: dict[str, Pool]) -> Iterator[str]:
    """The texts that were drawn, in the order of the corpus."""
    for frame in _frames(corpus):
        for name, source, text in zip(frame["id"], frame["source"], frame["text"], strict=True):
            if name in _pool(pools, source).sizes:
                yield text


def _pool(pools: dict[str, Pool], source: str) -> Pool:
    return pools[""] if "" in pools else pools[source]


def sources(corpus: Path) -> list[str]:
    """The names of a corpus's sources."""
    import polars as pl

    parts = part_paths(corpus)
    return sorted({name for part in parts for name in pl.read_parquet(part, columns=["source"])["source"].unique()})


def _frames(corpus: Path) -> Iterator[Any]:
    import polars as pl

    for part in part_paths(corpus):
        yield pl.read_parquet(part, columns=["id", "text", "source"])
