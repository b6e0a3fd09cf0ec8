"""Tokenize: a corpus as shuffled token shards, with whole documents held out.

It does not know what the tokens are for; the shard format is in shards.py. Two passes: each document is encoded into
the bucket of its place, the high bits of its hash; then each bucket is put into the order of the hashes and written.
"""

from typing import Any

from pydantic import Field

from mantus import console
from mantus.data.corpus import part_paths
from mantus.data.shards import SHARD_TOKENS
from mantus.data.tokens.buckets import COUNTS, Group, encode, groups, num_buckets
from mantus.data.tokens.census import Bound, threshold, trained
from mantus.data.tokens.mixture import Weights, epochs, reached, shares
from mantus.data.tokens.shuffle import Shuffle
from mantus.data.tokens.split import Split, stats, total
from mantus.processes import apply_all, num_processors
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute
from mantus.storage.phase import RUNTIME
from mantus.storage.share import gather, share
from mantus.text.tokenizer import Tokenizer

GROUPS_A_WORKER = 4
"""With less to do a process is not worth its start."""


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
    weights: Weights = Field(default_factory=dict)
    """Shares of the training tokens by name of source, in any unit; 0 leaves a source out, empty takes all once."""
    max_epochs: float = Field(default=4.0, gt=0)
    """With `weights`: how often a source is seen at most; one that is too small for its share says so in the stats."""
    seed: int = 0
    """Of the global shuffle of documents."""
    shard_tokens: int = Field(default=SHARD_TOKENS, ge=1)
    """Tokens in a shard before the next one begins."""
    workers: int = Field(default=0, ge=0, json_schema_extra=RUNTIME)
    """Processes that encode at once (0 = one a processor, fewer for little text); each needs the memory of one part."""

    @property
    def bound(self) -> Bound:
        """What is held out."""
        return Bound(self.heldout_fraction, self.min_heldout)


def run(config: TokenizeConfig) -> Manifest:
    """Make the token shards, or find them.

    ValueError when the corpus is too small to hold anything out, or `weights` do not fit its sources.
    """
    return execute("tokens", config, lambda work: _produce(work, config))


def _produce(work: Work, config: TokenizeConfig) -> dict[str, Any]:
    import polars as pl

    if not (parts := part_paths(work.inputs["corpus"])):
        raise ValueError(f"corpus: {work.manifests['corpus'].uri}: has no documents; name a corpus that dedup made")
    size = work.manifests["corpus"].stats["bytes"]
    buckets, found = num_buckets(size), groups(parts, size, work.scratch)
    _encode(work, found, config, buckets)
    folders = [group.folder for group in found]
    gather(work, folders)
    counts = pl.concat([pl.read_parquet(folder / COUNTS) for folder in folders])
    limit, everything = threshold(counts, config.bound), stats(counts)
    if not (kept := trained(counts, limit)).height:
        num = everything["documents"]
        raise ValueError(f"corpus: {num} documents are too few to hold out {num} of them")
    had = dict(total(kept).select("source", "tokens").iter_rows())
    wanted = shares(config.weights, list(everything["sources"])) if config.weights else {}
    shuffle = Shuffle(tuple(folders), buckets, limit, epochs(wanted, had, config.max_epochs))
    if wanted:
        shuffle = shuffle.repeat(work.scratch / "repeats")
    vocab_size = Tokenizer.load(work.inputs["tokenizer"]).vocab_size
    splits = {name: Split(work.out / name, vocab_size, config.shard_tokens) for name in ("train", "heldout")}
    with splits["train"] as train, splits["heldout"] as heldout:
        shuffle.write(train, heldout)
    written = {name: split.stats() for name, split in splits.items()}
    if not written["train"]["documents"]:
        raise ValueError("weights: no document is left to train on")
    return {
        **everything,
        "bytes_per_token": round(everything["bytes"] / everything["tokens"], 4),
        "vocab_size": vocab_size,
        "tokenizer": work.manifests["tokenizer"].key,
        **({"mixture": reached(wanted, config.max_epochs, had, written["train"]["sources"])} if wanted else {}),
        **written,
    }


def _encode(work: Work, found: list[Group], config: TokenizeConfig, buckets: int) -> None:
    """The first pass, of this process's share."""
    tokenizer = work.inputs["tokenizer"]
    tasks = [(found[n], tokenizer, config.seed, buckets, config.bound) for n in share(len(found), work)]
    with console.progress("tokenize", work.manifests["corpus"].stats["bytes"] / 1e6, "MB") as bar:
        workers = config.workers or min(num_processors(), len(tasks) // GROUPS_A_WORKER)
        for megabytes in apply_all(encode, tasks, workers, "tokenize"):
            bar.advance(megabytes)
