"""Phase `dedup`: drop exact and near duplicates; who duplicates whom is written down.

It knows texts and ids, not quality. Near duplicates: MinHash over word 5-grams, 14 bands of 8 rows find candidates,
exact Jaccard similarity of the 5-gram sets confirms them, and the longest text of a cluster stays.
"""

import hashlib
import re
from collections import defaultdict
from collections.abc import Iterator
from itertools import combinations
from typing import Any

import numpy as np
from pydantic import Field

from mantus import console
from mantus.data.corpus import part_paths, write_table
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute

WORD = re.compile(r"\w+")
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)
MAX_BUCKET = 64
"""Members of one LSH bucket that are compared pairwise; more are compared with the first ones only."""


class DedupConfig(PhaseConfig):
    """Settings of `mantus dedup`."""

    corpus: ArtifactURI
    """The corpus to deduplicate."""
    near: bool = True
    """Also drop near duplicates."""
    threshold: float = Field(default=0.8, gt=0, le=1)
    """Jaccard similarity of word n-grams from which two documents count as one."""
    ngram: int = Field(default=5, ge=1)
    """Words of an n-gram."""
    bands: int = Field(default=14, ge=1)
    """LSH bands."""
    rows: int = Field(default=8, ge=1)
    """Signature rows a band."""


def run(config: DedupConfig) -> Manifest:
    """Deduplicate, or find the corpus."""

    def produce(work: Work) -> dict[str, Any]:
        import polars

        frame = polars.concat([polars.read_parquet(path) for path in part_paths(work.inputs["corpus"])])
        texts, ids = frame["text"].to_list(), frame["id"].to_list()
        clusters = Clusters(texts, ids)
        with console.progress("dedup", 3, "stages") as bar:
            for pair in exact_pairs(texts):
                clusters.join(*pair, "exact")
            bar.advance(1, "exact")
            if config.near:
                for pair in near_pairs(texts, config, bar):
                    clusters.join(*pair, "near")
            bar.advance(1, "near")
        keeper, size = clusters.keepers(), clusters.sizes()
        kept = [index for index, keep in enumerate(keeper) if keep == index]
        out = frame[kept].with_columns(
            polars.Series("cluster_id", [ids[index] for index in kept]),
            polars.Series("cluster_size", [size[index] for index in kept]),
        )
        write_table(out.to_arrow(), work.out / "part-00000.parquet")
        gone = [index for index, keep in enumerate(keeper) if keep != index]
        table = {
            "id": [ids[i] for i in gone],
            "duplicate_of": [ids[keeper[i]] for i in gone],
            "kind": [clusters.kind[i] for i in gone],
        }
        write_table(
            polars.DataFrame(table, schema=dict.fromkeys(table, polars.String)).to_arrow(),
            work.out / "duplicates.parquet",
        )
        return _stats(frame, kept, gone, clusters)

    return execute("dedup", config, produce)


def _stats(frame: Any, kept: list[int], gone: list[int], clusters: "Clusters") -> dict[str, Any]:
    sizes = [len(text.encode()) for text in frame["text"].to_list()]
    sources = frame["source"].to_list()
    by_source: dict[str, dict[str, int]] = {}
    for index in kept:
        entry = by_source.setdefault(sources[index], {"documents": 0, "bytes": 0})
        entry["documents"] += 1
        entry["bytes"] += sizes[index]
    dropped = {
        kind: {"documents": len(found), "bytes": sum(sizes[i] for i in found)}
        for kind in ("exact", "near")
        if (found := [i for i in gone if clusters.kind[i] == kind])
    }
    counts = {"documents": len(kept), "bytes": sum(sizes[i] for i in kept)}
    return {**counts, "dropped": dropped, "sources": dict(sorted(by_source.items()))}


class Clusters:
    """Union-find over documents, and how each document was found to be a duplicate."""

    def __init__(self, texts: list[str], ids: list[str]) -> None:
        self._parent = list(range(len(texts)))
        self._rank = [
            (-len(text), identity, index) for index, (text, identity) in enumerate(zip(texts, ids, strict=True))
        ]
        self.kind: dict[int, str] = {}

    def root(self, index: int) -> int:
        """The cluster's representative: its longest document, then the one with the smallest id."""
        while self._parent[index] != index:
            self._parent[index] = self._parent[self._parent[index]]
            index = self._parent[index]
        return index

    def join(self, left: int, right: int, kind: str) -> None:
        """Two documents are one."""
        keep, lose = sorted((self.root(left), self.root(right)), key=self._rank.__getitem__)
        if keep != lose:
            self._parent[lose] = keep
            self.kind.setdefault(lose, kind)

    def keepers(self) -> list[int]:
        """For each document the one that stays for it."""
        return [self.root(index) for index in range(len(self._parent))]

    def sizes(self) -> dict[int, int]:
        """Members of the cluster of each keeper."""
        counts: dict[int, int] = defaultdict(int)
        for index in self.keepers():
            counts[index] += 1
        return counts


def exact_pairs(texts: list[str]) -> Iterator[tuple[int, int]]:
    """Documents equal but for case, punctuation and space."""
    first: dict[bytes, int] = {}
    for index, text in enumerate(texts):
        digest = hashlib.blake2b(" ".join(WORD.findall(text.lower())).encode(), digest_size=16).digest()
        if first.setdefault(digest, index) != index:
            yield first[digest], index


def near_pairs(texts: list[str], config: DedupConfig, bar: console.Progress) -> Iterator[tuple[int, int]]:
    """Pairs whose n-gram sets have at least the threshold's Jaccard similarity."""
    import rensa

    shingles = [_shingles(text, config.ngram) for text in texts]
    offsets = np.cumsum([0, *map(len, shingles)], dtype=np.uint64)
    num_rows = config.bands * config.rows
    matrix = rensa.RMinHash.digest_matrix_from_flat_token_hashes(np.concatenate(shingles), offsets, num_rows, 1)
    bar.advance(1, "signatures")
    signatures = np.array(matrix.to_rows(), dtype=np.uint32)
    checked: set[tuple[int, int]] = set()
    for band in range(config.bands):
        buckets: dict[bytes, list[int]] = defaultdict(list)
        part = np.ascontiguousarray(signatures[:, band * config.rows : (band + 1) * config.rows])
        for index, row in enumerate(part):
            buckets[row.tobytes()].append(index)
        for members in buckets.values():
            for pair in _candidates(members):
                if pair not in checked:
                    checked.add(pair)
                    if _jaccard(shingles[pair[0]], shingles[pair[1]]) >= config.threshold:
                        yield pair


def _candidates(members: list[int]) -> Iterator[tuple[int, int]]:
    yield from combinations(members[:MAX_BUCKET], 2)
    for late in members[MAX_BUCKET:]:
        yield members[0], late


def _shingles(text: str, size: int) -> np.ndarray:
    """The set of hashes of word n-grams, sorted; a shorter text is one n-gram."""
    words = WORD.findall(text.lower()) or [""]
    hashes = np.array([_hash(word) for word in words], dtype=np.uint64)
    rolled = np.zeros(max(1, len(words) - size + 1), dtype=np.uint64)
    with np.errstate(over="ignore"):
        for offset in range(min(size, len(words))):
            rolled = rolled * MULTIPLIER + hashes[offset : offset + len(rolled)]
        rolled ^= rolled >> np.uint64(29)
    return np.unique(rolled)


_HASHES: dict[str, int] = {}


def _hash(word: str) -> int:
    """A stable 64-bit hash; Python's own differs from process to process."""
    found = _HASHES.get(word)
    if found is None:
        found = int.from_bytes(hashlib.blake2b(word.encode("utf-8", "replace"), digest_size=8).digest())
        _HASHES[word] = found
    return found


def _jaccard(left: np.ndarray, right: np.ndarray) -> float:
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)
