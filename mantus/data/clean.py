"""Clean: normalise texts, score them, drop what breaks a rule, and keep account of every drop.

It does not know where documents came from nor which resemble each other (dedup/).
"""

import os
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus import console
from mantus.data.corpus import part_paths, write_table
from mantus.data.dedup.takedown import TAKEN_DOWN, Requests, read_list, requested, with_copies
from mantus.data.rules import Rule, add_signals, first_reason
from mantus.data.sources.resolve import Resolved
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute
from mantus.storage.share import gather, share

KEPT, REJECTS, COUNTS = "kept.parquet", "rejects.parquet", "counts.parquet"
"""What cleaning a part leaves in its folder."""

LANGUAGE_SAMPLE = 2000
"""Characters of a text that its language is told by."""

AUDIT_CHARACTERS = 2000
"""Characters of a rejected text that the audit shard keeps."""

EMAIL = r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*\.[A-Za-z]{2,}"
OCTET = r"(?:25[0-5]|2[0-4][0-9]|1?[0-9]?[0-9])"
FIRST = r"(?:1[1-9]|[2-9][0-9]|1[013-6][0-9]|12[0-689]|17[013-9]|18[0-9]|19[013-9]|2[01][0-9]|22[0-3])"
ADDRESS = rf"(^|[^0-9.]){FIRST}\.{OCTET}\.{OCTET}\.{OCTET}($|[^0-9.]|\.(?:\s|$))"
"""Public IPv4 addresses; first octets below 10 are too often version numbers, 172 and 192 too often private."""


class CleanConfig(PhaseConfig):
    """Normalise, score and filter documents; every drop has a reason."""

    corpus: ArtifactURI
    """The corpus to clean."""
    languages: tuple[str, ...] = ("en",)
    """ISO 639-1 codes of the languages to keep; empty keeps all. Code has none."""
    replace_pii: bool = True
    """Replace e-mail addresses by name@example.com and public IPv4 addresses by 192.0.2.1."""
    min_words: int = 30
    """Fewer words are too little."""
    max_words: int = 100_000
    """More words are too much."""
    min_mean_word_length: float = 3.0
    """Mean characters of a word, at least."""
    max_mean_word_length: float = 10.0
    """Mean characters of a word, at most."""
    max_symbol_ratio: float = 0.1
    """Number signs and ellipses per word."""
    min_alpha_ratio: float = 0.75
    """Share of words with a letter in them."""
    min_stop_words: int = 2
    """Different ones of eight commonest English words; for English only."""
    max_bullet_lines: float = 0.9
    """Share of lines that start with a bullet."""
    max_ellipsis_lines: float = 0.3
    """Share of lines that end with an ellipsis."""
    min_punctuated_lines: float = 0.12
    """Share of lines that end with punctuation."""
    max_duplicate_lines: float = 0.3
    """Share of characters in lines seen before in the document."""
    max_top_2gram: float = 0.2
    """Share of characters in the commonest pair of words."""
    max_top_3gram: float = 0.18
    """Share of characters in the commonest three words."""
    max_top_4gram: float = 0.16
    """Share of characters in the commonest four words."""
    max_repeated_ngrams: float = 0.3
    """Share of runs of five words seen before in the document."""
    min_code_words: int = 20
    """For code: fewer words are too little."""
    max_code_line: int = 1000
    """For code: longest line in characters."""
    max_code_mean_line: float = 100.0
    """For code: mean characters of a line."""
    min_code_alpha: float = 0.25
    """For code: share of characters that are letters."""
    drop_generated: bool = True
    """For code: drop files whose head says that a program wrote them."""
    audit: int = Field(default=20, ge=0)
    """Rejected documents kept for each reason, to be looked at."""
    taken_down: tuple[str, ...] = ()
    """Documents that must be in nothing made from now on: ids, URLs, sha256 of their texts as collected."""
    taken_down_list: str = ""
    """A file of such entries, one a line: a path, http(s)://, s3://. Dedup takes the same, and finds copies."""


def run(config: CleanConfig) -> Manifest:
    """Make the cleaned corpus, or find it. ValueError when nothing is left."""
    listed = requested(config.taken_down_list, "taken_down_list")
    return execute("clean", config, lambda work: _produce(work, config, listed), [item.reference for item in listed])


def _produce(work: Work, config: CleanConfig, listed: list[Resolved]) -> dict[str, Any]:
    import polars as pl

    parts = part_paths(work.inputs["corpus"])
    requests = with_copies(read_list(listed, config.taken_down, "taken_down_list"), parts)
    folders = [work.scratch / part.stem for part in parts]
    with console.progress("clean", work.manifests["corpus"].stats["bytes"] / 1e6, "MB") as bar:
        for number in share(len(parts)):
            bar.advance(_clean_part(parts[number], folders[number], config, requests))
    gather(work, folders)
    kept = [path for folder in folders if (path := folder / KEPT).is_file()]
    if not kept:
        raise ValueError(f"corpus: {work.manifests['corpus'].uri}: no document passes the rules")
    for number, path in enumerate(kept):
        os.link(path, work.out / f"part-{number:05d}.parquet")
    rejects = pl.concat([pl.read_parquet(folder / REJECTS) for folder in folders])
    write_table(_sample(rejects, config.audit).to_arrow(), work.out / REJECTS)
    return waterfall(pl.concat([pl.read_parquet(folder / COUNTS) for folder in folders]))


def _clean_part(part: Path, folder: Path, config: CleanConfig, requests: Requests) -> float:
    """Judge one part of the corpus into `folder`; the MB of text read."""
    import polars as pl

    folder.mkdir(parents=True, exist_ok=True)
    before = pl.read_parquet(part)
    judged = judge(before, config)
    if requests:
        judged = _without_taken(judged, requests.rules(before).is_not_null())
    kept = judged.filter(pl.col("drop_reason").is_null()).drop("drop_reason", "emails", "addresses")
    if kept.height:
        write_table(kept.to_arrow(), folder / KEPT)
    write_table(_sample(_audit(judged), config.audit).to_arrow(), folder / REJECTS)
    write_table(_count(judged, before).to_arrow(), folder / COUNTS)
    return float(before["text"].str.len_bytes().sum()) / 1e6


def _without_taken(judged: Any, taken: Any) -> Any:
    """The verdicts with documents that were taken down dropped, and nothing left of their texts."""
    import polars as pl

    text = pl.when(taken).then(pl.lit("")).otherwise("text")
    reason = pl.when(taken).then(pl.lit(TAKEN_DOWN)).otherwise("drop_reason")
    return judged.with_columns(text=text, drop_reason=reason)


def judge(frame: Any, config: CleanConfig) -> Any:
    """Documents with texts normalised, signals added, `lang` told, and `drop_reason` (null = keep)."""
    import polars as pl

    frame = frame.with_columns(pl.Series("text", normalise(frame["text"], frame["form"])))
    frame = frame.with_columns(
        emails=pl.col("text").str.count_matches(EMAIL),
        addresses=pl.col("text").str.count_matches("(?m)" + ADDRESS),
    )
    if config.replace_pii:
        frame = frame.with_columns(pl.col("text").pipe(without_pii))
    frame = frame.with_columns(_languages(frame))
    is_code = pl.col("form") == "code"
    reason = pl.when(is_code).then(first_reason(code_rules(config))).otherwise(first_reason(prose_rules(config)))
    known = pl.col("lang").is_in(list(config.languages)) | (not config.languages)
    told = pl.col("num_words") >= config.min_words  # of less text no language can be told
    language = pl.when(~is_code & ~known & told).then(pl.lit("language"))
    english = ~is_code & (pl.col("lang") == "en") & (pl.col("stop_words") < config.min_stop_words)
    stop_words = pl.when(english).then(pl.lit("few stop words"))
    return add_signals(frame).with_columns(pl.coalesce(language, reason, stop_words).alias("drop_reason"))


def prose_rules(config: CleanConfig) -> list[Rule]:
    """Rules for prose, cheapest reading first: the first one broken is the reason."""
    return [
        Rule("too few words", "num_words", low=config.min_words),
        Rule("too many words", "num_words", high=config.max_words),
        Rule("word length", "mean_word_length", config.min_mean_word_length, config.max_mean_word_length),
        Rule("symbols", "symbols", high=config.max_symbol_ratio),
        Rule("few words with letters", "alpha_words", low=config.min_alpha_ratio),
        Rule("bullet lines", "bullets", high=config.max_bullet_lines),
        Rule("ellipsis lines", "ellipses", high=config.max_ellipsis_lines),
        Rule("unpunctuated lines", "punctuated_lines", low=config.min_punctuated_lines),
        Rule("lorem ipsum", "lorem_ipsum", high=0),
        Rule("duplicate lines", "duplicate_lines", high=config.max_duplicate_lines),
        Rule("repeated 2-grams", "top_2gram", high=config.max_top_2gram),
        Rule("repeated 3-grams", "top_3gram", high=config.max_top_3gram),
        Rule("repeated 4-grams", "top_4gram", high=config.max_top_4gram),
        Rule("repeated 5-grams", "repeated_ngrams", high=config.max_repeated_ngrams),
    ]


def code_rules(config: CleanConfig) -> list[Rule]:
    """Rules for code."""
    generated = [Rule("generated", "generated", high=0)] if config.drop_generated else []
    return [
        Rule("too few words", "num_words", low=config.min_code_words),
        *generated,
        Rule("long lines", "longest_line", high=config.max_code_line),
        Rule("long lines", "mean_line", high=config.max_code_mean_line),
        Rule("few letters", "alpha_characters", low=config.min_code_alpha),
    ]


def normalise(text: Any, form: Any) -> Any:
    """Unicode NFC, unix line ends, no control or invisible characters, at most two line ends in a row.

    Runs of blanks inside a line of prose become one; indentation stays, and so does all that code means.
    """
    import polars as pl

    plain = (
        text.str.normalize("NFC")
        .str.replace_all("\r\n?", "\n")
        .str.replace_all(r"[\x00-\x08\x0b-\x1f\x7f\x{200b}\x{2060}\x{feff}\x{ad}]", "")
        .str.replace_all(r"(?m)[ \t]+$", "")
        .str.replace_all(r"\n{4,}", "\n\n\n")
        .str.strip_chars("\n")
    )
    prose = plain.str.replace_all(r"(\S)[ \t\x{a0}]{2,}", "$1 ").str.replace_all(r"\n{3,}", "\n\n")
    return pl.select(pl.when(form == "code").then(plain).otherwise(prose).alias("text")).to_series()


def without_pii(text: Any) -> Any:
    """A text expression with e-mail and public IPv4 addresses replaced by addresses reserved for examples."""
    replaced = text.str.replace_all(EMAIL, "name@example.com")
    return replaced.str.replace_all("(?m)" + ADDRESS, "${1}192.0.2.1${2}")


def _languages(frame: Any) -> Any:
    import eldc
    import polars as pl

    eldc.init()
    samples = frame["text"].str.slice(0, LANGUAGE_SAMPLE).to_list()
    pairs = zip(samples, frame["form"], frame["lang"], strict=True)
    return pl.Series("lang", [lang if form == "code" else eldc.detect(sample) for sample, form, lang in pairs])


def _count(judged: Any, before: Any) -> Any:
    """Documents and bytes by source and drop_reason (null = kept)."""
    import polars as pl

    sizes = before["text"].str.len_bytes()
    return (
        judged.with_columns(read=sizes, written=pl.col("text").str.len_bytes())
        .group_by("source", "drop_reason", maintain_order=True)
        .agg(pl.len().alias("documents"), pl.col("read", "written", "emails", "addresses").sum())
    )


def _audit(judged: Any) -> Any:
    import polars as pl

    dropped = judged.filter(pl.col("drop_reason").is_not_null()).drop("emails", "addresses")
    return dropped.with_columns(pl.col("text").str.slice(0, AUDIT_CHARACTERS))


def _sample(rejects: Any, num: int) -> Any:
    """For each reason the `num` rejects with the smallest ids: a sample that does not depend on their order."""
    ordered = rejects.sort("drop_reason", "id", "url")
    return ordered.group_by("drop_reason", maintain_order=True).head(num).select(rejects.columns)


def waterfall(counts: Any) -> dict[str, Any]:
    """Stats: what was read, what each reason took, what is left; in all and by source."""
    import polars as pl

    counts = counts.group_by("source", "drop_reason").agg(pl.exclude("source", "drop_reason").sum())
    by_source = {name: _stage(counts.filter(pl.col("source") == name)) for name in counts["source"].unique().sort()}
    return {**_stage(counts), "sources": by_source}


def _stage(counts: Any) -> dict[str, Any]:
    import polars as pl

    kept = counts.filter(pl.col("drop_reason").is_null())
    dropped = counts.filter(pl.col("drop_reason").is_not_null()).group_by("drop_reason")
    reasons = dropped.agg(pl.col("documents", "read").sum()).sort("drop_reason")
    return {
        "documents_read": int(counts["documents"].sum()),
        "bytes_read": int(counts["read"].sum()),
        "documents": int(kept["documents"].sum()),
        "bytes": int(kept["written"].sum()),
        "dropped": {reason: {"documents": int(n), "bytes": int(size)} for reason, n, size in reasons.iter_rows()},
        "replaced": {name: int(kept[name].sum()) for name in ("emails", "addresses")},
    }
