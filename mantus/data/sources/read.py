"""Readers of files: rows, parquet and plain text, alone or in archives -> documents, and a reason for every drop.

It does not know where the bytes come from (cache.py) nor what becomes of the documents (collect.py).
"""

import io
import json
import tarfile
import zipfile
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from mantus.data.corpus import Document
from mantus.data.sources.cache import here
from mantus.data.sources.source import MAX_TEXT, Drop, File, Item, Reader, Refused, Source
from mantus.data.sources.streams import (
    BOMB_BYTES,
    BOMB_RATIO,
    DAMAGE,
    Joined,
    Stretch,
    decompressed,
    members,
    packing,
    peekable,
)


def read_file(file: File, source: Source) -> Iterator[Item]:
    """Documents of one file. Damage ends the file with a Drop; what stood before it is kept.

    ValueError when a members glob matches nothing. OSError when the disk fails or the file is not to be had.
    """
    reader = _reader(source.type)
    with here(file) as path, path.open("rb") as whole:
        if file.members:
            yield from _read_members(reader, whole, file, source)
        else:
            yield from _read_stream(reader, _stretch(whole, file), source, file.url)


def _stretch(whole: BinaryIO, file: File) -> BinaryIO:
    """The bytes of the file that are meant, decompressed where something stands before or behind them."""
    meant = cast(BinaryIO, Stretch(whole, *file.span)) if file.span else whole
    if not file.head:
        return meant
    around = Joined(io.BytesIO(file.head), decompressed(meant), io.BytesIO(file.tail))
    return cast(BinaryIO, io.BufferedReader(around, 1 << 16))


def _read_members(reader: Reader, whole: BinaryIO, file: File, source: Source) -> Iterator[Item]:
    num_found = 0
    try:
        for name, stream in members(whole, file.members):
            num_found += 1
            if isinstance(stream, Drop):
                yield stream
                continue
            with stream:
                yield from _read_stream(reader, stream, source, f"{file.url}/{name}")
    except Refused as refused:
        yield Drop(str(refused))
    except (tarfile.TarError, zipfile.BadZipFile, ValueError, OverflowError, NotImplementedError, *DAMAGE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        yield Drop("damaged archive")
    else:
        if num_found == 0:
            raise ValueError(f"{file.url}: no member matches {file.members!r}")


def _read_stream(reader: Reader, stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    num_items = 0
    try:
        for item in reader(stream if source.type in CRAWLS else _opened(stream, source), source, url):
            num_items += 1
            yield item
    except UnicodeError:
        yield Drop("not utf-8")
    except Refused as refused:
        yield Drop(str(refused))
    except (zipfile.BadZipFile, *DAMAGE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        yield Drop("damaged compression")
    else:
        if num_items == 0:
            yield Drop("empty file")


CRAWLS = ("warc", "commoncrawl")


def _opened(stream: BinaryIO, source: Source) -> BinaryIO:
    """The stream behind its compression. Refused when behind it is one more, or an archive."""
    opened = peekable(decompressed(stream))
    kind = packing(opened.peek(262)[:262])
    if kind:
        raise Refused(kind)
    return cast(BinaryIO, opened)


def _reader(type_name: str) -> Reader:
    if type_name in CRAWLS:
        from mantus.data.sources.warc import read_warc

        return read_warc
    if type_name == "wikipedia":
        from mantus.data.sources.wikipedia import read_wikipedia

        return read_wikipedia
    return {"jsonl": read_jsonl, "text": read_text, "parquet": read_parquet}[type_name]


def lines_of(stream: BinaryIO) -> Iterator[bytes | None]:
    """Lines of at most MAX_TEXT bytes; None for each that is longer, which is skipped."""
    while line := stream.readline(MAX_TEXT + 1):
        if len(line) <= MAX_TEXT:
            yield line
            continue
        yield None
        while line and not line.endswith(b"\n"):
            line = stream.readline(1 << 20)


def read_jsonl(stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    """One document a line."""
    for number, line in enumerate(lines_of(stream), 1):
        if line is None:
            yield Drop("line too long")
        elif line.strip():
            yield _from_line(line, source, url, number)


def _from_line(line: bytes, source: Source, url: str, number: int) -> Item:
    try:
        row = json.loads(line.decode())
    except UnicodeDecodeError:
        return Drop("not utf-8")
    except (ValueError, RecursionError):
        return Drop("not json")
    return from_row(row if isinstance(row, dict) else {}, source, url, number)


def read_parquet(stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    """One document a row, row groups streamed."""
    import pyarrow
    import pyarrow.parquet as parquet

    whole = stream if stream.seekable() else _held(stream)
    try:
        table = parquet.ParquetFile(whole, read_dictionary=[source.text_field], pre_buffer=False)
        columns = [name for name in _row_fields(source) if name in table.schema_arrow.names]
        _refuse_bombs(table.metadata, columns)
        number = 0
        for batch in table.iter_batches(batch_size=256, columns=columns, use_threads=False):
            for row in _rows(batch):
                number += 1
                yield Drop("not utf-8") if row is None else from_row(row, source, url, number)
    except (pyarrow.ArrowException, MemoryError):
        yield Drop("not parquet")


def _held(stream: BinaryIO) -> BinaryIO:
    """A stream that cannot go back, in memory."""
    data = stream.read(MAX_HELD + 1)
    if len(data) > MAX_HELD:
        raise Refused("too large for an archive")
    return io.BytesIO(data)


MAX_HELD = 256 << 20
"""Bytes of a parquet file within an archive, which must be held in memory."""


def _refuse_bombs(metadata: Any, columns: list[str]) -> None:
    """Refused where a column of a row group is larger than text can be for its compressed bytes."""
    for group in range(metadata.num_row_groups):
        row_group = metadata.row_group(group)
        for number in range(row_group.num_columns):
            chunk = row_group.column(number)
            large = chunk.total_uncompressed_size > max(BOMB_BYTES, BOMB_RATIO * chunk.total_compressed_size)
            if chunk.path_in_schema in columns and large:
                raise Refused("compression bomb")


def _rows(batch: Any) -> Iterator[dict[str, Any] | None]:
    """Rows of a batch one at a time, as a dictionary's long value may stand in all; None for one that is no UTF-8."""
    for number in range(batch.num_rows):
        try:
            yield {name: batch.column(name)[number].as_py() for name in batch.schema.names}
        except UnicodeDecodeError:
            yield None


def _row_fields(source: Source) -> tuple[str, ...]:
    """The fields of a row that are read."""
    return (source.text_field, source.id_field, "url", "license", "lang", "added")


def from_row(row: dict[str, Any], source: Source, url: str, number: int) -> Item:
    """A row as a document; a Drop where it has no text."""
    text = row.get(source.text_field)
    if not isinstance(text, str):
        return Drop(f"no field {source.text_field!r}")
    if not text.strip():
        return Drop("empty text")
    if not _is_utf8(text):
        return Drop("not utf-8")
    own_url = row.get("url") or f"{url}#{row.get(source.id_field) or number}"
    known = {name: str(row[name]) for name in ("license", "lang", "added") if row.get(name)}
    return Document(text, str(own_url), **known)  # type: ignore[arg-type]


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def read_text(stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    """A file as documents of about `document_kb`, cut at blank lines where there are any."""
    lines = io.TextIOWrapper(cast(Any, stream), encoding="utf-8-sig")
    for number, text in enumerate(_blocks(lines, source.document_kb * 1024)):
        yield Document(text, f"{url}#{number}" if number else url)


def _blocks(lines: io.TextIOWrapper, size: int) -> Iterator[str]:
    held = ""
    while chunk := lines.read(1 << 16):
        if "\0" in chunk:
            raise UnicodeError("binary")
        held += chunk
        while len(held) > size:
            cut = max(held.rfind("\n\n", size // 2, size), 0) or max(held.rfind("\n", size // 2, size), 0) or size
            yield held[:cut]
            held = held[cut:].lstrip("\n")
    if held.strip():
        yield held
