"""A split on disk: its token shards, and beside each the documents that are in it, in their order.

It knows frames of documents in the order they come, not why they come in it.
"""

from pathlib import Path
from typing import Any

import numpy as np

from mantus.data.shards import ShardWriter, token_dtype
from mantus.data.tokens.buckets import plain_table

BATCH_DOCUMENTS = 4096
"""Documents that are written at a time."""


class Split:
    """Writes one split; counts what it writes by source."""

    def __init__(self, folder: Path, vocab_size: int, shard_tokens: int) -> None:
        self._shards = ShardWriter(folder, vocab_size, shard_tokens)
        self._dtype = token_dtype(vocab_size)
        self._rows: Any = None
        self._stem = Path()
        self._counts: list[Any] = []

    def __enter__(self) -> "Split":
        self._shards.__enter__()
        return self

    def __exit__(self, failed: type[BaseException] | None, *rest: object) -> None:
        self._shards.__exit__(failed, *rest)
        if self._rows is not None:
            self._rows.close()

    def write(self, bucket: Any) -> None:
        """Append documents of a bucket, a frame in the order wanted."""
        for frame in bucket.iter_slices(BATCH_DOCUMENTS):
            rows = plain_table(frame.select("id", "source", "url", "license", tokens="length"))
            tokens = np.frombuffer(plain_table(frame.select("tokens"))["tokens"].chunk(0).buffers()[2], self._dtype)
            for stem, first, last in self._shards.write(tokens, frame["length"].to_numpy()):
                self._documents(stem, rows.schema).write_table(rows.slice(first, last - first))
            self._count(frame)

    def _documents(self, stem: Path, schema: Any) -> Any:
        """The file of a shard's documents, begun when it is a new shard."""
        import pyarrow.parquet as parquet

        if stem != self._stem:
            if self._rows is not None:
                self._rows.close()
            path = stem.with_suffix(".documents.parquet")
            self._rows = parquet.ParquetWriter(
                path, schema, compression="zstd", compression_level=3, write_statistics=False
            )
            self._stem = stem
        return self._rows

    def _count(self, frame: Any) -> None:
        import polars as pl

        counts = frame.select("source", documents=pl.lit(1, pl.Int64), bytes="bytes", tokens="length")
        self._counts = [total(pl.concat([*self._counts, counts]))]

    def stats(self) -> dict[str, Any]:
        """Documents, bytes and tokens, in all and by source."""
        return stats(self._counts[0]) if self._counts else {"documents": 0, "bytes": 0, "tokens": 0, "sources": {}}


def total(frame: Any) -> Any:
    """Counts added up by source."""
    import polars as pl

    return frame.group_by("source").agg(pl.col("documents", "bytes", "tokens").sum()).sort("source")


def stats(frame: Any) -> dict[str, Any]:
    """Counts by source as they stand in a manifest."""
    names = ("documents", "bytes", "tokens")
    sources = {row.pop("source"): row for row in total(frame).select("source", *names).to_dicts()}
    return {**{name: int(frame[name].sum()) for name in names}, "sources": sources}
