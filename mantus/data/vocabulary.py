"""Tokenizer: train a byte-level BPE vocabulary on a sample of the corpus and of the conversations it must spell.

It chooses the sample; how a vocabulary is learnt and written is in mantus.text.tokenizer.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, cycle
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus import console
from mantus.data.tokens.mixture import Weights, shares
from mantus.data.tokens.sample import Pool, chosen, draw, id_hash, sources
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute
from mantus.text.tokenizer import Tokenizer, train

MAX_REPEATS = 20
"""How often the conversations are repeated, at most, to reach their share of the sample."""

MEASURED_BYTES = 1 << 20


class TokenizerConfig(PhaseConfig):
    """Train a byte-level BPE tokenizer."""

    corpus: ArtifactURI
    """The corpus to learn from."""
    vocab_size: int = Field(default=4096, ge=512)
    """Tokens of the vocabulary, special ones included."""
    split_words: bool = False
    """Learn no token that joins a word with the space before it: a word has the same tokens wherever it stands, and a
    small model can copy it from a request into quotation marks. Costs some tokens."""
    sample_mb: float = Field(default=16, gt=0)
    """MB of text to learn from; documents are chosen by the hash of their ids."""
    extra: list[ArtifactURI] = Field(default_factory=list)
    """Chat and tool data that the vocabulary should spell well too."""
    extra_share: float = Field(default=0.1, ge=0, lt=1)
    """The share of the sample that comes from `extra`; too little of it is repeated."""
    weights: Weights = Field(default_factory=dict)
    """Shares of the rest by name of source, in any unit; a source too small gives all it has. Empty: as they are."""


def run(config: TokenizerConfig) -> Manifest:
    """Make the tokenizer, or find it. ValueError when the text is too little, or `weights` do not fit its sources."""
    return execute("tokenizer", config, lambda work: _produce(work, config))


def _produce(work: Work, config: TokenizerConfig) -> dict[str, Any]:
    corpus, budget = work.inputs["corpus"], int(config.sample_mb * 1e6)
    extra = [text for folder in work.inputs.get("extra", ()) for text in conversations(folder)]
    share = config.extra_share if extra else 0.0
    pools = _pools(corpus, config.weights, int(budget * (1 - share)))
    drawn = {name: pool.stats for name, pool in pools.items()}
    num_documents, num_bytes = (sum(entry[of] for entry in drawn.values()) for of in ("documents", "bytes"))
    wanted = min(num_bytes * share / (1 - share), MAX_REPEATS * sum(map(_size, extra)))
    added = list(_until(cycle(sorted(extra, key=id_hash)), wanted)) if wanted else []
    with console.progress("tokenizer", num_documents + len(added), "texts") as bar:
        train(_counted(chain(chosen(corpus, pools), added), bar), config.vocab_size, work.out, config.split_words)
    tokenizer = Tokenizer.load(work.out)
    return {
        "vocab_size": tokenizer.vocab_size,
        "sample_documents": num_documents,
        "sample_bytes": num_bytes,
        **({"sample_sources": drawn} if config.weights else {}),
        "extra_bytes": sum(map(_size, added)),
        "bytes_per_token": _bytes_per_token(tokenizer, chosen(corpus, pools)),
        "extra_bytes_per_token": _bytes_per_token(tokenizer, extra),
    }


def _pools(corpus: Path, weights: Weights, num_bytes: int) -> dict[str, Pool]:
    """The sample by source, in one piece under '' when sources have no weights."""
    if not weights:
        pools = {"": Pool(num_bytes)}
    else:
        pools = {name: Pool(part * num_bytes) for name, part in shares(weights, sources(corpus)).items()}
    draw(corpus, pools)
    return pools


def conversations(folder: Path) -> Iterator[str]:
    """Every row of chat or tool data as text: its tools and what is said and called, as JSON writes it."""
    with (folder / "train.jsonl").open(encoding="utf-8") as lines:
        for line in lines:
            row = json.loads(line)
            parts = [json.dumps(tool, ensure_ascii=False) for tool in row.get("tools") or ()]
            for message in row["messages"]:
                parts.append(str(message.get("content") or ""))
                calls = (call["function"] for call in message.get("tool_calls") or ())
                parts += [json.dumps(call, ensure_ascii=False) for call in calls]
            yield "\n".join(part for part in parts if part)


def _until(texts: Iterable[str], num_bytes: float) -> Iterator[str]:
    total = 0
    for text in texts:
        if total >= num_bytes:
            return
        total += _size(text)
        yield text


def _counted(texts: Iterable[str], bar: console.Progress) -> Iterator[str]:
    for text in texts:
        bar.advance()
        yield text


def _bytes_per_token(tokenizer: Tokenizer, texts: Iterable[str]) -> float:
    measured = list(_until(texts, MEASURED_BYTES))
    num_tokens = sum(map(len, tokenizer.encode_batch(measured)))
    return round(sum(map(_size, measured)) / num_tokens, 4) if num_tokens else 0.0


def _size(text: str) -> int:
    return len(text.encode())
