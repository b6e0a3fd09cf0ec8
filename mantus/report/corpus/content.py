"""What is left: languages, licences, lengths, bytes per token, and what evaluation sets have in it.

It knows the survey, the stats of the shards and the report on contamination, not how they were made.
"""

import json
from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from mantus.report.corpus.excerpt import harmless
from mantus.report.corpus.facts import Chain, Survey, rows
from mantus.report.corpus.waterfall import COLOURS, by_source, coloured, colours, palette
from mantus.report.plots import Strip, strips
from mantus.report.sections import megabytes, table

SHOWN = 20
"""Languages and licences with a bar of their own."""
ENCODED = 8192
"""Characters of a document that its bytes per token are measured on."""
OTHERS = "others"


def languages(made: Chain, counted: Survey) -> str:
    """A bar for each language, coloured by source."""
    return colours(made) + _grouped("language", "Languages", made, counted)


def licences(made: Chain, counted: Survey) -> str:
    """A bar for each licence, coloured by source."""
    return colours(made) + _grouped("license", "Licences", made, counted)


def _grouped(column: str, title: str, made: Chain, counted: Survey) -> str:
    import polars as pl

    both = pl.col("documents", "bytes").sum()
    totals = counted.groups.group_by(column).agg(both).sort("bytes", column, descending=[True, False])
    names = totals[column].head(SHOWN).to_list()
    label = pl.when(pl.col(column).is_in(names)).then(column).otherwise(pl.lit(OTHERS))
    mixed = counted.groups.group_by(label.alias("label"), "source").agg(both)
    whole, shown = max(1, totals["bytes"].sum()), []
    for name in [*names, *([OTHERS] if totals.height > len(names) else [])]:
        own = mixed.filter(pl.col("label") == name)
        size = int(own["bytes"].sum())
        parts = coloured(dict(own.select("source", "bytes").iter_rows()), palette(made), megabytes)
        cells = (f"{own['documents'].sum():,}", megabytes(size), f"{size / whole:.1%}")
        shown.append(Strip(harmless(name, 60), parts, cells))
    return strips(f"{title} by bytes of text", (column.replace("license", "licence"), "documents", "size", ""), shown)


def lengths(made: Chain, counted: Survey) -> str:
    """How many documents have how many bytes, in doubling ranges."""
    by_length: dict[int, dict[str, float]] = {}
    for length, source, documents in counted.lengths.sort("length", "source").iter_rows():
        by_length.setdefault(length, {})[source] = documents
    shown = []
    for length in range(min(by_length), max(by_length) + 1):
        sizes = by_length.get(length, {})
        parts = coloured(sizes, palette(made), "{:,.0f}".format)
        shown.append(Strip(f"{_binary(length)} to {_binary(length + 1)}", parts, (f"{int(sum(sizes.values())):,}",)))
    return colours(made) + strips("Documents by length", ("bytes of text", "documents"), shown)


def _binary(power: int) -> str:
    """2^power with a binary prefix."""
    return f"{1 << power % 10} {('', 'Ki', 'Mi', 'Gi', 'Ti')[power // 10]}".strip()


def density(made: Chain, counted: Survey) -> str:
    """Bytes per token: of each source as the shards have it, of each language as a sample has it."""
    body = ""
    if "tokens" in made.made:
        stats = made.made["tokens"].manifest.stats
        entries = [(name, entry) for name, entry in by_source(stats).items() if entry.get("tokens")]
        body += strips(
            "Bytes per token by source",
            ("source", "documents", "tokens", "bytes per token"),
            [_density(harmless(name, 40), entry, palette(made).get(name, COLOURS)) for name, entry in entries],
        )
    if "tokenizer" in made.made:
        body += strips(
            "Bytes per token by language",
            ("language", "documents measured", "tokens", "bytes per token"),
            [_density(harmless(name, 60), entry, 0) for name, entry in _by_language(made, counted)],
        )
    return body


def _density(name: str, entry: Mapping[str, int], colour: int) -> Strip:
    value = entry["bytes"] / entry["tokens"]
    cells = (f"{entry['documents']:,}", f"{entry['tokens']:,}", f"{value:.3f}")
    return Strip(name, [(colour, value, f"{value:.3f} bytes per token")], cells)


def _by_language(made: Chain, counted: Survey) -> Iterator[tuple[str, dict[str, int]]]:
    """The SHOWN languages with most text: documents, bytes and tokens of their samples."""
    import polars as pl

    from mantus.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(made.made["tokenizer"].folder)
    totals = counted.groups.group_by("language").agg(pl.col("bytes").sum())
    names = totals.sort("bytes", "language", descending=[True, False])["language"].head(SHOWN).to_list()
    sample = counted.sample.filter(pl.col("language").is_in(names))
    found = rows(made.final, set(sample["id"]))
    for name in names:
        ids = sample.filter(pl.col("language") == name)["id"].sort()
        texts = [found[identity]["text"][:ENCODED] for identity in ids]
        num_tokens = sum(map(len, tokenizer.encode_batch(texts)))
        if num_tokens:
            size = sum(len(text.encode()) for text in texts)
            yield name, {"documents": len(texts), "bytes": size, "tokens": num_tokens}


def contamination(made: Chain) -> str:
    """What is in the corpus of each evaluation set that was looked for; nothing where none was."""
    path = made.made["dedup"].folder / "contamination.json" if "dedup" in made.made else Path()
    if not path.is_file():
        return ""
    report = json.loads(path.read_bytes())
    config = made.made["dedup"].manifest.config
    drops = config.get("contaminated") == "drop"
    head = ("set", "rows", "too short", "found", "share", "runs of words", "documents")
    body = [
        (
            *(harmless(name, 60), found["rows"], found["rows_too_short"], found["rows_found"]),
            *(f"{found['share']:.2%}", f"{found['runs_found']:,} of {found['runs']:,}", found["documents"]),
        )
        for name, found in sorted(report.items())
    ]
    note = f"A row is found when a document has {config.get('evaluation_ngram')} words of it in a row. " + (
        "These documents were dropped." if drops else f"At most {config.get('max_contaminated', 1):.2%} may be found."
    )
    samples = "".join(_samples(name, found["samples"]) for name, found in sorted(report.items()) if found["samples"])
    return f"<p>{note}</p>{table(head, body)}{samples}"


def _samples(name: str, samples: list[Mapping[str, Any]]) -> str:
    body = [
        (harmless(row["row"], 80), f"{row['share']:.1%}", harmless(row["url"]), harmless(row["words"]))
        for row in samples
    ]
    shown = table(("row", "share of its runs", "in", "words"), body, wrap=True)
    return (
        f"<details><summary>{escape(harmless(name, 60))}: the rows of which most was found</summary>{shown}</details>"
    )
