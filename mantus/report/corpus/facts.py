"""What the pages show, read from the data artifacts of a run: their chain, a survey of the corpus, single rows.

It knows manifests and parquet columns, no markup. Memory: one part of a corpus, and counts that do not grow with it.
"""

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mantus.data.corpus import part_paths
from mantus.data.dedup.signatures import INDEX
from mantus.storage import Manifest

CORPORA = ("corpus", "clean", "dedup")
"""Kinds of corpora in the order in which one is made from the other."""
LARGEST = 5
"""Clusters that are shown."""
SAMPLE = 12
"""Documents of a language that its bytes per token are measured on."""
UNKNOWN = "unknown"

Found = dict[str, list[tuple[Manifest, Path]]]
"""Artifacts by kind, in the order in which they were made."""


@dataclass(frozen=True, slots=True)
class Made:
    """An artifact and its files."""

    manifest: Manifest
    folder: Path


@dataclass(frozen=True)
class Chain:
    """The last corpus and what it was made from, its tokenizer and its token shards, by kind."""

    made: dict[str, Made]

    @property
    def corpora(self) -> list[Made]:
        """The corpora, first things first."""
        return [self.made[kind] for kind in CORPORA if kind in self.made]

    @property
    def final(self) -> Made:
        """The last of them."""
        return self.corpora[-1]

    @property
    def read_by_dedup(self) -> Made | None:
        """The corpus in which the texts of duplicates still are."""
        return self.corpora[-2] if "dedup" in self.made and len(self.corpora) > 1 else None


def chain(found: Found) -> Chain | None:
    """The chain of what was found; None without a corpus. What is not in it (an unrelated tokenizer) is left out."""
    present = [kind for kind in CORPORA if found.get(kind)]
    if not present:
        return None
    made = {present[-1]: Made(*found[present[-1]][-1])}
    keys = _input_keys(made[present[-1]])
    for kind in reversed(present[:-1]):
        for manifest, folder in found[kind]:
            if manifest.key in keys and kind not in made:
                made[kind] = Made(manifest, folder)
                keys |= _input_keys(made[kind])
    final = made[present[-1]].manifest.key
    for kind in ("tokens", "tokenizer"):
        for manifest, folder in found.get(kind, ()):
            if final in _input_keys(Made(manifest, folder)):
                made[kind] = Made(manifest, folder)
    return Chain(made)


def _input_keys(made: Made) -> set[str]:
    return {reference.key for reference in made.manifest.inputs}


@dataclass(frozen=True, slots=True)
class Part:
    """One file of the corpus: documents and bytes of text by (source, licence)."""

    name: str
    documents: int
    bytes: int
    mix: dict[tuple[str, str], tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Survey:
    """What one pass over the corpus counts."""

    parts: list[Part]
    groups: Any
    """source, license, language -> documents, bytes."""
    lengths: Any
    """length (floor of log2 of bytes), source -> documents."""
    clusters: Any
    """cluster_size -> clusters; empty where dedup was not."""
    largest: Any
    """id and cluster_size of the LARGEST clusters."""
    sample: Any
    """language, id: SAMPLE documents of each language, those with the smallest ids."""
    newest: str
    """Latest day on which a document was added to its source, ISO 8601; '' where none says."""


def survey(corpus: Made) -> Survey:
    """Count the documents of a corpus, one part in memory at a time."""
    import polars as pl

    parts, seen = [], []
    counted: tuple[Any, ...] = ()
    for path in part_paths(corpus.folder):
        frame = _columns(path, corpus.manifest)
        mix = frame.group_by("source", "license", maintain_order=True).agg(pl.len(), pl.col("bytes").sum())
        named = {(source, name): (num, size) for source, name, num, size in mix.sort("source", "license").iter_rows()}
        parts.append(Part(path.name, frame.height, int(frame["bytes"].sum()), named))
        seen.append(str(frame["added"].str.slice(0, 10).max() or ""))
        fresh = _counts(frame)
        counted = tuple(_merged(*pair) for pair in zip(counted, fresh, strict=True)) if counted else fresh
    groups, sizes, members, largest, sample = counted
    return Survey(parts, groups, sizes, members, largest, sample, max(seen))


def _columns(path: Path, manifest: Manifest) -> Any:
    """The thin columns of a part, `bytes` of each text and `language` among them."""
    import polars as pl

    names = [name for name in pl.read_parquet_schema(path) if name in ("cluster_size", "id", "source", "added")]
    index = path.with_name(path.name.replace("part-", INDEX))
    sized = index.is_file() and manifest.config.get("repeated") != "remove"  # then the index has the sizes before
    size = [] if sized else [pl.col("text").str.len_bytes().cast(pl.Int64).alias("bytes")]
    known = [pl.when(pl.col(name) != "").then(name).fill_null(UNKNOWN).alias(name) for name in ("license", "lang")]
    frame = pl.scan_parquet(path).select(*names, *known, "form", *size).collect()
    if sized:
        frame = frame.with_columns(pl.read_parquet(index, columns=["bytes"])["bytes"])
    code = pl.when(pl.col("form") == "code").then(pl.format("{} (code)", "lang")).otherwise("lang")
    return frame.with_columns(language=code).drop("lang", "form")


def _counts(frame: Any) -> tuple[Any, ...]:
    """groups, lengths, clusters, largest, sample of one part."""
    import polars as pl

    num = pl.len().cast(pl.Int64).alias("documents")
    length = (pl.col("bytes") + 0.5).log(2).floor().clip(0).cast(pl.Int64).alias("length")  # half: 2^n is at n
    sizes = frame.select("id", "cluster_size") if "cluster_size" in frame.columns else frame.select("id").clear()
    sizes = sizes if sizes.width == 2 else sizes.with_columns(cluster_size=pl.lit(1, pl.Int64))
    return (
        frame.group_by("source", "license", "language").agg(num, pl.col("bytes").sum()),
        frame.with_columns(length).group_by("length", "source").agg(num),
        sizes.group_by("cluster_size").agg(num.alias("clusters")),
        _top(sizes.filter(pl.col("cluster_size") > 1)),
        _lowest(frame.select("language", "id")),
    )


def _merged(old: Any, new: Any) -> Any:
    """Two frames of counts as one: numbers of the same keys add up, of lists the first stay."""
    import polars as pl

    both = pl.concat([old, new])
    if "id" in both.columns:
        return _top(both) if "cluster_size" in both.columns else _lowest(both)
    numbers = [name for name in ("documents", "bytes", "clusters") if name in both.columns]
    return both.group_by([name for name in both.columns if name not in numbers]).agg(pl.col(*numbers).sum())


def _top(frame: Any) -> Any:
    return frame.sort("cluster_size", "id", descending=[True, False]).head(LARGEST)


def _lowest(frame: Any) -> Any:
    return frame.sort("language", "id").group_by("language", maintain_order=True).head(SAMPLE)


def rows(corpus: Made, ids: Collection[str]) -> dict[str, dict[str, str]]:
    """Text, URL and source of some documents, by id; one part in memory at a time. Unknown ids are left out."""
    import polars as pl

    found: dict[str, dict[str, str]] = {}
    wanted = sorted(ids)
    for path in part_paths(corpus.folder) if wanted else ():
        part = pl.scan_parquet(path).filter(pl.col("id").is_in(wanted)).select("id", "url", "source", "text").collect()
        for row in part.iter_rows(named=True):
            found.setdefault(row["id"], row)
    return found


def batches(path: Path, columns: Collection[str]) -> Iterator[Any]:
    """Frames of some columns of a parquet file, a few thousand rows at a time; nothing when it is not there."""
    import polars as pl
    import pyarrow.parquet as parquet

    if path.is_file():
        for batch in parquet.ParquetFile(path).iter_batches(8192, columns=list(columns), use_threads=False):
            yield pl.DataFrame(batch)
