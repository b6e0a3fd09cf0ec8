"""Run the data phases once on a small crawl and tell what each costs: `python -m mantus.launch.plan.measure MB VOCAB`.

It knows the phases by their configs and artifacts only. It prints one JSON object; MANTUS_CACHE must be a fresh folder.
"""

import gzip
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from mantus.data import clean, collect, tokenize, vocabulary
from mantus.data.corpus import part_paths
from mantus.data.dedup import run as dedup
from mantus.data.dedup.signatures import INDEX, sign
from mantus.data.dedup.takedown import Requests
from mantus.data.sources.source import Source
from mantus.launch.plan.sample import write_crawl
from mantus.storage import Manifest, fetch

Result = TypeVar("Result")
WARM_MB, WARM_VOCAB = 1.0, 512
"""Of a first life that is thrown away: it pays for imports and first calls."""


def measure(megabytes: float, vocab_size: int, crawl: str, scratch: Path) -> dict[str, float]:
    """CPU seconds per MB of each phase, and ratios of sizes, by the names that the plan knows.

    megabytes: text of this machine to make a crawl of.  crawl: a glob of WARC files to use instead; '' for none.
    """
    scratch.mkdir(parents=True, exist_ok=True)
    made, warm = scratch / "crawl.warc.gz", scratch / "warm.warc.gz"
    write_crawl(min(WARM_MB, megabytes), warm)
    _life(str(warm), WARM_VOCAB, scratch / "warm")
    if not crawl:
        write_crawl(megabytes, made)
    return _life(crawl or str(made), vocab_size, scratch / "measured")


def _life(crawl: str, vocab_size: int, scratch: Path) -> dict[str, float]:
    store: dict[str, Any] = {"store": str(scratch / "store")}
    files = [Path(path) for path in glob(crawl, recursive=True)]
    pages, packed = sum(map(_unpacked, files)), sum(path.stat().st_size for path in files)
    source = Source(type="warc", path=crawl, name="crawl", license="LicenseRef-unknown")
    corpus, collect_s = timed(lambda: collect.run(collect.CollectConfig(**store, sources=(source,), workers=1)))
    cleaned, clean_s = timed(lambda: clean.run(clean.CleanConfig(**store, corpus=corpus.uri)))
    config = dedup.DedupConfig(**store, corpus=cleaned.uri)
    kept, dedup_s = timed(lambda: dedup.run(config))
    parts = part_paths(fetch(cleaned.uri))
    _, sign_s = timed(lambda: [sign(part, scratch / part.stem, config.sketch, Requests()) for part in parts])
    size = kept.stats["bytes"] / 1e6
    learn: dict[str, Any] = {**store, "corpus": kept.uri, "vocab_size": vocab_size}
    _, part_s = timed(lambda: vocabulary.run(vocabulary.TokenizerConfig(**learn, sample_mb=size / 4)))
    tokenizer, whole_s = timed(lambda: vocabulary.run(vocabulary.TokenizerConfig(**learn, sample_mb=size * 2)))
    ids: dict[str, Any] = {**store, "corpus": kept.uri, "tokenizer": tokenizer.uri, "workers": 1}
    tokens, tokenize_s = timed(lambda: tokenize.run(tokenize.TokenizeConfig(**ids)))
    learn_s = max(0.0, whole_s - part_s) / (size * 3 / 4)
    return {
        "collect_s_per_mb": collect_s / (pages / 1e6),
        "clean_s_per_mb": clean_s / (corpus.stats["bytes"] / 1e6),
        "sign_s_per_mb": sign_s / (cleaned.stats["bytes"] / 1e6),
        "judge_s_per_mb": max(0.0, dedup_s - sign_s) / (cleaned.stats["bytes"] / 1e6),
        "scan_s_per_mb": max(0.0, whole_s - learn_s * size) / size,
        "learn_s_per_mb": learn_s,
        "tokenize_s_per_mb": tokenize_s / size,
        "page_bytes_per_text": pages / corpus.stats["bytes"],
        "packed": packed / pages,
        **ratios({"corpus": corpus, "clean": cleaned, "dedup": kept, "tokens": tokens}),
        **_of_documents(kept),
    }


def _unpacked(path: Path) -> int:
    """Bytes of a WARC file once unpacked."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path.stat().st_size
    with gzip.open(path) as unpacked:
        return sum(len(chunk) for chunk in iter(lambda: unpacked.read(1 << 20), b""))


def timed(work: Callable[[], Result]) -> tuple[Result, float]:
    """What `work` returns, and the CPU seconds that this process and its ended children took for it."""
    before = _cpu_s()
    result = work()
    return result, _cpu_s() - before


def _cpu_s() -> float:
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def ratios(made: dict[str, Manifest]) -> dict[str, float]:
    """What stays at each stage and how it is stored. made: manifests of one corpus, by kind; any may be absent."""
    found = {}
    for kind, name in (("corpus", "collected"), ("clean", "cleaned"), ("dedup", "kept")):
        if kind in made:
            stats, files = made[kind].stats, made[kind].files
            stored = sum(entry.bytes for entry in files if not entry.path.startswith(INDEX))
            found[f"{name}_document_bytes"] = stats["bytes"] / stats["documents"]
            found[f"{name}_stored"] = stored / stats["bytes"]
            if "bytes_read" in stats:
                found[f"{kind}_survival"] = stats["bytes"] / stats["bytes_read"]
    if "dedup" in made:
        index = sum(entry.bytes for entry in made["dedup"].files if entry.path.startswith(INDEX))
        found["index_document_bytes"] = index / made["dedup"].stats["documents"]
    if "tokens" in made:
        found["bytes_per_token"] = made["tokens"].stats["bytes"] / made["tokens"].stats["tokens"]
        found["vocab_size"] = made["tokens"].stats["vocab_size"]
    return found


def _of_documents(kept: Manifest) -> dict[str, float]:
    """Of the documents that stay: the log-normal law of their sizes, and the bytes of their shingles."""
    import polars as pl

    paths = sorted(fetch(kept.uri).glob(f"{INDEX}*.parquet"))
    frame = pl.concat([pl.read_parquet(path, columns=["bytes", "shingles"]) for path in paths])
    sizes, shingles = frame["bytes"].to_numpy(), frame["shingles"].to_numpy()
    logs = np.log(np.maximum(1, sizes))
    return {
        "size_mu": float(logs.mean()),
        "size_sigma": float(logs.std()),
        "shingles_per_text": float(8 * shingles.sum() / sizes.sum()),
    }


if __name__ == "__main__":
    print(json.dumps(measure(float(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(os.environ["MANTUS_CACHE"]))))
