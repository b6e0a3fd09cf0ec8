"""Signals of Mantus' own rules, for prose and for code, as columns.

It knows polars expressions, not thresholds nor files. Words are split at white space.
"""

from typing import Any

STOP_WORDS = ("the", "be", "to", "of", "and", "that", "have", "with")
GENERATED = (
    r"(?im)do not edit|auto-?generated|automatically generated|@generated"
    r"|^[#/*; ]+(?:this \w+ (?:is|was) |file |code )?generated (?:by|from) "
)
GENERATED_HEAD = 600
"""Characters at the start of a file where a generator signs."""

TOP_NGRAMS = (2, 3, 4)
REPEATED_NGRAM = 5

SIGNALS = (
    *("num_words", "mean_word_length", "symbols", "alpha_words", "stop_words", "bullets", "ellipses"),
    *("punctuated_lines", "mean_line", "longest_line", "alpha_characters", "generated", "lorem_ipsum"),
    *("duplicate_lines", *(f"top_{num}gram" for num in TOP_NGRAMS), "repeated_ngrams"),
)
"""The columns that `add_signals` adds."""


def add_signals(frame: Any) -> Any:
    """The frame (columns text, form) with the columns SIGNALS, rows in the same order.

    Shares are 0 to 1. Shares of repeated lines and n-grams are null for code, which repeats itself by nature.
    """
    import polars as pl

    frame = frame.with_row_index("row").with_columns(_counts()).with_columns(_shares())
    repetition = _repetition(frame.filter(pl.col("form") != "code").select("row", "text", "num_words"))
    kept = [name for name in frame.columns if name not in ("row", "num_lines", "num_characters")]
    joined = frame.join(repetition, on="row", how="left").sort("row")
    return joined.select(*(name for name in kept if name not in SIGNALS), *SIGNALS)


def _counts() -> list[Any]:
    import polars as pl

    text = pl.col("text").str
    line_lengths = text.split("\n").list.eval(pl.element().str.len_chars()).list
    return [
        text.count_matches(r"\S+").alias("num_words"),
        text.count_matches(r"(?m)^.*\S").alias("num_lines"),
        text.len_chars().alias("num_characters"),
        line_lengths.max().alias("longest_line"),
        pl.sum_horizontal(text.contains(rf"(?i)\b{word}\b").cast(pl.UInt8) for word in STOP_WORDS).alias("stop_words"),
        text.slice(0, GENERATED_HEAD).str.contains(GENERATED).cast(pl.UInt8).alias("generated"),
        text.contains(r"(?i)lorem ipsum").cast(pl.UInt8).alias("lorem_ipsum"),
    ]


def _shares() -> list[Any]:
    import polars as pl

    text = pl.col("text").str
    words, lines, characters = pl.col("num_words"), pl.col("num_lines"), pl.col("num_characters")
    return [
        _share(text.count_matches(r"\S"), words).alias("mean_word_length"),
        _share(text.count_matches(r"#|\x{2026}|\.\.\."), words).alias("symbols"),
        _share(text.count_matches(r"[^\s\p{L}]*\p{L}\S*"), words).alias("alpha_words"),
        _share(text.count_matches(r"(?m)^[ \t]*[-*\x{2022}\x{2023}\x{25cf}\x{25aa}]"), lines).alias("bullets"),
        _share(text.count_matches(r"(?m)(?:\.\.\.|\x{2026})[ \t]*$"), lines).alias("ellipses"),
        _share(text.count_matches(r"""(?m)[.!?:;,"')\x{201d}][ \t]*$"""), lines).alias("punctuated_lines"),
        _share(characters, lines).alias("mean_line"),
        _share(text.count_matches(r"\p{L}"), characters).alias("alpha_characters"),
    ]


def _share(part: Any, whole: Any) -> Any:
    import polars as pl

    return pl.when(whole > 0).then(part / whole).otherwise(0.0)


def _repetition(frame: Any) -> Any:
    """Per row: the share of characters in repeated lines and in the commonest n-grams, and of repeated 5-grams."""
    import polars as pl

    lines = frame.select("row", pl.col("text").str.split("\n")).explode("text")
    lines = lines.with_columns(pl.col("text").str.strip_chars()).filter(pl.col("text") != "")
    lines = lines.with_columns(size=pl.col("text").str.len_chars())
    groups = lines.group_by("row", "text").agg(pl.len().alias("num"), pl.col("size").first())
    repeated = ((pl.col("num") - 1) * pl.col("size")).sum() / (pl.col("num") * pl.col("size")).sum()
    result = frame.select("row").join(
        groups.group_by("row").agg(repeated.alias("duplicate_lines")), on="row", how="left"
    )
    words = _words(frame)
    for num in (*TOP_NGRAMS, REPEATED_NGRAM):
        result = result.join(_ngram_share(words, num), on="row", how="left")
    return result.with_columns(pl.exclude("row").fill_null(0.0))


def _words(frame: Any) -> Any:
    """Every word as a row: row, hash, size in characters."""
    import polars as pl

    words = frame.select("row", pl.col("text").str.extract_all(r"\S+").alias("word")).explode("word").drop_nulls()
    return words.select("row", pl.col("word").hash(0).alias("hash"), pl.col("word").str.len_chars().alias("size"))


def _ngram_share(words: Any, num: int) -> Any:
    import polars as pl

    previous = range(1, num)
    ngrams = words.select(
        "row",
        ngram=sum((pl.col("hash").shift(i) * MIX[i] for i in previous), pl.col("hash")),
        size=sum((pl.col("size").shift(i) for i in previous), pl.col("size")),
        whole=pl.col("row").shift(num - 1) == pl.col("row"),
    )
    groups = ngrams.filter("whole").group_by("row", "ngram").agg(pl.len().alias("num"), pl.col("size").max())
    if num == REPEATED_NGRAM:
        share = ((pl.col("num") - 1).sum() / pl.col("num").sum()).alias("repeated_ngrams")
        return groups.group_by("row").agg(share)
    top = groups.filter(pl.col("num") > 1).group_by("row").agg((pl.col("num") * pl.col("size")).max().alias("top"))
    total = words.group_by("row").agg(pl.col("size").sum().alias("total"))
    return top.join(total, on="row").select("row", (pl.col("top") / pl.col("total")).alias(f"top_{num}gram"))


MIX = (1, 0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0x27D4EB2F165667C5)
"""Odd multipliers that make the hash of an n-gram depend on the order of its words."""
