"""Phase `tokenize`: corpus, tokenizer -> shuffled token shards, held-out documents apart.

It knows documents and splits, not the shard format (shards.py).
"""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus import console
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute

BATCH = 256


class TokenizeConfig(PhaseConfig):
    """Settings of `mantus tokenize`."""

    corpus: ArtifactURI
    """The corpus to encode."""
    tokenizer: ArtifactURI
    """The tokenizer."""
    heldout_share: float = Field(default=0.03, gt=0, lt=1)
    """Share of documents held out, chosen by their ids: a document stays on its side whatever else changes."""
    seed: int = 1
    """Decides the order of documents."""


def run(config: TokenizeConfig) -> Manifest:
    """Write the shards, or find them. ValueError when the corpus has too few documents to hold any out."""

    def produce(work: Work) -> dict[str, Any]:
        rows = _rows(work.inputs["corpus"])
        rows.sort(key=lambda row: hashlib.blake2b(f"{config.seed}:{row[0]}".encode()).digest())
        held = [row for row in rows if is_held_out(row[0], config.heldout_share)] or rows[:1]
        chosen = {row[0] for row in held}
        kept = [row for row in rows if row[0] not in chosen]
        if not kept:
            raise ValueError(f"tokenize.corpus: {len(rows)} documents are too few to hold some out")
        stats = {"train": _write(kept, work, "train"), "heldout": _write(held, work, "heldout")}
        return {**stats, "tokens": stats["train"]["tokens"], "bytes_per_token": stats["train"]["bytes_per_token"]}

    return execute("tokens", config, produce)


def is_held_out(document_id: str, share: float) -> bool:
    """A pure function of the id."""
    number = int.from_bytes(hashlib.blake2b(document_id.encode(), digest_size=8, person=b"heldout").digest())
    return number < share * 2**64


def _rows(folder: Path) -> list[tuple[str, str, str]]:
    """(id, text, source) of every document."""
    import pyarrow.parquet as parquet

    rows: list[tuple[str, str, str]] = []
    for part in sorted(folder.glob("part-*.parquet")):
        table = parquet.read_table(part, columns=["id", "text", "source"])
        rows += zip(*(table[name].to_pylist() for name in ("id", "text", "source")), strict=True)
    return rows


def _write(rows: list[tuple[str, str, str]], work: Work, split: str) -> dict[str, Any]:
    from mantus.data.shards import write_shards
    from mantus.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(work.inputs["tokenizer"])
    documents: list[list[int]] = []
    mix: Counter[str] = Counter()
    with console.progress(f"tokenize {split}", len(rows), "documents") as bar:
        for start in range(0, len(rows), BATCH):
            batch = rows[start : start + BATCH]
            for (_, _, source), ids in zip(batch, tokenizer.encode_batch([text for _, text, _ in batch]), strict=True):
                documents.append([*ids, tokenizer.eot_id])
                mix[source] += len(ids) + 1
            bar.advance(len(batch))
    count, tokens = write_shards(documents, tokenizer.vocab_size, work.out / split)
    size = sum(len(text.encode()) for _, text, _ in rows)
    return {
        "documents": count,
        "tokens": tokens,
        "bytes": size,
        "bytes_per_token": round(size / tokens, 3),
        "sources": dict(sorted(mix.items())),
    }
