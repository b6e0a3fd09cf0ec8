"""Find passages of a corpus by BM25, in an index that index.py has made.

It does not know how the corpus was collected nor how the index is stored elsewhere.
"""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mantus.agent.tools import ToolError, tool

WORD = r"[\p{L}\p{N}]+"
"""What counts as a word, for the index and for queries (in the syntax of polars' regular expressions)."""

RESULT_CHARS = 300
MAX_TERMS = 32


@dataclass(frozen=True, slots=True)
class Passage:
    """One hit: the document's title and address, the passage's text, its BM25 score."""

    title: str
    url: str
    text: str
    score: float


@tool(effects=["reads"], timeout_s=20.0)
def search(query: str, *, index: str, num_results: int = 1, result_chars: int = RESULT_CHARS) -> str:
    """Search the local document index."""
    found = find(Path(index), query, num_results)
    if not found:
        raise ToolError("nothing found")
    each = max(result_chars // len(found), 80)
    return "\n".join(shorten(passage, query, each) for passage in found)


def find(index: Path, query: str, num_results: int) -> list[Passage]:
    """The best passages for a query, best first; equal scores in the order of the corpus."""
    import polars

    terms = words(query)[:MAX_TERMS]
    postings = polars.scan_parquet(index / "postings.parquet").filter(polars.col("term").is_in(terms)).collect()
    best = (
        postings.sort("term")
        .select("passages", "weights")
        .explode("passages", "weights")
        .group_by("passages", maintain_order=True)
        .agg(polars.col("weights").sum())
        .sort(["weights", "passages"], descending=[True, False])
        .head(num_results)
    )
    passages = (
        polars.scan_parquet(index / "passages.parquet")
        .filter(polars.col("passage").is_in(best["passages"].to_list()))
        .collect()
    )
    rows: list[dict[str, Any]] = best.join(
        passages, left_on="passages", right_on="passage", maintain_order="left"
    ).to_dicts()
    return [Passage(row["title"], row["url"], row["text"], round(row["weights"], 4)) for row in rows]


def words(text: str) -> list[str]:
    """The distinct words of a query, lower case, in order."""
    return list(dict.fromkeys(re.findall(r"[^\W_]+", text.lower())))


def shorten(passage: Passage, query: str, limit: int) -> str:
    """Title and the part of the text around the query's words, in at most `limit` characters.

    A small model has a small context: the sentence with the most of the query's words is worth more than the start.
    """
    head = f"{passage.title}: " if passage.title and not passage.text.startswith(passage.title) else ""
    room = max(limit - len(head), 40)
    text = passage.text
    if len(text) > room:
        text = _best_window(text, set(words(query)), room)
    return (head + text)[:limit]


def _best_window(text: str, wanted: set[str], room: int) -> str:
    """The stretch of whole words that starts at a sentence and holds the most of the wanted words."""
    starts = [0, *(match.end() for match in re.finditer(r"[.!?]\s+", text))]
    windows = [text[start : start + room] for start in starts if start == 0 or start + room // 3 < len(text)]
    best = max(windows, key=lambda window: len(wanted & set(words(window))))
    return best.rsplit(" ", 1)[0] if len(best) == room else best
