"""What the benchmarks of training read: token shards of sources installed here, and losses of a finished phase.

It knows the data phases by their configs; nothing is fetched.
"""

import json
import math
import subprocess
import sys
from itertools import islice
from pathlib import Path
from typing import Any

from mantus.data.shards import TokenShards
from mantus.launch.figures import Figure, record, table
from mantus.storage import fetch
from mantus.text.tokenizer import Tokenizer

PACKAGES = ["transformers", "torch", "pydantic", "httpx", "jinja2", "rich", "boto3", "requests", "pygments", "datasets"]
HELDOUT_TOKENS = 32_768
"""Of these the loop measures its held-out loss (objective.py), from the first on."""


def inputs(store: str, megabytes: float, vocab_size: int) -> dict[str, str]:
    """URIs of store, tokenizer and tokens: Python sources of up to so many MB, made by the phases themselves."""
    from mantus.data import clean, collect, tokenize, vocabulary
    from mantus.data.dedup import run as dedup
    from mantus.data.sources.source import Source

    each = megabytes / len(PACKAGES)
    sources = tuple(Source(type="code", name=name, packages=(name,), max_mb=4 * each) for name in PACKAGES)
    corpus = collect.run(collect.CollectConfig(store=store, sources=sources))
    cleaned = clean.run(clean.CleanConfig(store=store, corpus=corpus.uri))
    kept = dedup.run(dedup.DedupConfig(store=store, corpus=cleaned.uri))
    learn = {"store": store, "corpus": kept.uri, "vocab_size": vocab_size, "sample_mb": min(8.0, megabytes)}
    tokenizer = vocabulary.run(vocabulary.TokenizerConfig(**learn))
    made = tokenize.run(tokenize.TokenizeConfig(store=store, corpus=kept.uri, tokenizer=tokenizer.uri))
    print(f"{made.stats['tokens']:,} tokens of {kept.stats['bytes'] / 1e6:.0f} MB", file=sys.stderr)
    return {"store": store, "tokenizer": tokenizer.uri, "tokens": made.uri}


def pretrain(settings: dict[str, Any]) -> dict[str, Any]:
    """Run the phase in a process of its own: its stats and URI, `{"uri", "stats"}`. RuntimeError when it fails."""
    program = "import json, sys; from mantus.training.pretrain import *; "
    program += "made = run(PretrainConfig.model_validate_json(sys.argv[1])); "
    program += "print(json.dumps({'uri': made.uri, 'stats': made.stats}))"
    command = [sys.executable, "-c", program, json.dumps(settings)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise RuntimeError(f"pretraining failed (exit {done.returncode}); what it wrote is above")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def history(uri: str) -> list[dict[str, Any]]:
    """Rows of losses, training and held out."""
    return [json.loads(line) for line in (fetch(uri) / "history.jsonl").read_text().splitlines()]


def losses(uri: str, name: str = "loss") -> dict[int, float]:
    """Step -> loss, or `heldout_loss`."""
    return {row["step"]: row[name] for row in history(uri) if name in row}


def bytes_per_token(made: dict[str, str]) -> float:
    """Of the held-out tokens on which losses are measured."""
    tokens = TokenShards.open(fetch(made["tokens"]) / "heldout").all_tokens()
    chosen = [int(token) for token in islice(tokens, HELDOUT_TOKENS)]
    text = Tokenizer.load(fetch(made["tokenizer"])).decode(chosen)
    return len(text.replace("<|endoftext|>", "").encode()) / len(chosen)


def bits_per_byte(loss: float, token_bytes: float) -> float:
    """From nats a token."""
    return loss / math.log(2) / token_bytes


def store_figures(figures: list[Figure], out: Path | None, name: str) -> None:
    """Print figures, and merge them into `out`/`name`.json where a folder is given."""
    print("\n" + table([figure.row() for figure in figures]))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        record(out / f"{name}.json", figures)
