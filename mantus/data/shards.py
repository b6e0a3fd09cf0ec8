"""Token shards on disk: little-endian `.bin` tokens with `.idx` document offsets, written once, read by memory map.

It knows arrays of ids, not sources, and nothing of training order.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from mantus.text.tokenizer import Tokenizer

SHARD_TOKENS = 50_000_000
"""Tokens in a shard before the next one begins."""

Tokens = npt.NDArray[Any]
"""uint16, or uint32 for a vocabulary beyond 65,536."""


def token_dtype(vocab_size: int) -> np.dtype[Any]:
    """How tokens of a vocabulary are stored."""
    return np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")


class ShardWriter:
    """One split, written as it comes: `shard-%05d.bin` and `.idx`, each full with the document that fills it."""

    def __init__(self, folder: Path, vocab_size: int, shard_tokens: int = SHARD_TOKENS) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.folder, self.dtype, self.limit = folder, token_dtype(vocab_size), shard_tokens
        self._number = self._size = 0
        self._lengths: list[npt.NDArray[np.int64]] = []
        self._file: BinaryIO | None = None

    def __enter__(self) -> "ShardWriter":
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        if self._file is not None:
            self._file.close()
        if failed is None and (self._file is not None or not self._number):  # without a document: one empty shard
            self._finish()

    def write(self, tokens: Tokens, lengths: npt.NDArray[np.int64]) -> Iterator[tuple[Path, int, int]]:
        """Append documents; yields, for each shard they went to, its path without suffix and the range of them.

        tokens: [tokens of all of them], each already ended by `<|endoftext|>`.  lengths: [documents].
        """
        ends = np.concatenate([[0], np.cumsum(lengths)])
        first = 0
        while first < len(lengths):
            full = int(np.searchsorted(ends[1:], ends[first] + self.limit - self._size))
            last = min(full + 1, len(lengths))
            if self._file is None:
                self._file = self._stem().with_suffix(".bin").open("wb")
            self._file.write(np.ascontiguousarray(tokens[ends[first] : ends[last]], self.dtype).data)
            self._lengths.append(lengths[first:last])
            self._size += int(ends[last] - ends[first])
            yield self._stem(), first, last
            if self._size >= self.limit:
                self._file.close()
                self._finish()
            first = last

    def _stem(self) -> Path:
        return self.folder / f"shard-{self._number:05d}"

    def _finish(self) -> None:
        self._stem().with_suffix(".bin").touch()
        offsets = np.cumsum(np.concatenate([[0], *self._lengths]), dtype="<u8")
        offsets.tofile(self._stem().with_suffix(".idx"))
        self._number, self._size, self._lengths, self._file = self._number + 1, 0, [], None


def write_shards(
    documents: Iterable[Sequence[int] | Tokens], vocab_size: int, folder: Path, shard_tokens: int = SHARD_TOKENS
) -> tuple[int, int]:
    """Write documents, each already ended by `<|endoftext|>`, as `shard-%05d.bin` and `.idx`; (documents, tokens).

    Without a document there is one empty shard.
    """
    num_documents = num_tokens = 0
    with ShardWriter(folder, vocab_size, shard_tokens) as writer:
        for document in documents:
            tokens = np.asarray(document, writer.dtype)
            for _ in writer.write(tokens, np.array([len(tokens)])):
                num_documents, num_tokens = num_documents + 1, num_tokens + len(tokens)
    return num_documents, num_tokens


@dataclass(frozen=True)
class TokenShards:
    """The shards of one split, in order; tokens are read from disk as they are asked for."""

    shards: tuple[tuple[Tokens, npt.NDArray[np.uint64]], ...]
    """(tokens, offsets) of each shard."""
    starts: tuple[int, ...]
    """Where each shard's tokens begin in the concatenation, and behind the last its length."""

    @classmethod
    def open(cls, folder: Path) -> "TokenShards":
        """Map every shard of a folder. ValueError when there is none, or one's size and offsets disagree."""
        shards = tuple(_map(index) for index in sorted(folder.glob("shard-*.idx")))
        if not shards:
            raise ValueError(f"{folder}: no token shards here")
        starts = np.cumsum([0, *(len(tokens) for tokens, _ in shards)]).tolist()
        return cls(shards, tuple(starts))

    @property
    def num_tokens(self) -> int:
        """Tokens of all shards."""
        return self.starts[-1]

    @property
    def num_documents(self) -> int:
        """Documents of all shards."""
        return sum(len(offsets) - 1 for _, offsets in self.shards)

    def tokens(self, start: int, count: int) -> Tokens:
        """`count` tokens from `start` of the concatenation of all shards; fewer at its end."""
        end = min(start + count, self.num_tokens)
        parts = [
            tokens[max(0, start - first) : max(0, end - first)]
            for (tokens, _), first in zip(self.shards, self.starts, strict=False)
            if first < end and start < first + len(tokens)
        ]
        return parts[0] if len(parts) == 1 else np.concatenate([self.shards[0][0][:0], *parts])

    def all_tokens(self) -> Tokens:
        """One array over all shards; a memory map when there is one shard."""
        return self.tokens(0, self.num_tokens)

    def documents(self) -> Iterator[Tokens]:
        """The tokens of each document, its end mark included."""
        for tokens, offsets in self.shards:
            for start, end in pairwise(offsets.tolist()):
                yield tokens[start:end]


def _map(index: Path) -> tuple[Tokens, npt.NDArray[np.uint64]]:
    offsets = np.fromfile(index, dtype="<u8")
    file = index.with_suffix(".bin")
    if len(offsets) == 0 or not file.is_file():
        raise ValueError(f"{index}: not the index of a shard")
    num_bytes, num_tokens = file.stat().st_size, int(offsets[-1])
    if num_tokens == 0 and num_bytes == 0:
        return np.zeros(0, "<u2"), offsets
    if num_bytes not in (2 * num_tokens, 4 * num_tokens):
        raise ValueError(f"{file}: {num_bytes} bytes do not fit the {num_tokens} tokens of its index")
    return np.memmap(file, f"<u{num_bytes // num_tokens}", "r"), offsets


def heldout_texts(folder: Path, tokenizer: Tokenizer) -> list[str]:
    """The held-out documents of a `tokens` artifact at `folder`, byte for byte, end marks removed."""
    shards = TokenShards.open(folder / "heldout")
    return [tokenizer.decode(document[:-1].tolist()) for document in shards.documents()]
