"""Wikipedia's multistream dumps, divided: the index that lies beside one says where its compressed streams begin.

It knows offsets and files, not XML: each stretch is given the dump's opening and an end, and reads like a dump.
"""

import bz2
import re
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

from mantus.data.sources import http
from mantus.data.sources.cache import here
from mantus.data.sources.source import File

STRETCH_BYTES = 16 << 20
"""Compressed bytes of a dump that are read in one go, at least."""
NAME = re.compile(r"-multistream(\d*)\.xml((?:-p\d+p\d+)?)\.bz2$")
MAX_OPENING = 1 << 20
"""Bytes of a dump before its first page; a real one has some kilobytes."""
END = b"</mediawiki>"


def stretches(dump: File) -> list[File]:
    """The dump in stretches, in order; just the dump where it is none of these or no index lies beside it.

    ValueError when the index is not that of this dump.
    """
    index = _beside(dump)
    if index is None:
        return [dump]
    with here(index) as path:
        starts = _starts(path, index.url)
    size = dump.size or dump.path.stat().st_size
    bounds = _bounds(starts, size)
    if len(bounds) < 2 or bounds[-2] >= size:
        raise ValueError(f"{index.url}: names no streams of {dump.url}; fetch both anew, or remove it to read serially")
    head = _opening(_bytes(dump, 0, bounds[0]), dump.url, index.url)
    pairs = list(pairwise(bounds))
    for start, _ in pairs[: 1 if dump.remote else None]:
        if _bytes(dump, start, start + 3) != b"BZh":
            raise ValueError(f"{index.url}: no stream begins at byte {start} of {dump.url}; fetch both anew")
    return [_stretch(dump, start, stop, head, b"" if stop == size else END) for start, stop in pairs]


def _stretch(dump: File, start: int, stop: int, head: bytes, tail: bytes) -> File:
    url = f"{dump.url}#{start}-{stop}"
    if dump.remote is None or dump.path.is_file():
        return replace(dump, url=url, remote=None, span=(start, stop), size=stop - start, head=head, tail=tail)
    remote = replace(dump.remote, span=(start, stop))
    path = dump.path.with_name(f"{dump.path.name}.{start}-{stop}")
    return replace(dump, path=path, url=url, remote=remote, size=stop - start, head=head, tail=tail)


def _beside(dump: File) -> File | None:
    """The index of a dump; None where there is none, or a digest is given, which only the whole dump can have."""
    name = NAME.sub(r"-multistream-index\1.txt\2.bz2", dump.path.name)
    if name == dump.path.name or (dump.remote is not None and dump.remote.sha256):
        return None
    path = dump.path.with_name(name)
    if dump.remote is None:
        return File(path, f"{dump.url.rpartition('/')[0]}/{name}") if path.is_file() else None
    url = f"{dump.remote.url.rpartition('/')[0]}/{name}"
    try:
        size = http.facts_of(url, dump.remote.manners).size
    except ValueError:
        return None
    return File(path, url, remote=replace(dump.remote, url=url, etag=""), size=max(size, 0))


def _starts(path: Path, url: str) -> Iterator[int]:
    """First bytes of streams, rising, as the index has them (`offset:page:title` a line)."""
    last = -1
    try:
        with bz2.open(path) as lines:
            for line in iter(lambda: lines.readline(1 << 16), b""):
                start = int(line.partition(b":")[0])
                if start < last:
                    raise ValueError("not rising")
                if start > last:
                    yield start
                last = start
    except (ValueError, OSError, EOFError):
        raise ValueError(f"{url}: a damaged index; fetch it anew, or remove it to read the dump serially") from None


def _bounds(starts: Iterator[int], size: int) -> list[int]:
    """Where stretches of about STRETCH_BYTES begin, and the dump's end."""
    bounds: list[int] = []
    for start in starts:
        if not bounds or start - bounds[-1] >= STRETCH_BYTES:
            bounds.append(start)
    return [*bounds, size]


def _bytes(dump: File, start: int, stop: int) -> bytes:
    if dump.remote is not None and not dump.path.is_file():
        return http.get(dump.remote.url, dump.remote.manners, (start, stop))
    with dump.path.open("rb") as file:
        file.seek(start)
        return file.read(stop - start)


def _opening(packed: bytes, dump: str, index: str) -> bytes:
    try:
        unzip = bz2.BZ2Decompressor()
        head = unzip.decompress(packed, MAX_OPENING)
    except (OSError, EOFError, ValueError):
        head = b""
    if not unzip.eof or b"<page>" in head:
        raise ValueError(f"{index}: the first stream of {dump} is no opening of a dump; remove it to read serially")
    return head
