"""Make the search index of a corpus: passages and their BM25 postings, two parquet files, made once for each corpus.

It knows documents as rows of text; it does not know queries (search.py).
"""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mantus import console
from mantus.agent.builtin.search import WORD
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute

if TYPE_CHECKING:
    import polars

K1, B = 1.2, 0.75
"""BM25's saturation and length normalisation (Robertson and Zaragoza, 2009)."""


class IndexConfig(PhaseConfig):
    """What the index covers."""

    corpus: ArtifactURI
    """The corpus to search."""
    passage_words: int = 80
    """Words of one passage."""
    max_mb: int = 128
    """Megabytes of text that the index covers; documents beyond that are left out and counted."""


def run(config: IndexConfig) -> Manifest:
    """The index of a corpus, found or made."""

    def produce(work: Work) -> dict[str, Any]:
        documents, left_out = _documents(work.inputs["corpus"], config.max_mb * 1_000_000)
        build(documents, work.out, config.passage_words)
        return {"documents": documents.height, "left_out": left_out}

    return execute("index", config, produce)


def _documents(corpus: Path, max_bytes: int) -> tuple["polars.DataFrame", int]:
    """Columns title, url, text of as many documents as fit, and how many did not."""
    import polars

    rows = polars.scan_parquet(sorted(corpus.glob("part-*.parquet"))).select("text", "url").collect()
    fits = rows.filter(polars.col("text").str.len_bytes().cum_sum() <= max_bytes)
    titled = fits.select(title(), polars.col("url").fill_null(""), "text")
    return titled, rows.height - fits.height


def title() -> "polars.Expr":
    """A document's title: its first line, at most 80 characters."""
    import polars

    first = polars.col("text").str.strip_chars().str.splitn("\n", 2).struct.field("field_0")
    return first.str.strip_chars("#= \t").str.slice(0, 80).alias("title")


def build(documents: "polars.DataFrame", out: Path, passage_words: int = 80) -> None:
    """Write `passages.parquet` (passage, title, url, text) and `postings.parquet` (term, passages, weights).

    documents: columns title, url, text. Weights are final BM25 weights, so that a query only adds them up.
    """
    import polars

    with console.progress("index", documents.height, "documents") as counter:
        parts = []
        for batch in documents.iter_slices(2000):
            parts.append(_split(batch, passage_words))
            counter.advance(batch.height)
        passages = polars.concat(parts).with_row_index("passage")
        passages.write_parquet(out / "passages.parquet", compression="zstd", row_group_size=4096)
        _weigh(list(_count(passages))).write_parquet(out / "postings.parquet", compression="zstd", row_group_size=16384)


def _split(documents: "polars.DataFrame", passage_words: int) -> "polars.DataFrame":
    """Cut texts into passages of whole words."""
    import polars

    pattern = rf"\S+(?:\s+\S+){{0,{passage_words - 1}}}"
    cut = polars.col("text").str.extract_all(pattern)
    return (
        documents.with_columns(cut)
        .explode("text", empty_as_null=False)
        .with_columns(polars.col("text").str.replace_all(r"\s+", " "))
    )


def _count(passages: "polars.DataFrame") -> Iterator["polars.DataFrame"]:
    """For batches of passages: term, passage, count, and the passage's length; the title counts as text."""
    import polars

    both = polars.concat_str("title", "text", separator=" ").str.to_lowercase()
    for batch in passages.iter_slices(20_000):
        terms = batch.lazy().select("passage", both.str.extract_all(WORD).alias("term"))
        long = terms.with_columns(polars.col("term").list.len().alias("length")).explode("term").drop_nulls()
        yield long.group_by("term", "passage", "length").agg(polars.len().alias("count")).collect()


def _weigh(counts: list["polars.DataFrame"]) -> "polars.DataFrame":
    """Counts -> one row a term, in term order, with its passages and their BM25 weights."""
    import polars

    rows = polars.concat(counts)
    lengths = rows.select("passage", "length").unique()["length"]
    num, mean = lengths.len(), float(lengths.sum()) / max(lengths.len(), 1)
    count, holders = polars.col("count").cast(polars.Float64), polars.len().over("term")
    rarity = ((num - holders + 0.5) / (holders + 0.5) + 1).log()
    saturated = count * (K1 + 1) / (count + K1 * (1 - B + B * polars.col("length") / mean))
    weighed = rows.sort("term", "passage").select(
        "term", "passage", (rarity * saturated).cast(polars.Float32).alias("weight")
    )
    return weighed.group_by("term", maintain_order=True).agg(
        polars.col("passage").alias("passages"), polars.col("weight").alias("weights")
    )
