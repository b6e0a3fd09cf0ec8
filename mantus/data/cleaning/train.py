"""Train a classifier of quality: texts that are wanted against texts that are not; measured on texts held out.

It knows corpora, files and the model, not who uses it (`clean`).
"""

import hashlib
import heapq
from collections.abc import Iterator
from typing import Any

from pydantic import Field

from mantus import console
from mantus.data.cleaning.classifier import bags_of, ranked, train
from mantus.data.corpus import read_rows
from mantus.data.sources.read import read_file
from mantus.data.sources.resolve import Resolved, resolve
from mantus.data.sources.source import Drop, Source
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute

FILES = ("jsonl", "text", "parquet", "warc", "wikipedia")
"""Types of sources whose files are read here; all others go through `collect`."""


class ClassifierConfig(PhaseConfig):
    """Train a classifier of quality from two sets of texts."""

    positive: list[ArtifactURI] = Field(default_factory=list)
    """Corpora of texts that are wanted."""
    negative: list[ArtifactURI] = Field(default_factory=list)
    """Corpora of texts that are not, such as a sample of what is to be cleaned."""
    positive_files: tuple[Source, ...] = ()
    """More that are wanted: sources of type jsonl, text, parquet, warc or wikipedia (see `Source`)."""
    negative_files: tuple[Source, ...] = ()
    """More that are not."""
    documents: int = Field(default=50_000, ge=10)
    """Texts of each set at most, those with the smallest hashes. Memory: 8 bytes a word of theirs."""
    max_words: int = Field(default=500, ge=1)
    """First words of a text that count."""
    heldout: float = Field(default=0.1, gt=0, lt=1)
    """Share of texts, by their hash, that is measured on and not trained on."""
    bits: int = Field(default=20, ge=10, le=26)
    """Words and pairs of words share 2 to the power of this many weights."""
    epochs: int = Field(default=5, ge=1)
    """Times that each text is seen."""
    rate: float = Field(default=0.1, gt=0)
    """Learning rate (Adagrad)."""
    seed: int = 1
    """Decides the order of texts."""


def run(config: ClassifierConfig) -> Manifest:
    """Train the classifier, or find it. ValueError names the set that is missing or has too few texts."""
    found = {}
    for name in ("positive", "negative"):
        sources = getattr(config, f"{name}_files")
        if not getattr(config, name) and not sources:
            raise ValueError(f"{name}: no texts; name corpora ({name}) or files ({name}_files)")
        for number, source in enumerate(sources):
            if source.type not in FILES:
                raise ValueError(f"{name}_files[{number}].type: {source.type}: collect it first, then name the corpus")
        found[name] = [resolve(source, f"{name}_files[{n}]") for n, source in enumerate(sources)]
    references = [item.reference for name in ("positive", "negative") for item in found[name]]
    return execute("classifier", config, lambda work: _produce(work, config, found), references)


def _produce(work: Work, config: ClassifierConfig, found: dict[str, list[Resolved]]) -> dict[str, Any]:
    import numpy as np
    import polars as pl

    chosen = {name: _smallest(_texts(work, name, found[name]), config.documents) for name in ("positive", "negative")}
    for name, some in chosen.items():
        if len(some) < 10:
            raise ValueError(f"{name}: {len(some)} different texts; at least 10 are needed")
    pairs = [(key, text, name == "positive") for name, some in chosen.items() for key, text in some]
    texts = pl.Series([text for _, text, _ in pairs], dtype=pl.String)
    wanted = np.array([good for _, _, good in pairs])
    heldout = np.array([int(key[8:16], 16) < config.heldout * 2**32 for key, _, _ in pairs])
    for name, good in (("positive", True), ("negative", False)):
        if heldout[wanted == good].all() or not heldout[wanted == good].any():
            raise ValueError(f"{name}: too few texts to hold some out; name more or change heldout")
    bags = bags_of(texts, config.bits, config.max_words)
    with console.progress("classifier", 1, "model") as bar:
        learnt = bags.take(np.flatnonzero(~heldout))
        settings = (config.bits, config.max_words, config.epochs, config.rate, config.seed)
        model = train(learnt, wanted[~heldout], *settings)
        bar.advance()
    model.write(work.out)
    return {
        "positive": len(chosen["positive"]),
        "negative": len(chosen["negative"]),
        "heldout": int(heldout.sum()),
        **_measured(model.of_bags(bags.take(np.flatnonzero(heldout))), wanted[heldout]),
    }


def _measured(scores: Any, wanted: Any) -> dict[str, float]:
    right = (scores >= 0.5) == wanted
    return {"accuracy": round(float(right.mean()), 4), "auc": round(ranked(scores, wanted), 4)}


def _texts(work: Work, name: str, found: list[Resolved]) -> Iterator[str]:
    for folder in work.inputs.get(name, []):
        yield from (row["text"] for row in read_rows(folder, ("text",)))
    for item in found:
        for file in item.fetch():
            yield from (read.text for read in read_file(file, item.source) if not isinstance(read, Drop))


def _smallest(texts: Iterator[str], num: int) -> list[tuple[str, str]]:
    """(hash, text) of the texts with the smallest hashes, each once: a sample that their order does not decide."""
    held: list[tuple[int, str, str]] = []  # a heap by the negative hash: the largest goes first
    known: set[str] = set()
    for text in texts:
        key = hashlib.blake2b(text.encode("utf-8", "replace"), digest_size=16).hexdigest()
        if key in known or (len(held) == num and -int(key, 16) < held[0][0]):
            continue
        known.add(key)
        heapq.heappush(held, (-int(key, 16), key, text))
        if len(held) > num:
            known.discard(heapq.heappop(held)[1])
    return sorted((key, text) for _, key, text in held)
