"""Evaluations side by side: one self-contained page, and the same table as text.

It knows results files, not how they came about. A difference is marked where the two 95 % intervals do not touch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

from mantus.report.run import document
from mantus.storage import fetch

Scores = dict[str, dict[str, Any]]
NOTE = "Values with their 95 % intervals; green and red where an interval does not touch that of the first run."


@dataclass(frozen=True, slots=True)
class Run:
    """One evaluation: its name, and `task.metric` -> row of its results file."""

    name: str
    scores: Scores


def read_run(word: str) -> Run:
    """`[NAME=]place`, the place an evaluation's URI, a folder with results.json, or that file.

    ValueError names a place without results.
    """
    head, sign, tail = word.partition("=")
    name, place = (head, tail) if sign and "/" not in head else (word.rstrip("/").rpartition("/")[2][:12], word)
    path = fetch(place) if "://" in place else Path(place)
    file = path / "results.json" if path.is_dir() else path
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))["results"]
        return Run(name, {f"{row['task']}.{row['metric']}": row for row in rows})
    except (OSError, ValueError, KeyError, TypeError):
        raise ValueError(f"compare: {place}: no results of an evaluation") from None


def verdict(row: dict[str, Any], first: dict[str, Any]) -> str:
    """`good` or `bad` where a value surely differs from the first run's, else ''."""
    if row["low"] > first["high"]:
        return "good" if row["higher_is_better"] else "bad"
    if row["high"] < first["low"]:
        return "bad" if row["higher_is_better"] else "good"
    return ""


def _names(runs: Sequence[Run]) -> list[str]:
    return list(dict.fromkeys(name for run in runs for name in run.scores))


def _cell(row: dict[str, Any] | None) -> str:
    if row is None:
        return "-"
    scale = 100 if row["higher_is_better"] and row["low"] >= 0 and row["high"] <= 1 else 1
    value, low, high = (scale * row[key] for key in ("value", "low", "high"))
    return f"{value:.4g} ({low:.4g} to {high:.4g})"


def text(runs: Sequence[Run]) -> str:
    """The table as aligned text."""
    lines = [["", *(run.name for run in runs)]]
    lines += [[name, *(_cell(run.scores.get(name)) for run in runs)] for name in _names(runs)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(runs) + 1)]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def compare(runs: Sequence[Run], title: str = "Evaluations side by side") -> str:
    """The page."""
    head = "".join(f'<th class="n">{escape(run.name)}</th>' for run in runs)
    body = "".join(_row(name, runs) for name in _names(runs))
    table = (
        f'<div class="scroll" tabindex="0"><table><tr><th>score</th><th class="n">n</th>{head}</tr>{body}</table></div>'
    )
    return document(title, NOTE, f"<section>{table}</section>")


def _row(name: str, runs: Sequence[Run]) -> str:
    first = next(run.scores[name] for run in runs if name in run.scores)
    cells = []
    for index, run in enumerate(runs):
        row = run.scores.get(name)
        mark = verdict(row, first) if index and row and name in runs[0].scores else ""
        cells.append(f'<td class="n {mark}">{escape(_cell(row))}{_bar(row)}</td>')
    return f'<tr><td>{escape(name)}</td><td class="n">{first["num"]}</td>{"".join(cells)}</tr>'


def _bar(row: dict[str, Any] | None) -> str:
    """The interval of a share, drawn from 0 to 1."""
    if row is None or not (row["low"] >= 0 and row["high"] <= 1):
        return ""
    low, high, value = (100 * row[key] for key in ("low", "high", "value"))
    return (
        '<svg viewBox="0 0 100 6" preserveAspectRatio="none" style="height:6px;min-width:0" aria-hidden="true">'
        f'<line class="grid" x1="0" x2="100" y1="3" y2="3"/>'
        f'<line class="c0" x1="{low:.1f}" x2="{high:.1f}" y1="3" y2="3" stroke-width="3"/>'
        f'<rect class="f1" x="{max(0.0, value - 0.7):.1f}" y="0" width="1.4" height="6"/></svg>'
    )
