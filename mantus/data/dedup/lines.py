"""Boilerplate: lines or paragraphs that stand in many documents, counted over a corpus and taken out of its texts.

It does not know which documents are duplicates of each other: they must be gone, or all their lines would repeat.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np

SEPARATORS = {"line": "\n", "paragraph": "\n\n"}
BUCKETS = 64
"""Files that hashes are spread over: one at a time is counted in memory."""
FENCE = r"(?m)^\s*(?:```|~~~)"
FIXED = r"(?m)^(?:\t| {4})|\|.*\||\t|^\s*\+[-=+]{3}"
"""Indented code, and rows and rules of tables."""


def repeated(frames: Iterable[Any], unit: str, everywhere: bool, least: int, scratch: Path) -> Any:
    """Hashes of the units that stand in at least `least` documents; sorted.

    frames: columns text and form, a part at a time.  unit: line or paragraph.  everywhere: also of code and tables.
    Memory: one frame, and of all distinct units one in BUCKETS.
    """
    files = [(scratch / f"units-{number:02d}.bin").open("wb") for number in range(BUCKETS)]
    for frame in frames:
        units = _split(frame, unit, everywhere).filter("counts").select("row", "hash").unique()
        hashes = np.sort(units["hash"].to_numpy())
        edges = np.searchsorted(hashes >> np.uint64(58), np.arange(BUCKETS + 1, dtype=np.uint64))
        for number, file in enumerate(files):
            hashes[edges[number] : edges[number + 1]].tofile(file)
    found = []
    for file in files:
        file.close()
        values, nums = np.unique(np.fromfile(file.name, np.uint64), return_counts=True)
        found.append(values[nums >= least])
        Path(file.name).unlink()
    return np.concatenate(found)


def without(frame: Any, hashes: Any, unit: str, everywhere: bool, remove: bool) -> Any:
    """The frame with a column `repeated`, how many of its units repeat, and with `remove` the texts without them.

    hashes: what `repeated` found.  A text without any is the same text; a blank line left double by a removal goes too.
    """
    import polars as pl

    units = _split(frame, unit, everywhere)
    units = units.with_columns(
        gone=pl.col("counts") & pl.col("hash").is_in(pl.Series(hashes, dtype=pl.UInt64).implode())
    )
    nums = units.group_by("row").agg(pl.col("gone").sum().cast(pl.Int64).alias("repeated"))
    frame = frame.with_row_index("row").join(nums, on="row", how="left", maintain_order="left")
    if remove:
        touched = units.filter(pl.col("gone").any().over("row"))
        texts = _joined(touched.filter(~pl.col("gone")), SEPARATORS[unit])
        frame = frame.join(texts, on="row", how="left", maintain_order="left")
        cut = pl.when(pl.col("repeated") > 0).then(pl.col("left").fill_null("")).otherwise(pl.col("text"))
        frame = frame.with_columns(text=cut).drop("left")
    return frame.drop("row")


def _split(frame: Any, unit: str, everywhere: bool) -> Any:
    """Every unit as a row: row, place, unit, hash, and whether it counts."""
    import polars as pl

    lists = frame.select("text", "form").with_row_index("row")
    lists = lists.with_columns(unit=pl.col("text").str.split(SEPARATORS[unit])).drop("text")
    units = lists.explode("unit").with_columns(
        place=pl.int_range(pl.len()).over("row"),
        key=pl.col("unit").str.strip_chars(),
        fences=pl.col("unit").str.count_matches(FENCE),
    )
    inside = (pl.col("fences").cum_sum().over("row") - pl.col("fences")) % 2 == 1
    fixed = (pl.col("form") == "code") | inside | (pl.col("fences") > 0) | pl.col("unit").str.contains(FIXED)
    counts = (pl.col("key") != "") & (pl.lit(everywhere) | ~fixed)
    return units.select("row", "place", "unit", pl.col("key").hash(3).alias("hash"), counts.alias("counts"))


def _joined(units: Any, separator: str) -> Any:
    """The texts of what is left, as columns row and left."""
    import polars as pl

    blank = pl.col("unit").str.strip_chars() == ""
    cut = pl.col("place") - pl.col("place").shift(1).over("row") > 1  # something stood between this one and the last
    double = blank & (
        blank.shift(1).over("row") & cut | (pl.col("place").shift(1).over("row").is_null() & (pl.col("place") > 0))
    )
    left = units.filter(~double.fill_null(False))
    texts = left.group_by("row", maintain_order=True).agg(pl.col("unit").str.join(separator).alias("left"))
    return texts.with_columns(pl.col("left").str.strip_chars_end("\n"))
