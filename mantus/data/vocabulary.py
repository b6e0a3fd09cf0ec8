"""Phase `tokenizer`: corpus, and conversations whose syntax it should know, -> tokenizer.

It knows what to learn from, not how BPE works (text/tokenizer.py).
"""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute


class TokenizerConfig(PhaseConfig):
    """Settings of `mantus tokenizer`."""

    corpus: ArtifactURI
    """The corpus to learn from."""
    extra: list[ArtifactURI] = Field(default_factory=list)
    """Conversations to learn from as well, so that tool syntax takes few tokens."""
    vocab_size: int = Field(default=4096, ge=267)
    """Tokens, special ones included."""
    sample_mb: float = Field(default=32.0, gt=0)
    """Megabytes of corpus to learn from, taken evenly from all documents."""
    extra_mb: float = Field(default=1.0, ge=0)
    """Megabytes of conversations to learn from."""


def run(config: TokenizerConfig) -> Manifest:
    """Learn the tokenizer, or find it. ValueError when the corpus is too small for the vocabulary."""

    def produce(work: Work) -> dict[str, Any]:
        from mantus.text.tokenizer import Tokenizer, train

        texts = [*corpus_sample(work.inputs["corpus"], config.sample_mb)]
        for folder in work.inputs.get("extra", ()):
            texts += conversation_sample(folder, config.extra_mb)
        train(texts, config.vocab_size, work.out)
        tokenizer = Tokenizer.load(work.out)
        size = sum(len(text.encode()) for text in texts[:200])
        tokens = sum(map(len, tokenizer.encode_batch(texts[:200])))
        return {"vocab_size": tokenizer.vocab_size, "texts": len(texts), "bytes_per_token": round(size / tokens, 3)}

    return execute("tokenizer", config, produce)


def corpus_sample(folder: Path, megabytes: float) -> Iterator[str]:
    """Whole documents if all fit, else the first part of each, so that every source is heard."""
    import pyarrow.parquet as parquet

    texts = [
        t
        for part in sorted(folder.glob("part-*.parquet"))
        for t in parquet.read_table(part, columns=["text"])["text"].to_pylist()
    ]
    total = sum(map(len, texts))
    share = min(1.0, megabytes * 1e6 / max(1, total))
    for text in texts:
        yield text[: max(1, int(len(text) * share))]


def conversation_sample(folder: Path, megabytes: float) -> Iterator[str]:
    """Conversations as text, up to a size; tools one a line, as a model reads them."""
    left = megabytes * 1e6
    for line in (folder / "train.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        tools = [json.dumps(tool["function"], ensure_ascii=False) for tool in row["tools"]]
        said = [message.get("content") or "" for message in row["messages"]]
        calls = [call["function"] for message in row["messages"] for call in message.get("tool_calls") or ()]
        text = "\n".join([*tools, *said, *(json.dumps(call, ensure_ascii=False) for call in calls)])
        left -= len(text)
        if left < 0:
            return
        yield text
