"""Streams of bytes: decompression told by the first bytes, members of archives, stretches, and a watch for bombs.

It does not know what the bytes mean. Nothing is ever written to a path that an archive names.
"""

import bz2
import gzip
import io
import lzma
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Any, BinaryIO, cast

from mantus.data.sources.source import Drop, Refused

DAMAGE = (EOFError, OSError, zlib.error, lzma.LZMAError)
"""What decompressors raise; an OSError with an errno is the disk's and passes."""
BOMB_BYTES = 64 << 20
"""Decompressed bytes from which on the ratio counts."""
BOMB_RATIO = 200
"""Decompressed bytes a compressed one that no text has: crawls have 5, logs 20."""
XZ_MEMORY = 256 << 20


def peekable(stream: BinaryIO) -> io.BufferedReader:
    """The stream with `peek`."""
    return cast(io.BufferedReader, stream if hasattr(stream, "peek") else io.BufferedReader(cast(Any, stream)))


def decompressed(stream: BinaryIO) -> BinaryIO:
    """The stream behind gzip, bz2, xz or zstd, told by the first bytes; else the stream itself.

    Reading raises one of DAMAGE where the compression is broken, and Refused where it is a bomb.
    """
    buffered = peekable(stream)
    unpack = _unpacker(buffered.peek(6)[:6])
    if unpack is None:
        return cast(BinaryIO, buffered)
    packed = _Counted(buffered)
    return cast(BinaryIO, io.BufferedReader(_Unpacked(packed, unpack(packed)), 1 << 16))


def packing(head: bytes) -> str:
    """Why what begins with these 262 bytes is no text: one more compression, an archive; '' where it may be one."""
    if _unpacker(head[:6]) is not None:
        return "nested compression"
    return "unopened archive" if head.startswith(b"PK\x03\x04") or head[257:262] == b"ustar" else ""


def _unpacker(head: bytes) -> Any:
    if head.startswith(b"\x1f\x8b"):
        return lambda packed: gzip.open(packed)
    if head.startswith(b"BZh"):
        return lambda packed: bz2.open(packed)
    if head.startswith(b"\xfd7zXZ"):
        return _Xz
    return _zstd if head.startswith((b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18")) else None


def _zstd(packed: Any) -> Any:
    import pyarrow

    return pyarrow.input_stream(packed, compression="zstd")


class _Counted(io.RawIOBase):
    """A stream that counts what is read from it."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.num = stream, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data: bytes = self.stream.read(size)
        self.num += len(data)
        return data

    def readinto(self, buffer: Any) -> int:
        data = self.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)


class _Unpacked(io.RawIOBase):
    """A decompressed stream that ends in Refused once it has grown as no text does."""

    def __init__(self, packed: _Counted, stream: Any) -> None:
        self.packed, self.stream, self.num = packed, stream, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        data = self.stream.read(min(len(buffer), 1 << 20))
        self.num += len(data)
        if self.num > BOMB_BYTES and self.num > BOMB_RATIO * self.packed.num:
            raise Refused("compression bomb")
        buffer[: len(data)] = data
        return len(data)


class _Xz:
    """xz with a bound on the memory that its header may ask for."""

    def __init__(self, packed: Any) -> None:
        self.packed, self.unzip, self.held = packed, lzma.LZMADecompressor(memlimit=XZ_MEMORY), b""

    def read(self, size: int) -> bytes:
        while True:
            if self.unzip.eof:
                rest = (self.unzip.unused_data or self.packed.read(1 << 16)).lstrip(b"\0")
                if not rest:
                    return b""
                self.unzip, self.held = lzma.LZMADecompressor(memlimit=XZ_MEMORY), rest
            elif self.unzip.needs_input:
                self.held = self.held or self.packed.read(1 << 16)
                if not self.held:
                    raise EOFError("ends too early")
            data = self.unzip.decompress(self.held, size)
            self.held = b""
            if data:
                return data


class Stretch(io.RawIOBase):
    """Bytes of a file from `start` to before `stop`."""

    def __init__(self, file: BinaryIO, start: int, stop: int) -> None:
        self.file, self.left = file, stop - start
        file.seek(start)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Bytes read into the buffer; 0 at the end."""
        data = self.file.read(min(len(buffer), self.left))
        self.left -= len(data)
        buffer[: len(data)] = data
        return len(data)


class Joined(io.RawIOBase):
    """Streams one after the other."""

    def __init__(self, *streams: BinaryIO) -> None:
        self.streams: Iterator[BinaryIO] = iter(streams)
        self.stream: BinaryIO | None = next(self.streams, None)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Bytes read into the buffer; 0 at the end."""
        while self.stream is not None:
            data = self.stream.read(len(buffer))
            if data:
                buffer[: len(data)] = data
                return len(data)
            self.stream = next(self.streams, None)
        return 0


Member = tuple[str, BinaryIO | Drop]
"""A member's name, and its bytes or why it is not read."""


def members(stream: BinaryIO, pattern: str) -> Iterator[Member]:
    """Members that a glob matches. Names of a tar's members are without its top folder, as in sdists.

    Raises what zipfile and tarfile raise for damage, and Refused for a bomb.
    """
    yield from (_zip_members if zipfile.is_zipfile(stream) else _tar_members)(stream, pattern)


def _zip_members(stream: BinaryIO, pattern: str) -> Iterator[Member]:
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            if not info.is_dir() and fnmatchcase(info.filename, pattern):
                reason = _trap(info)
                yield info.filename, Drop(reason) if reason else cast(BinaryIO, archive.open(info))


def _trap(info: zipfile.ZipInfo) -> str:
    """Why a zip's member is not read; '' when it may be."""
    if _leads_out(info.filename):
        return "path out of the archive"
    if info.external_attr >> 28 == 0o12:
        return "link in an archive"
    if info.flag_bits & 1:
        return "encrypted"
    if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        return "unknown compression"
    if info.file_size > BOMB_BYTES and info.file_size > BOMB_RATIO * max(1, info.compress_size):
        return "compression bomb"
    return ""


def _tar_members(stream: BinaryIO, pattern: str) -> Iterator[Member]:
    """Members in archive order, so that the archive is decompressed once."""
    stream.seek(0)
    with tarfile.open(fileobj=decompressed(stream), mode="r|") as archive:
        for info in archive:
            archive.members = []  # type: ignore[attr-defined]  # tarfile keeps all it has seen
            name = info.name.partition("/")[2]
            if not fnmatchcase(name, pattern) or info.isdir():
                continue
            if _leads_out(info.name):
                yield name, Drop("path out of the archive")
            elif not info.isfile():
                yield name, Drop("link in an archive")
            else:
                member = Joined(cast(BinaryIO, archive.extractfile(info)))  # which cannot go back, and says so
                yield name, cast(BinaryIO, io.BufferedReader(member, 1 << 16))


def _leads_out(name: str) -> bool:
    return name.startswith(("/", "\\")) or ".." in name.replace("\\", "/").split("/") or name[1:2] == ":"
