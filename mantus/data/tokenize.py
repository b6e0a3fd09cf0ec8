"""Tokenize: a corpus as shuffled token shards, with whole documents held out.

It does not know what the tokens are for; the shard format is in shards.py.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import Field

from mantus import console
from mantus.data.corpus import read_rows
from mantus.data.shards import SHARD_TOKENS, Tokens, token_dtype, write_shards
from mantus.processes import num_processors
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute
from mantus.storage.phase import RUNTIME
from mantus.text.tokenizer import Tokenizer

BATCH_BYTES = 4 << 20
"""Bytes of text encoded in one go."""


class TokenizeConfig(PhaseConfig):
    """Write shuffled token shards, held-out documents apart."""

    corpus: ArtifactURI
    """The corpus to encode."""
    tokenizer: ArtifactURI
    """The tokenizer to encode it with."""
    heldout_fraction: float = Field(default=0.02, ge=0, lt=1)
    """Share of documents held out: those whose ids hash lowest, so that each keeps its side as the corpus grows."""
    min_heldout: int = Field(default=8, ge=0)
    """Documents held out at least."""
    seed: int = 0
    """Of the global shuffle of documents."""
    shard_tokens: int = Field(default=SHARD_TOKENS, ge=1)
    """Tokens in a shard before the next one begins."""
    threads: int = Field(default=0, ge=0, json_schema_extra=RUNTIME)
    """Threads that encode (0 = one a processor)."""


@dataclass
class Encoded:
    """Every document's tokens in a scratch file, in corpus order, and what is counted of it."""

    path: Path
    dtype: Any
    ids: list[str]
    sources: list[str]
    sizes: list[int]
    """Bytes of text."""
    ends: list[int]
    """Where each document's tokens end; one more entry than documents, the first 0."""

    def document(self, tokens: Tokens, number: int) -> Tokens:
        """The tokens of one document; `tokens` maps the scratch file."""
        return tokens[self.ends[number] : self.ends[number + 1]]


def run(config: TokenizeConfig) -> Manifest:
    """Make the token shards, or find them. ValueError when the corpus is too small to hold anything out."""
    return execute("tokens", config, lambda work: _produce(work, config))


def _produce(work: Work, config: TokenizeConfig) -> dict[str, Any]:
    tokenizer = Tokenizer.load(work.inputs["tokenizer"])
    encoded = _encode(work, tokenizer, config.threads or num_processors())
    heldout = _held_out(encoded.ids, config)
    if len(heldout) == len(encoded.ids):
        raise ValueError(f"corpus: {len(encoded.ids)} documents are too few to hold out {len(heldout)} of them")
    tokens: Tokens = np.memmap(encoded.path, encoded.dtype, "r")
    stats: dict[str, Any] = {}
    for split, numbers in (("train", set(range(len(encoded.ids))) - heldout), ("heldout", heldout)):
        order = sorted(numbers, key=lambda number: _hash(f"{config.seed} {encoded.ids[number]} {number}"))
        documents = (encoded.document(tokens, number) for number in order)
        write_shards(documents, tokenizer.vocab_size, work.out / split, config.shard_tokens)
        stats[split] = {**_count(encoded, order), "sources": _mix(encoded, order)}
    return _stats(encoded, stats, tokenizer, work.manifests["tokenizer"].key)


def _encode(work: Work, tokenizer: Tokenizer, threads: int) -> Encoded:
    dtype = token_dtype(tokenizer.vocab_size)
    encoded = Encoded(work.scratch / "tokens.bin", dtype, [], [], [], [0])
    total = work.manifests["corpus"].stats["bytes"] / 1e6
    with console.progress("tokenize", total, "MB") as bar, encoded.path.open("wb") as file:
        for batch in _batches(work.inputs["corpus"]):
            for row, ids in zip(batch, tokenizer.encode_batch([row["text"] for row in batch], threads), strict=True):
                np.array([*ids, tokenizer.eot_id], dtype).tofile(file)
                encoded.ids.append(row["id"])
                encoded.sources.append(row["source"])
                encoded.sizes.append(len(row["text"].encode()))
                encoded.ends.append(encoded.ends[-1] + len(ids) + 1)
            bar.advance(sum(encoded.sizes[-len(batch) :]) / 1e6, note=f"{encoded.ends[-1] / 1e6:,.1f}M tokens")
    return encoded


def _batches(corpus: Path) -> Iterator[list[dict[str, Any]]]:
    batch: list[dict[str, Any]] = []
    size = 0
    for row in read_rows(corpus, ("id", "text", "source")):
        batch.append(row)
        size += len(row["text"])
        if size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def _held_out(ids: list[str], config: TokenizeConfig) -> set[int]:
    """Numbers of the documents that training must never see; equal ids are on the same side."""
    hashes = {name: _hash(f"held out {name}") for name in ids}
    chosen = {name for name, value in hashes.items() if value < config.heldout_fraction * 2**64}
    lowest = sorted(hashes, key=lambda name: hashes[name])
    chosen.update(lowest[: config.min_heldout])
    return {number for number, name in enumerate(ids) if name in chosen}


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def _count(encoded: Encoded, numbers: list[int]) -> dict[str, int]:
    return {
        "documents": len(numbers),
        "bytes": sum(encoded.sizes[number] for number in numbers),
        "tokens": sum(encoded.ends[number + 1] - encoded.ends[number] for number in numbers),
    }


def _mix(encoded: Encoded, numbers: list[int]) -> dict[str, dict[str, int]]:
    by_source: dict[str, list[int]] = {}
    for number in numbers:
        by_source.setdefault(encoded.sources[number], []).append(number)
    return {name: _count(encoded, by_source[name]) for name in sorted(by_source)}


def _stats(encoded: Encoded, splits: dict[str, Any], tokenizer: Tokenizer, tokenizer_key: str) -> dict[str, Any]:
    everything = list(range(len(encoded.ids)))
    total = _count(encoded, everything)
    return {
        **total,
        "bytes_per_token": round(total["bytes"] / total["tokens"], 4),
        "vocab_size": tokenizer.vocab_size,
        "tokenizer": tokenizer_key,
        "sources": _mix(encoded, everything),
        **splits,
    }
