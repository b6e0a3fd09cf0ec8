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

from mantus.data.corpus import PART_BYTES, write_table
from mantus.data.shards import token_dtype
from mantus.data.tokens.census import Bound, census
from mantus.text.tokenizer import Tokenizer

BUCKET_BYTES = 128 << 20
"""Bytes of text in a bucket, at most on average."""
SLICE_BYTES = 1 << 20
"""Bytes of text that a group leaves in a bucket, at least on average: else a large corpus is shuffled in crumbs."""
COUNTS = "counts.parquet"
"""Written last into a group's folder: its census."""
ROWS = ("place", "side", "id", "source", "url", "license", "bytes", "tokens")
"""What a bucket has of a document; `tokens` are bytes of the shards' dtype, the end mark included."""


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


def groups(parts: Sequence[Path], buckets: int, scratch: Path) -> list[Group]:
    """The corpus in groups of as many parts as it takes for slices of SLICE_BYTES."""
    import pyarrow.parquet as parquet

    size = max(1, buckets * SLICE_BYTES // PART_BYTES)
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
            table = _encoded(part, _tokenizer(tokenizer), seed, number)
            number += table.num_rows
            found.append(_counted(table, _tokenizer(tokenizer).vocab_size))
            scatter(table, buckets, group.folder)
            del table  # before the next one is made
        temporary = counts.with_suffix(".part")
        write_table(census(pl.concat(found), bound).to_arrow(), temporary)
        temporary.replace(counts)
    return float(pl.read_parquet(counts, columns=["bytes"])["bytes"].sum()) / 1e6


@lru_cache(1)
def _tokenizer(folder: Path) -> Tokenizer:
    return Tokenizer.load(folder)


def _encoded(part: Path, tokenizer: Tokenizer, seed: int, number: int) -> Any:
    """The documents of a part as a table of ROWS. number: of the first one in the corpus."""
    import pyarrow as pa
    import pyarrow.parquet as parquet

    rows = parquet.read_table(part, columns=["id", "text", "source", "url", "license"], use_threads=False)
    ids, dtype = rows["id"].to_pylist(), token_dtype(tokenizer.vocab_size)
    sizes, documents = np.zeros(len(ids), np.int64), []
    for index, text in enumerate(rows["text"]):
        whole = text.as_py()
        documents.append(np.array([*tokenizer.encode(whole), tokenizer.eot_id], dtype))
        sizes[index] = len(whole.encode())
    values = np.concatenate([np.zeros(0, dtype), *documents])
    offsets = np.cumsum([0, *map(len, documents)], dtype=np.int64) * dtype.itemsize
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(values)]
    columns = {
        "place": pa.array([hash64(f"{seed} {name} {number + at}") for at, name in enumerate(ids)], pa.uint64()),
        "side": pa.array([hash64(f"held out {name}") for name in ids], pa.uint64()),
        **{name: rows[name].cast(pa.large_string()) for name in ("id", "source", "url", "license")},
        "bytes": pa.array(sizes),
        "tokens": pa.Array.from_buffers(pa.large_binary(), len(ids), buffers),
    }
    return pa.table(columns).select(ROWS)


def _counted(table: Any, vocab_size: int) -> Any:
    import polars as pl

    lengths = num_tokens(table, vocab_size)
    return pl.DataFrame(table.select(["source", "side", "bytes"])).with_columns(
        documents=pl.lit(1, pl.Int64), tokens=pl.Series(lengths, dtype=pl.Int64)
    )


def num_tokens(table: Any, vocab_size: int) -> Any:
    """How many tokens each document has, [documents]."""
    import pyarrow.compute as pc

    return pc.binary_length(table["tokens"]).to_numpy() // token_dtype(vocab_size).itemsize


def scatter(table: Any, buckets: int, folder: Path) -> None:
    """Append documents to the buckets of their places; what each gets is in the order of places."""
    places = table["place"].to_numpy()
    order = np.argsort(places, kind="stable")
    shift = np.uint64(64 - buckets.bit_length() + 1)
    owners = places[order] >> shift if buckets > 1 else np.zeros(len(order), np.uint64)
    edges = np.searchsorted(owners, np.arange(buckets + 1, dtype=np.uint64))
    for bucket in np.unique(owners).astype(int).tolist():
        piece = table.take(order[edges[bucket] : edges[bucket + 1]])
        with _slice(folder, bucket).open("ab") as file:
            if not file.tell():
                file.write(piece.schema.serialize())
            for batch in piece.to_batches():
                file.write(batch.serialize())


def _slice(folder: Path, bucket: int) -> Path:
    return folder / f"bucket-{bucket:05d}.arrow"


def slices(folders: Sequence[Path], bucket: int) -> Iterator[Any]:
    """What a bucket got, a table for each part that gave to it."""
    import pyarrow as pa

    for folder in folders:
        if (path := _slice(folder, bucket)).is_file():
            with pa.OSFile(str(path)) as file, pa.ipc.open_stream(file) as stream:
                for batch in stream:
                    yield pa.Table.from_batches([batch])
