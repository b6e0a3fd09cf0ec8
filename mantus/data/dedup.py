"""Dedup: drop exact and near duplicates, and write down which document each of them repeats.

It does not judge quality: of a cluster the longest text stays, then the one with the smallest id.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from mantus import console
from mantus.data import minhash
from mantus.data.corpus import part_paths, write_table
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute


class DedupConfig(PhaseConfig):
    """Drop exact and near duplicates."""

    corpus: ArtifactURI
    """The corpus to search."""
    threshold: float = Field(default=0.8, gt=0, le=1)
    """Near duplicates share at least this much of their runs of words (Jaccard similarity)."""
    ngram: int = Field(default=5, ge=1)
    """Words in a run."""
    bands: int = Field(default=14, ge=1)
    """MinHash bands: more find more pairs of low similarity."""
    rows: int = Field(default=8, ge=1)
    """MinHash values in a band: more make a band harder to share."""


@dataclass
class Index:
    """What is known of every document, in corpus order; shingles lie in a scratch file."""

    path: Path
    ids: list[str] = field(default_factory=list)
    sources: list[str] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    """Bytes of each text."""
    exact: list[tuple[int, int]] = field(default_factory=list)
    """128 bits of each normalised text."""
    ends: list[int] = field(default_factory=lambda: [0])
    """Where in the scratch file each document's shingles end, and so the next one's begin."""
    bands: list[Any] = field(default_factory=list)

    def shingles(self, number: int) -> Any:
        """The set of shingles of a document, sorted."""
        start, end = self.ends[number], self.ends[number + 1]
        return np.unique(np.fromfile(self.path, np.uint64, count=end - start, offset=8 * start))

    def preference(self, number: int) -> tuple[int, str, int]:
        """Sorts a cluster's members, the one to keep first."""
        return -self.sizes[number], self.ids[number], number


def run(config: DedupConfig) -> Manifest:
    """Make the corpus without duplicates, or find it."""
    return execute("dedup", config, lambda work: _produce(work, config))


def _produce(work: Work, config: DedupConfig) -> dict[str, Any]:
    parts = part_paths(work.inputs["corpus"])
    index = _read(parts, work.scratch / "shingles.bin", config, work.manifests["corpus"].stats["bytes"])
    kept = find_duplicates(index, config)
    sizes = np.bincount(kept, minlength=len(kept))
    start = num_parts = 0
    for part in parts:
        start, table = _without_duplicates(part, start, index, kept, sizes)
        if table.num_rows:
            write_table(table, work.out / f"part-{num_parts:05d}.parquet")
            num_parts += 1
    duplicates = _duplicates(index, kept)
    write_table(duplicates.to_arrow(), work.out / "duplicates.parquet")
    return _stats(index, kept, duplicates)


def _read(parts: list[Path], scratch: Path, config: DedupConfig, num_bytes: int) -> Index:
    """Read the corpus once: shingles to the scratch file, everything else to memory."""
    import polars as pl

    index = Index(scratch)
    with console.progress("dedup", num_bytes / 1e6, "MB") as bar, scratch.open("wb") as file:
        for part in parts:
            frame = pl.read_parquet(part, columns=["id", "text", "source", "url", "form"])
            words, offsets = minhash.word_hashes(frame["text"])
            hashes, starts = minhash.shingles(words, offsets, config.ngram)
            index.bands.append(minhash.bands(hashes, starts, config.bands, config.rows))
            hashes.tofile(file)
            index.ends += (starts[1:] + index.ends[-1]).tolist()
            index.ids += frame["id"].to_list()
            index.sources += frame["source"].to_list()
            index.urls += frame["url"].to_list()
            index.sizes += frame["text"].str.len_bytes().to_list()
            index.exact += _exact(frame)
            bar.advance(float(frame["text"].str.len_bytes().sum()) / 1e6)
    return index


def _exact(frame: Any) -> list[tuple[int, int]]:
    """128 bits of each text: of its lower-case words; for code, where all else matters too, of the text as it is."""
    import polars as pl

    words = pl.col("text").str.to_lowercase().str.extract_all(r"[\p{L}\p{N}_]+").list.join(" ")
    whole = pl.when((pl.col("form") == "code") | (words == "")).then(pl.col("text").str.strip_chars()).otherwise(words)
    hashed = frame.select(whole.alias("whole")).select(first=pl.col("whole").hash(1), second=pl.col("whole").hash(2))
    return list(zip(hashed["first"].to_list(), hashed["second"].to_list(), strict=True))


def find_duplicates(index: Index, config: DedupConfig) -> Any:
    """For each document the number of the one that stands for it: itself when it is kept; [num_documents]."""
    num = len(index.ids)
    first: dict[tuple[int, int], int] = {}
    same = [(first.setdefault(key, number), number) for number, key in enumerate(index.exact)]
    exact = np.array([pair for pair in same if pair[0] != pair[1]], np.int64).reshape(-1, 2)
    table = np.concatenate(index.bands)
    searched = np.array([n for n in first.values() if index.ends[n + 1] > index.ends[n]], np.int64)
    pairs = searched[minhash.candidate_pairs(table[searched])]
    near = minhash.verified(pairs, index.shingles, config.threshold)
    roots = minhash.clusters(num, np.concatenate([exact, near]))
    best: dict[int, int] = {}
    for number, root in enumerate(roots.tolist()):
        best[root] = min(best.get(root, number), number, key=index.preference)
    return np.array([best[root] for root in roots.tolist()], np.int64)


def _without_duplicates(part: Path, start: int, index: Index, kept: Any, sizes: Any) -> tuple[int, Any]:
    """(where the next part starts, the part's kept rows with cluster_id and cluster_size)."""
    import polars as pl

    frame = pl.read_parquet(part)
    numbers = np.arange(start, start + frame.height)
    stays = kept[numbers] == numbers
    frame = frame.filter(pl.Series(stays)).with_columns(
        cluster_id=pl.col("id"), cluster_size=pl.Series(sizes[numbers[stays]], dtype=pl.Int64)
    )
    return start + len(numbers), frame.to_arrow()


DUPLICATE_COLUMNS = ("id", "source", "url", "bytes", "kind", "jaccard", "cluster_id", "kept_source", "kept_url")


def _duplicates(index: Index, kept: Any) -> Any:
    """One row for each dropped document and the one that stands for it."""
    import polars as pl

    rows = []
    for number in np.flatnonzero(kept != np.arange(len(kept))).tolist():
        other = int(kept[number])
        exact = index.exact[number] == index.exact[other]
        overlap = 1.0 if exact else minhash.jaccard(index.shingles(number), index.shingles(other))
        own = (index.ids[number], index.sources[number], index.urls[number], index.sizes[number])
        kind = "exact" if exact else "near"
        rows.append((*own, kind, overlap, index.ids[other], index.sources[other], index.urls[other]))
    types = {name: pl.String for name in DUPLICATE_COLUMNS} | {"bytes": pl.Int64, "jaccard": pl.Float64}
    return pl.DataFrame(rows, schema=types, orient="row")


def _stats(index: Index, kept: Any, duplicates: Any) -> dict[str, Any]:
    import polars as pl

    facts = pl.DataFrame({"source": index.sources, "bytes": index.sizes})
    names = facts["source"].unique().sort()
    by_source = {
        name: _stage(facts.filter(pl.col("source") == name), duplicates.filter(pl.col("source") == name))
        for name in names
    }
    sizes = np.bincount(kept)
    clusters = {"clusters": int((sizes > 1).sum()), "largest_cluster": int(sizes.max())}
    return {**_stage(facts, duplicates), **clusters, "sources": by_source}


def _stage(facts: Any, duplicates: Any) -> dict[str, Any]:
    dropped = {}
    for kind in ("exact", "near"):
        sizes = duplicates.filter(duplicates["kind"] == kind)["bytes"]
        if len(sizes):
            dropped[f"{kind} duplicate"] = {"documents": len(sizes), "bytes": int(sizes.sum())}
    read = int(facts["bytes"].sum())
    return {
        "documents_read": facts.height,
        "bytes_read": read,
        "documents": facts.height - duplicates.height,
        "bytes": read - int(duplicates["bytes"].sum()),
        "dropped": dropped,
    }
