"""Which documents are held out, told from counts: no list of all documents is ever held.

It knows hashes of ids and sources, not texts. A document's side is the hash of its id; the lowest are held out.
"""

import math
from dataclasses import dataclass
from typing import Any

TOP = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Bound:
    """What is asked for: a share of all documents, and so many ids at least."""

    share: float
    least: int

    @property
    def side(self) -> int:
        """Sides below this are held out whatever the corpus."""
        return math.ceil(self.share * 2**64)


def census(frame: Any, bound: Bound) -> Any:
    """Documents, bytes and tokens by source and side, for any number of frames one after another, in any order.

    The `least` lowest sides are kept apart, since the threshold may fall between them; of the others only matters
    whether they are below the bound.
    """
    import polars as pl

    lowest = frame["side"].unique().sort().head(bound.least)
    known = pl.col("side") <= pl.lit(lowest[-1], pl.UInt64) if len(lowest) else pl.lit(False)
    below = pl.col("side") < pl.lit(bound.side, pl.UInt64)
    other = pl.when(below).then(pl.lit(max(0, bound.side - 1), pl.UInt64)).otherwise(pl.lit(TOP, pl.UInt64))
    sides = frame.with_columns(side=pl.when(known).then("side").otherwise(other))
    return sides.group_by("source", "side").agg(pl.col("documents", "bytes", "tokens").sum()).sort("source", "side")


def threshold(counts: Any, bound: Bound) -> int:
    """The side below which a document is held out: the bound, or just above the `least` lowest. 2**64: all are."""
    lowest = counts["side"].unique().sort()
    if len(lowest) < bound.least:
        return TOP + 1
    return max(bound.side, int(lowest[bound.least - 1]) + 1) if bound.least else bound.side


def trained(counts: Any, limit: int) -> Any:
    """What of a census is not held out."""
    import polars as pl

    return counts.filter(pl.lit(limit <= TOP) & (pl.col("side") >= pl.lit(min(limit, TOP), pl.UInt64)))
