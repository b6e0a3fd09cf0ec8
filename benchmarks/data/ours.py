"""Mantus on the measured corpus: the commands a user would type, each a process of its own, with a store that is empty.

It knows Mantus by its command line and its artifacts, and nothing of what is compared with it.
"""

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.data.measure import Cost, measured
from mantus.data.corpus import part_paths

RULES = ("gopher", "c4", "fineweb")
"""What datatrove filters by in the run from end to end."""


class Mantus:
    """Phases with a store and a cache of their own; what they cost."""

    def __init__(self, folder: Path, workers: int) -> None:
        self.folder, self.workers = folder, workers

    def phase(self, verb: str, name: str = "", **fields: Any) -> tuple[Cost, dict[str, Any]]:
        """Run a phase; its cost, and uri and stats of what it made. RuntimeError when it found it instead."""
        given = [f"--{key.replace('_', '-')}={_plain(value)}" for key, value in fields.items()]
        store, log = self.folder / "store", self.folder / f"{name or verb}.log"
        command = [sys.executable, "-m", "mantus.cli", verb, f"--store={store}", *given, "--json"]
        cost = measured(command, log, {"MANTUS_CACHE": str(self.folder / "cache"), **limits(self.workers)})
        made = json.loads(next(line for line in reversed(log.read_text().splitlines()) if line.startswith('{"uri"')))
        if made["cached"]:
            raise RuntimeError(f"{verb}: {made['uri']} was there before; {store} must be empty")
        return cost, made

    def collect(self, archives: Path) -> tuple[Cost, dict[str, Any]]:
        """Pages of web archives."""
        source = {"type": "warc", "path": f"{archives}/*.warc.gz", "license": "LicenseRef-web"}
        return self.phase("collect", sources=[source], workers=self.workers)

    def dedup(self, corpus: str, name: str = "", **fields: Any) -> tuple[Cost, dict[str, Any]]:
        """A corpus without its copies."""
        return self.phase("dedup", name, corpus=corpus, workers=self.workers, **fields)

    def tokenize(self, corpus: str, tokenizer: str) -> tuple[Cost, dict[str, Any]]:
        """Shuffled token shards."""
        return self.phase("tokenize", corpus=corpus, tokenizer=tokenizer, workers=self.workers)

    def end_to_end(self, archives: Path, tokenizer: str) -> dict[str, tuple[Cost, dict[str, Any]]]:
        """From web archives to token shards: each phase's cost, and what it made."""
        found = {"collect": self.collect(archives)}
        corpus = found["collect"][1]["uri"]
        found["clean"] = self.phase("clean", corpus=corpus, languages=(), rules=RULES, workers=self.workers)
        found["dedup"] = self.dedup(found["clean"][1]["uri"])
        found["tokenize"] = self.tokenize(found["dedup"][1]["uri"], tokenizer)
        return found


def limits(workers: int) -> dict[str, str]:
    """As many threads as the other side has processes."""
    names = ("POLARS_MAX_THREADS", "RAYON_NUM_THREADS", "OMP_NUM_THREADS")
    return {**dict.fromkeys(names, str(workers)), "HF_HUB_OFFLINE": "1"}


def kept(uri: str) -> set[str]:
    """What the documents of an artifact are called."""
    import polars as pl

    parts = part_paths(Path(uri.removeprefix("file://")))
    return {name for part in parts for name in pl.read_parquet(part, columns=["url"])["url"]}


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)
