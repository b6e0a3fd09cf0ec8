"""A source of text and its readers: bytes of one file -> documents, and a reason for everything dropped.

It does not know where the bytes are kept (fetch.py) nor what becomes of the documents (collect.py).
"""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, BinaryIO, Literal, cast

from pydantic import BaseModel, ConfigDict, Field

from mantus.data.corpus import Document


class Source(BaseModel):
    """One place to read documents from."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    type: Literal["warc", "wikipedia", "git", "jsonl", "text", "parquet", "code"]
    """How to read it. warc: web crawl (also WET); wikipedia: XML dump; git: tracked text files;
    jsonl, text, parquet: rows or whole files; code: sources of installed Python packages."""
    path: str = ""
    """A path, a glob or a folder; http(s)://...; s3://bucket/glob; pypi:<name>==<version>/<glob inside the file>;
    for git a repository's path or URL."""
    name: str = ""
    """What the corpus calls it; by default the last part of the path."""
    license: str = ""
    """SPDX name of the licence of its documents; '' means what is found (git, code) or else 'unknown'."""
    max_mb: float = Field(default=0, ge=0)
    """Stop after this many MB of text (0 = all). Files of git and code are then a sample spread by hash."""
    kind: Literal["sdist", "wheel"] = "sdist"
    """Which file of a PyPI release to read."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """The digest the PyPI file must have ('' = any); checked before anything in it is used."""
    rev: str = ""
    """For git: the commit, tag or branch to read ('' = HEAD)."""
    packages: tuple[str, ...] = ()
    """For code: distributions to read, by name; they must be installed."""
    suffixes: tuple[str, ...] = ()
    """For git and code: file suffixes to read ('' = a list of common text formats)."""
    text_field: str = "text"
    """For jsonl and parquet: the field with the text."""
    id_field: str = "id"
    """For jsonl and parquet: the field that names a row in its URL, where present."""
    document_kb: int = Field(default=64, ge=1)
    """For text: longer files become several documents, cut at blank lines."""

    @property
    def title(self) -> str:
        """Its name in the corpus."""
        last = self.path.rstrip("/").removeprefix("pypi:").split("==")[0].rpartition("/")[2]
        return self.name or last.partition("*")[0] or self.type


@dataclass(frozen=True, slots=True)
class Drop:
    """Something that was read but did not become a document."""

    reason: str


@dataclass(frozen=True, slots=True)
class File:
    """One local file to read; `members` is a glob when it is an archive whose members are meant."""

    path: Path
    url: str
    members: str = ""


Item = Document | Drop
Reader = Callable[[BinaryIO, Source, str], Iterator[Item]]


def read_file(file: File, source: Source) -> Iterator[Item]:
    """Documents of one file. Damage ends the file with a Drop; what stood before it is kept.

    ValueError when a members glob matches nothing. OSError when the disk fails.
    """
    reader = _reader(source.type)
    try:
        for url, stream in _open(file):
            yield from _read_stream(reader, stream, source, url)
    except (tarfile.TarError, zipfile.BadZipFile, *DAMAGE) as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        yield Drop("damaged archive")


DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What decompressors raise; an OSError with an errno is the disk's and passes."""


def _read_stream(reader: Reader, stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    num_items = 0
    try:
        for item in reader(stream if source.type == "warc" else decompressed(stream), source, url):
            num_items += 1
            yield item
    except UnicodeError:
        yield Drop("not utf-8")
    except DAMAGE as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        yield Drop("damaged compression")
    else:
        if num_items == 0:
            yield Drop("empty file")


def _reader(type_name: str) -> Reader:
    if type_name in ("warc", "wikipedia"):
        from mantus.data import web

        return web.read_warc if type_name == "warc" else web.read_wikipedia
    return {"jsonl": read_jsonl, "text": read_text, "parquet": read_parquet}[type_name]


def _open(file: File) -> Iterator[tuple[str, BinaryIO]]:
    """The file's stream, or its archive's matching members one after the other; each with its URL."""
    if not file.members:
        with file.path.open("rb") as whole:
            yield file.url, whole
        return
    num_found = 0
    for name, stream in _zip_members(file) if zipfile.is_zipfile(file.path) else _tar_members(file):
        num_found += 1
        with stream:
            yield f"{file.url}/{name}", stream
    if num_found == 0:
        raise ValueError(f"{file.url}: no member matches {file.members!r}")


def _zip_members(file: File) -> Iterator[tuple[str, BinaryIO]]:
    with zipfile.ZipFile(file.path) as archive:
        for info in archive.infolist():
            if not info.is_dir() and fnmatchcase(info.filename, file.members):
                yield info.filename, cast(BinaryIO, archive.open(info))


def _tar_members(file: File) -> Iterator[tuple[str, BinaryIO]]:
    """Members in archive order, so that the archive is decompressed once; names without the top folder."""
    with tarfile.open(file.path) as archive:
        for info in archive:
            name = info.name.partition("/")[2]
            if info.isfile() and fnmatchcase(name, file.members):
                yield name, cast(BinaryIO, archive.extractfile(info))


def peekable(stream: BinaryIO) -> io.BufferedReader:
    """The stream with `peek`."""
    return cast(io.BufferedReader, stream if hasattr(stream, "peek") else io.BufferedReader(cast(Any, stream)))


def decompressed(stream: BinaryIO) -> BinaryIO:
    """The stream behind gzip, bz2, xz or zstd, told by the first bytes; else the stream itself."""
    buffered = peekable(stream)
    head = buffered.peek(6)[:6]
    if head.startswith(b"\x1f\x8b"):
        return cast(BinaryIO, gzip.open(buffered))
    if head.startswith(b"BZh"):
        return cast(BinaryIO, bz2.open(buffered))
    if head.startswith(b"\xfd7zXZ"):
        return cast(BinaryIO, lzma.open(buffered))
    if head.startswith(b"\x28\xb5\x2f\xfd"):
        import pyarrow

        return cast(BinaryIO, io.BufferedReader(pyarrow.input_stream(buffered, compression="zstd")))
    return cast(BinaryIO, buffered)


def read_jsonl(stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    """One document a line."""
    for number, line in enumerate(stream, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line.decode())
        except UnicodeDecodeError:
            yield Drop("not utf-8")
        except (json.JSONDecodeError, RecursionError):
            yield Drop("not json")
        else:
            yield _from_row(row if isinstance(row, dict) else {}, source, url, number)


def read_parquet(stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    """One document a row, row groups streamed."""
    import pyarrow
    import pyarrow.parquet as parquet

    whole = stream if stream.seekable() else io.BytesIO(stream.read())
    try:
        table = parquet.ParquetFile(whole)
        columns = [name for name in _row_fields(source) if name in table.schema_arrow.names]
        number = 0
        for batch in table.iter_batches(batch_size=256, columns=columns, use_threads=False):
            for row in batch.to_pylist():
                number += 1
                yield _from_row(row, source, url, number)
    except pyarrow.ArrowInvalid:
        yield Drop("not parquet")


def _row_fields(source: Source) -> tuple[str, ...]:
    """The fields of a row that are read."""
    return (source.text_field, source.id_field, "url", "license", "lang", "added")


def _from_row(row: dict[str, Any], source: Source, url: str, number: int) -> Item:
    text = row.get(source.text_field)
    if not isinstance(text, str):
        return Drop(f"no field {source.text_field!r}")
    if not text.strip():
        return Drop("empty text")
    if any("\ud800" <= letter <= "\udfff" for letter in text):
        return Drop("not utf-8")
    own_url = row.get("url") or f"{url}#{row.get(source.id_field) or number}"
    known = {name: str(row[name]) for name in ("license", "lang", "added") if row.get(name)}
    return Document(text, str(own_url), **known)  # type: ignore[arg-type]


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
