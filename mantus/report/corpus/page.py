"""The sections on a corpus, and the files that go with them: for a page of its own, or folded into a run's.

It knows the order of the sections, not what is in them.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from html import escape
from typing import Any

from mantus.report.corpus import clusters, content, rejects, waterfall
from mantus.report.corpus.croissant import About, croissant
from mantus.report.corpus.facts import Chain, Found, Survey, chain, survey
from mantus.report.corpus.provenance import licences, provenance, record
from mantus.report.sections import card, megabytes, short

DATA = {"corpus", "clean", "dedup", "tokenizer", "tokens", "chatdata", "tooldata"}
"""Kinds of artifacts without a model in them."""
Sections = list[tuple[str, str, str]]
"""(anchor, title, HTML) of each section."""
NOTE = "What was collected, what is left and why the rest is not, and where every document came from."
REJECTS = (
    "A few documents for each reason, chosen by their ids, with the signal that decided. Personal data is replaced; "
    "nothing is shown of what was taken down."
)
DENSITY = "By source over all shards; by language on the beginnings of a few documents."
PROVENANCE = "Everything is named by the digest of its bytes, its code, its settings and what it was made from."


@dataclass(frozen=True, slots=True)
class Corpus:
    """A chain of data artifacts and what was counted in it."""

    made: Chain
    counted: Survey


def look(found: Found) -> Corpus | None:
    """Read what there is to say about the last corpus; None where there is none or it has no documents."""
    made = chain(found)
    counted = survey(made.final) if made and any(made.final.folder.glob("part-*.parquet")) else None
    return Corpus(made, counted) if made and counted else None


def sections(corpus: Corpus, samples: int) -> Sections:
    """Every section that has something to show; `samples` documents for each reason of a drop."""
    made, counted = corpus.made, corpus.counted
    drawn: list[tuple[str, str, str, Callable[[], str]]] = [
        ("steps", "Step by step", "Every reason for a drop.", lambda: waterfall.waterfall(made)),
        ("rejects", "What was dropped", REJECTS, lambda: rejects.rejects(made, samples)),
        ("copies", "Copies", "Of a cluster one document stays.", lambda: clusters.clusters(made, counted)),
        ("languages", "Languages", "", lambda: content.languages(made, counted)),
        ("licences", "Licences", "", lambda: content.licences(made, counted)),
        ("lengths", "Lengths", "", lambda: content.lengths(made, counted)),
        ("density", "Bytes per token", DENSITY, lambda: content.density(made, counted)),
        ("evaluation-sets", "Evaluation sets", "", lambda: content.contamination(made)),
        ("provenance", "Provenance", PROVENANCE, lambda: provenance(made, counted)),
    ]
    bodies = ((anchor, title, note, draw()) for anchor, title, note, draw in drawn)
    return [(anchor, title, card(title, body, note, True, anchor)) for anchor, title, note, body in bodies if body]


def cards(shown: Sections) -> str:
    """The sections one after the other."""
    return "".join(html for _, _, html in shown)


def fold(shown: Sections) -> str:
    """The sections behind one line, for a page that shows more than a corpus."""
    return f'<details class="wide fold"><summary>The corpus in detail</summary>{cards(shown)}</details>'


def head(corpus: Corpus, shown: Sections) -> str:
    """The figures of a corpus, and links to its sections."""
    links = "".join(f'<a href="#{anchor}">{escape(title)}</a>' for anchor, title, _ in shown)
    return f'{_tiles(corpus)}<nav aria-label="Sections">{links}</nav>'


def _tiles(corpus: Corpus) -> str:
    made, counted = corpus.made, corpus.counted
    found = list(waterfall.steps(made))
    left, first = sum(part.bytes for part in counted.parts), found[0].bytes
    figures = [
        (short(sum(part.documents for part in counted.parts)), "documents"),
        (megabytes(left), "of text"),
        *([(f"{left / first:.1%}", "of the bytes that were collected")] if first else []),
    ]
    if tokens := made.made.get("tokens"):
        stats = tokens.manifest.stats
        figures += [(short(stats["tokens"]), "tokens"), (f"{stats['bytes'] / stats['tokens']:.2f}", "bytes per token")]
    sources, names = counted.groups["source"].n_unique(), counted.groups["license"].n_unique()
    figures.append((f"{sources:,} / {names:,}", "sources / licences"))
    tiles = (f'<div class="tile"><b>{escape(value)}</b><span>{escape(name)}</span></div>' for value, name in figures)
    return f'<div class="tiles">{"".join(tiles)}</div>'


def files(corpus: Corpus, about: About, store: str) -> dict[str, str]:
    """The files beside the page: name -> JSON."""
    made, counted = corpus.made, corpus.counted
    contents: dict[str, Any] = {
        "croissant.json": croissant(made, counted, about, store),
        "licenses.json": licences(counted),
        "provenance.json": record(made, counted),
    }
    return {name: json.dumps(value, indent=1) + "\n" for name, value in contents.items()}
