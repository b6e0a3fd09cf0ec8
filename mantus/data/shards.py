"""Token shards on disk: little-endian `.bin` tokens with `.idx` document offsets, written once, read by memory map.

It knows arrays of ids, not text or training order.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mantus.text.tokenizer import Tokenizer

SHARD_TOKENS = 50_000_000


def write_shards(documents: Iterable[list[int]], vocab_size: int, folder: Path) -> tuple[int, int]:
    """Write documents (each already ended by `<|endoftext|>`); (documents, tokens)."""
    folder.mkdir(parents=True, exist_ok=True)
    dtype = np.dtype("<u2" if vocab_size <= 1 << 16 else "<u4")
    num_documents = num_tokens = number = 0
    pending: list[list[int]] = []
    size = 0
    for document in documents:
        pending.append(document)
        size += len(document)
        num_documents, num_tokens = num_documents + 1, num_tokens + len(document)
        if size >= SHARD_TOKENS:
            _write(pending, dtype, folder / f"shard-{number:05d}")
            pending, size, number = [], 0, number + 1
    if pending or not number:
        _write(pending, dtype, folder / f"shard-{number:05d}")
    return num_documents, num_tokens


def _write(documents: list[list[int]], dtype: np.dtype, stem: Path) -> None:
    offsets = np.cumsum([0, *(len(document) for document in documents)], dtype="<u8")
    tokens = np.fromiter((token for document in documents for token in document), dtype=dtype, count=int(offsets[-1]))
    tokens.tofile(stem.with_suffix(".bin"))
    offsets.tofile(stem.with_suffix(".idx"))


@dataclass(frozen=True)
class TokenShards:
    """The shards of one split, in order."""

    shards: tuple[tuple[np.ndarray, np.ndarray], ...]
    """(tokens, offsets) of each shard."""

    @classmethod
    def open(cls, folder: Path) -> "TokenShards":
        """Map every shard. ValueError when there is none, or one's size and offsets disagree."""
        found = []
        for index in sorted(folder.glob("shard-*.idx")):
            offsets = np.fromfile(index, dtype="<u8")
            file = index.with_suffix(".bin")
            width = file.stat().st_size // max(1, int(offsets[-1])) or 2
            if file.stat().st_size != width * int(offsets[-1]) or width not in (2, 4):
                raise ValueError(f"{file}: size does not fit its index")
            empty = file.stat().st_size == 0
            dtype = f"<u{width}"
            found.append((np.zeros(0, dtype) if empty else np.memmap(file, dtype, "r"), offsets))
        if not found:
            raise ValueError(f"{folder}: no token shards here")
        return cls(tuple(found))

    @property
    def num_tokens(self) -> int:
        """Tokens of all shards."""
        return sum(len(tokens) for tokens, _ in self.shards)

    def all_tokens(self) -> np.ndarray:
        """One array over all shards; a memory map when there is one shard."""
        arrays = [tokens for tokens, _ in self.shards]
        return arrays[0] if len(arrays) == 1 else np.concatenate(arrays)

    def documents(self) -> Iterator[np.ndarray]:
        """The tokens of each document, its end mark included."""
        for tokens, offsets in self.shards:
            for start, end in zip(offsets[:-1], offsets[1:], strict=True):
                yield tokens[int(start) : int(end)]


def heldout_texts(folder: Path, tokenizer: Tokenizer) -> list[str]:
    """The held-out documents of a `tokens` artifact as text, end marks removed."""
    shards = TokenShards.open(folder / "heldout")
    return [tokenizer.decode(document[:-1].tolist()) for document in shards.documents()]
