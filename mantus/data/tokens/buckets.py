"""First pass of the shuffle: encode a corpus part by part, and lay each document into the bucket of its place.

It knows hashes and tables, not which documents are held out nor how often one is repeated. Memory: one part.
"""

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from mantus.data.corpus import write_table
from mantus.data.shards import Tokens
from mantus.data.tokens.census import Bound, census
from mantus.data.tokens.encoding import BulkEncoder
from mantus.text.tokenizer import Tokenizer

BUCKET_BYTES = 64 << 20
"""Bytes of text in a bucket, at most on average."""
SLICE_BYTES = 1 << 19
"""Bytes of text that a group leaves in a bucket, at least on average: else a large corpus is shuffled in crumbs."""
COUNTS = "counts.parquet"
"""Written last into a group's folder: its census."""
ROWS = ("place", "side", "id", "source", "url", "license", "bytes", "length", "tokens")
"""What a bucket has of a document: `bytes` of text, `length` in tokens, `tokens` as bytes of the shards' dtype."""


@dataclass(frozen=True, slots=True)
class Group:
    """Parts of a corpus that one process encodes one after another."""

    parts: tuple[Path, ...]
    first: int
    """The number of its first document in the corpus."""
    folder: Path
    """Where its slices of the buckets go."""


def num_buckets(num_bytes: int) -> int:
    """A power of two, by the corpus's bytes of text alone."""
    return 1 << max(0, (max(1, num_bytes) - 1) // BUCKET_BYTES).bit_length()


def groups(parts: Sequence[Path], num_bytes: int, scratch: Path) -> list[Group]:
    """The corpus, so many bytes of text, in groups of as many parts as it takes for slices of SLICE_BYTES."""
    import pyarrow.parquet as parquet

    size = max(1, len(parts) * num_buckets(num_bytes) * SLICE_BYTES // max(1, num_bytes))
    starts = np.cumsum([0, *(parquet.read_metadata(part).num_rows for part in parts)]).tolist()
    return [
        Group(tuple(parts[first : first + size]), starts[first], scratch / f"group-{first // size:05d}")
        for first in range(0, len(parts), size)
    ]


def hash64(text: str) -> int:
    """64 bits of a text's blake2b."""
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def encode(group: Group, tokenizer: Path, seed: int, buckets: int, bound: Bound) -> float:
    """Encode a group into its slices of the buckets; the MB of text. A finished group is found again."""
    import polars as pl

    counts = group.folder / COUNTS
    if not counts.is_file():
        shutil.rmtree(group.folder, ignore_errors=True)  # of a process that was killed
        group.folder.mkdir(parents=True)
        number, found = group.first, []
        for part in group.parts:
            frame = _encoded(part, _encoder(tokenizer), seed, number)
            number += frame.height
            found.append(frame.select("source", "side", documents=pl.lit(1, pl.Int64), bytes="bytes", tokens="length"))
            scatter(frame, buckets, group.folder)
            del frame  # before the next one is made
        temporary = counts.with_suffix(".part")
        write_table(census(pl.concat(found), bound).to_arrow(), temporary)
        temporary.replace(counts)
    return float(pl.read_parquet(counts, columns=["bytes"])["bytes"].sum()) / 1e6


@lru_cache(1)
def _encoder(folder: Path) -> BulkEncoder:
    return BulkEncoder(Tokenizer.load(folder))


def _encoded(part: Path, encoder: BulkEncoder, seed: int, number: int) -> Any:
    """The documents of a part, one row each (see ROWS). number: of the first one in the corpus."""
    import polars as pl

    frame = pl.read_parquet(part, columns=["id", "text", "source", "url", "license"])
    documents = list(encoder.documents(frame["text"]))
    ids = frame["id"].to_list()
    return frame.select(
        pl.Series("place", [hash64(f"{seed} {name} {number + at}") for at, name in enumerate(ids)], pl.UInt64),
        pl.Series("side", [hash64(f"held out {name}") for name in ids], pl.UInt64),
        "id",
        "source",
        "url",
        "license",
        pl.col("text").str.len_bytes().cast(pl.Int64).alias("bytes"),
        pl.Series("length", list(map(len, documents)), pl.Int64),
        pl.Series("tokens", _joined(documents, encoder.dtype)),
    )


def _joined(documents: list[Tokens], dtype: Any) -> Any:
    """Arrays as one arrow array of bytes."""
    import pyarrow as pa

    values = np.concatenate([np.zeros(0, dtype), *documents])
    ends = np.cumsum([0, *map(len, documents)], dtype=np.int64) * dtype.itemsize
    buffers = [None, pa.py_buffer(ends), pa.py_buffer(values)]
    return pa.Array.from_buffers(pa.large_binary(), len(documents), buffers)


def scatter(frame: Any, buckets: int, folder: Path) -> None:
    """Append documents to the buckets of their places."""
    frame = frame.sort("place", maintain_order=True)
    places = frame["place"].to_numpy()
    owners = places >> np.uint64(64 - buckets.bit_length() + 1) if buckets > 1 else np.zeros_like(places)
    edges = np.searchsorted(owners, np.arange(buckets + 1, dtype=np.uint64)).tolist()
    for bucket in np.unique(owners).tolist():
        piece = plain_table(frame.slice(edges[bucket], edges[bucket + 1] - edges[bucket]))
        with _slice(folder, bucket).open("ab") as file:
            if not file.tell():
                file.write(piece.schema.serialize())
            for batch in piece.to_batches():
                file.write(batch.serialize())


def plain_table(frame: Any) -> Any:
    """A frame as an arrow table in one piece, texts and bytes one after another."""
    import polars as pl

    return frame.rechunk().to_arrow(compat_level=pl.CompatLevel.oldest()).combine_chunks()


def _slice(folder: Path, bucket: int) -> Path:
    return folder / f"bucket-{bucket:05d}.arrow"


def slices(folders: Sequence[Path], bucket: int) -> Iterator[Any]:
    """What a bucket got, a frame for each part that gave to it."""
    import polars as pl
    import pyarrow as pa

    for folder in folders:
        if (path := _slice(folder, bucket)).is_file():
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                yield from map(pl.from_arrow, stream)
