"""Phase `clean`: normalise text, measure signals, drop by threshold; every drop has a reason.

It knows rules over columns, not where documents came from. Signals are computed first and thresholds applied after, so
that a report can show what another threshold would do. Words are runs of letters, digits and underscores.
"""

import re
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mantus import console
from mantus.data.corpus import part_paths, write_table
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute

if TYPE_CHECKING:
    import polars

AUDIT_EVERY = 10
CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u200b\u200e\u200f\ufeff]")
TRAILING = re.compile(r"[ \t]+$", re.MULTILINE)
BLANKS = re.compile(r"\n{3,}")
EMAIL = re.compile(r"\b[\w.+-]+@[\w-]+\.[\w.-]*\w")
ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with", "is", "in")


class CleanConfig(PhaseConfig):
    """Settings of `mantus clean`. Rules after Gopher (Rae et al., 2021) and C4 (Raffel et al., 2020)."""

    corpus: ArtifactURI
    """The corpus to clean."""
    languages: list[str] = Field(default_factory=lambda: ["en"])
    """Languages of prose to keep (ISO 639-1); empty: all."""
    min_words: int = 30
    """Prose: fewest words."""
    max_words: int = 200_000
    """Prose: most words."""
    min_mean_word: float = 2.5
    """Prose: shortest mean word, in characters."""
    max_mean_word: float = 10.0
    """Prose: longest mean word, in characters."""
    min_alpha: float = 0.6
    """Prose: smallest share of characters that are letters or spaces."""
    min_stop_words: int = 2
    """Prose: fewest different common English words; only where languages are exactly ['en']."""
    max_bullets: float = 0.9
    """Prose: largest share of lines that begin with a bullet."""
    max_ellipses: float = 0.3
    """Prose: largest share of lines that end with an ellipsis."""
    max_duplicate_lines: float = 0.5
    """Prose: largest share of characters in lines that occurred before in the document."""
    code_min_chars: int = 80
    """Code: fewest characters."""
    code_max_line: int = 1000
    """Code: longest line; longer ones are data or generated."""
    code_min_alpha: float = 0.35
    """Code: smallest share of characters that are letters or spaces."""
    scrub: bool = True
    """Replace e-mail and IP addresses in prose."""


def run(config: CleanConfig) -> Manifest:
    """Clean, or find the cleaned corpus. ValueError when nothing is left."""

    def produce(work: Work) -> dict[str, Any]:
        import polars

        parts = part_paths(work.inputs["corpus"])
        kept, rejected = [], []
        with console.progress("clean", len(parts), "parts") as bar:
            for path in parts:
                judged = judge(measure(polars.read_parquet(path), config), config)
                keep = judged.filter(polars.col("drop_reason") == "")
                write_table(keep.to_arrow(), work.out / path.name)
                kept.append(_sizes(keep))
                rejected.append(judged.filter(polars.col("drop_reason") != ""))
                bar.advance()
        drops = polars.concat(rejected)
        write_table(drops.gather_every(AUDIT_EVERY).to_arrow(), work.out / "rejects.parquet")
        return _stats(polars.concat(kept), drops)

    return execute("clean", config, produce)


def _sizes(frame: "polars.DataFrame") -> "polars.DataFrame":
    import polars

    return frame.select("source", polars.col("text").str.len_bytes().alias("bytes"))


def _stats(kept: "polars.DataFrame", drops: "polars.DataFrame") -> dict[str, Any]:
    import polars

    if kept.height == 0:
        raise ValueError("clean: the filters drop every document; loosen them")
    reasons = drops.group_by("drop_reason").agg(
        polars.len().alias("n"), polars.col("text").str.len_bytes().sum().alias("b")
    )
    dropped = {
        row["drop_reason"]: {"documents": row["n"], "bytes": row["b"]} for row in reasons.sort("drop_reason").to_dicts()
    }
    sources = kept.group_by("source").agg(polars.len().alias("n"), polars.col("bytes").sum().alias("b")).sort("source")
    return {
        "documents": kept.height,
        "bytes": int(kept["bytes"].sum()),
        "dropped": dropped,
        "sources": {row["source"]: {"documents": row["n"], "bytes": row["b"]} for row in sources.to_dicts()},
    }


def normalise(text: str, scrub: bool) -> str:
    """NFC, Unix line ends, no control characters or trailing blanks, at most one empty line in a row."""
    text = unicodedata.normalize("NFC", text.replace("\r\n", "\n").replace("\r", "\n"))
    text = BLANKS.sub("\n\n", TRAILING.sub("", CONTROL.sub("", text))).strip("\n")
    if scrub:
        text = ADDRESS.sub("192.0.2.1", EMAIL.sub("name@example.org", text))
    return text + "\n"


def measure(frame: "polars.DataFrame", config: CleanConfig) -> "polars.DataFrame":
    """Normalised text, language, and signal columns (names begin with `s_`)."""
    import polars

    texts = [
        normalise(text, config.scrub and form == "prose")
        for text, form in zip(frame["text"].to_list(), frame["form"].to_list(), strict=True)
    ]
    languages = list(_languages(texts, frame["form"].to_list(), frame["lang"].to_list()))
    frame = frame.with_columns(polars.Series("text", texts), polars.Series("lang", languages, dtype=polars.String))
    text, lines = polars.col("text"), polars.col("text").str.split("\n")
    words = text.str.count_matches(r"\w+")
    return frame.with_columns(
        text.str.len_chars().alias("s_chars"),
        words.alias("s_words"),
        (text.str.count_matches(r"\w") / words.clip(1)).alias("s_mean_word"),
        (text.str.count_matches(r"[\p{L}\s]") / text.str.len_chars().clip(1)).alias("s_alpha"),
        (text.str.count_matches(r"(?m)^\s*[-*\u2022]\s") / lines.list.len()).alias("s_bullets"),
        (text.str.count_matches(r"(?m)(\.\.\.|\u2026)$") / lines.list.len()).alias("s_ellipses"),
        lines.list.eval(polars.element().str.len_chars()).list.max().alias("s_longest_line"),
        polars.sum_horizontal(text.str.contains(rf"(?i)\b{word}\b").cast(polars.UInt32) for word in STOP_WORDS).alias(
            "s_stop_words"
        ),
        polars.Series("s_duplicate_lines", [duplicate_lines(text) for text in texts], dtype=polars.Float64),
    )


def duplicate_lines(text: str) -> float:
    """Share of characters in non-empty lines that occurred before."""
    seen: set[str] = set()
    total = repeated = 0
    for line in text.split("\n"):
        line = line.strip()
        total += len(line)
        if line in seen:
            repeated += len(line)
        seen.add(line)
    return repeated / total if total else 0.0


def _languages(texts: list[str], forms: list[str], given: list[str]) -> Iterator[str]:
    """Code keeps its suffix; prose is identified from its first 4,000 characters."""
    import eldc

    eldc.init()
    for text, form, known in zip(texts, forms, given, strict=True):
        yield known if form == "code" else eldc.detect(text[:4000])


def judge(frame: "polars.DataFrame", config: CleanConfig) -> "polars.DataFrame":
    """A `drop_reason` for every row, '' when it is kept; the first rule that fails names it."""
    import polars

    reason = polars.lit("")
    for name, fails in reversed(list(_rules(config))):
        reason = polars.when(fails).then(polars.lit(name)).otherwise(reason)
    return frame.with_columns(reason.alias("drop_reason"))


def _rules(config: CleanConfig) -> Iterator[tuple[str, "polars.Expr"]]:
    import polars

    col: Callable[[str], polars.Expr] = polars.col
    is_code = col("form") == "code"
    yield "code: too short", is_code & (col("s_chars") < config.code_min_chars)
    yield "code: long lines", is_code & (col("s_longest_line") > config.code_max_line)
    yield "code: few letters", is_code & (col("s_alpha") < config.code_min_alpha)
    prose = ~is_code
    if config.languages:
        yield "language", prose & ~col("lang").is_in(config.languages)
    yield "too few words", prose & (col("s_words") < config.min_words)
    yield "too many words", prose & (col("s_words") > config.max_words)
    yield "mean word length", prose & ~col("s_mean_word").is_between(config.min_mean_word, config.max_mean_word)
    yield "few letters", prose & (col("s_alpha") < config.min_alpha)
    if config.languages == ["en"]:
        yield "few common words", prose & (col("s_stop_words") < config.min_stop_words)
    yield "bullets", prose & (col("s_bullets") > config.max_bullets)
    yield "ellipses", prose & (col("s_ellipses") > config.max_ellipses)
    yield "repeated lines", prose & (col("s_duplicate_lines") > config.max_duplicate_lines)


def audit(folder: Path) -> "polars.DataFrame":
    """The sample of rejected documents of a `clean` artifact."""
    import polars

    return polars.read_parquet(folder / "rejects.parquet")
