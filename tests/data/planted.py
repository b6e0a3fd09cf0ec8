"""Corpora for the tests of dedup: texts of invented words, copies with known changes, similarity by plain sets."""

import random
import re
from pathlib import Path
from typing import Any

import polars as pl

from mantus.data.corpus import Row, document_id, part_paths, write_rows
from mantus.data.dedup.run import DedupConfig, run
from mantus.storage import Manifest, PhaseConfig, execute

VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "l")]


class Made(PhaseConfig):
    name: str


def prose(chance: random.Random, num_words: int = 300) -> list[str]:
    return chance.choices(VOCABULARY, k=num_words)


def edited(words: list[str], share: float, chance: random.Random) -> list[str]:
    """About this share of the words replaced, each on its own."""
    return [chance.choice(VOCABULARY) if chance.random() < share else word for word in words]


def similarity(left: str, right: str, size: int = 5) -> float:
    """Jaccard similarity of the sets of runs of words."""
    sets = []
    for text in (left, right):
        words = re.findall(r"\w+", text.lower())
        sets.append({tuple(words[i : i + size]) for i in range(max(1, len(words) - size + 1))} if words else set())
    return len(sets[0] & sets[1]) / len(sets[0] | sets[1])


def corpus(
    store: Path, texts: list[str], form: str = "prose", name: str = "x", url: str = "u", parts: int = 2
) -> Manifest:
    """An artifact of kind clean in so many parts; documents are named u0, u1, ..., sources a and b by turns."""

    def produce(work: Any) -> dict[str, int]:
        rows = [Row(document_id(t), t, "ab"[n % 2], f"{url}{n}", "MIT", "en", "", form) for n, t in enumerate(texts)]
        size = -(-len(rows) // parts) or 1
        for number, start in enumerate(range(0, len(rows), size)):
            write_rows(rows[start : start + size], work.out / "new")
            (work.out / "new" / "part-00000.parquet").rename(work.out / f"part-{number * 7:05d}.parquet")
        if (work.out / "new").is_dir():
            (work.out / "new").rmdir()
        return {"bytes": sum(map(len, texts))}

    return execute("clean", Made(store=store.as_uri(), name=name), produce)


def dedup(
    tmp_path: Path,
    texts: list[str],
    form: str = "prose",
    name: str = "x",
    url: str = "u",
    parts: int = 2,
    **fields: Any,
) -> tuple[Manifest, Path]:
    """Dedup's manifest and folder."""
    made = corpus(tmp_path / "store", texts, form, name, url, parts)
    manifest = run(DedupConfig(store=(tmp_path / "store").as_uri(), corpus=made.uri, **fields))
    return manifest, Path(manifest.uri.removeprefix("file://"))


def kept(folder: Path) -> pl.DataFrame:
    return pl.concat(pl.read_parquet(path) for path in part_paths(folder))


def kept_urls(folder: Path) -> list[str]:
    return sorted(kept(folder)["url"])


def ledger(folder: Path) -> dict[str, tuple[Any, ...]]:
    """url -> (reason, rule, survivor)."""
    rows = pl.read_parquet(folder / "ledger.parquet").select("url", "reason", "rule", "survivor").rows()
    return {row[0]: row[1:] for row in rows}


def nowhere(folder: Path, text: str) -> bool:
    """True when no file of an artifact has the text, in a column or in its bytes."""
    for path in sorted(file for file in folder.rglob("*") if file.is_file()):
        if text.encode() in path.read_bytes():
            return False
        if path.suffix == ".parquet":
            frame = pl.read_parquet(path).select(pl.col(pl.String))
            if any(frame[name].str.contains(text, literal=True).any() for name in frame.columns):
                return False
    return True
