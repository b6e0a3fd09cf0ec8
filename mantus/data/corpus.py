"""A corpus on disk: numbered parquet parts of documents, one way to write them and one to read them.

It does not know where documents come from nor which of them are good.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any, Literal

PART_BYTES = 16 << 20
"""Bytes of text in a part before the next one begins."""

COLUMNS = ("id", "text", "source", "url", "license", "lang", "added", "form")
"""What every corpus has; later phases add columns behind these."""


@dataclass(frozen=True, slots=True)
class Document:
    """One text and where it came from."""

    text: str
    url: str
    license: str = ""
    """SPDX name where known; '' means that of its source."""
    lang: str = ""
    """ISO 639-1 for prose where the source says it; for code the language's file suffix."""
    added: str = ""
    """When it entered the source (crawl date, revision, commit), ISO 8601; '' where unknown."""
    form: Literal["prose", "code"] = "prose"


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a part: `COLUMNS` in order."""

    id: str
    text: str
    source: str
    url: str
    license: str
    lang: str
    added: str
    form: str


def document_id(text: str) -> str:
    """The id of a text: blake2b of its UTF-8 bytes, 16 bytes as hex."""
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def part_paths(folder: Path) -> list[Path]:
    """The parts of a corpus, in order."""
    return sorted(folder.glob("part-*.parquet"))


def write_table(table: Any, path: Path) -> None:
    """Write an arrow table as parquet, the same bytes for the same table."""
    import pyarrow.parquet as parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(
        table, path, compression="zstd", compression_level=3, row_group_size=8192, write_statistics=False
    )


def write_rows(rows: Iterable[Row], folder: Path) -> int:
    """Write rows as `part-%05d.parquet`, a new part every PART_BYTES of text; how many parts."""
    held: list[Row] = []
    size = number = 0
    for row in rows:
        held.append(row)
        size += len(row.text)
        if size >= PART_BYTES:
            write_table(_table(held), folder / f"part-{number:05d}.parquet")
            held, size, number = [], 0, number + 1
    if held:
        write_table(_table(held), folder / f"part-{number:05d}.parquet")
        number += 1
    return number


def read_rows(folder: Path, columns: Iterable[str] = COLUMNS) -> Iterator[dict[str, Any]]:
    """Every row of a corpus in part order, a few hundred in memory at a time."""
    import pyarrow.parquet as parquet

    for path in part_paths(folder):
        for batch in parquet.ParquetFile(path).iter_batches(batch_size=512, columns=list(columns), use_threads=False):
            yield from batch.to_pylist()


def _table(rows: list[Row]) -> Any:
    import pyarrow

    schema = pyarrow.schema([(name, pyarrow.large_string()) for name in COLUMNS])
    columns = zip(*(astuple(row) for row in rows), strict=True)
    return pyarrow.table([list(column) for column in columns], schema=schema)
