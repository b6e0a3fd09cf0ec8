"""Mixtures: how often each source is repeated for the training tokens to have the shares that are asked for.

It knows names and numbers of tokens, not documents beyond their ids.
"""

import math
from collections.abc import Iterable, Sequence
from typing import Annotated, Any

from pydantic import Field

from mantus.data.tokens.buckets import hash64

Weights = dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]]
"""Weights of sources by name; only their proportions count."""


def shares(weights: Weights, sources: Sequence[str]) -> dict[str, float]:
    """The share of each source, 1 in all. ValueError unless every source of the corpus and no other has a weight."""
    known = ", ".join(sorted(sources))
    if unknown := sorted(set(weights) - set(sources)):
        raise ValueError(f"weights: {unknown[0]!r} is no source of the corpus, whose sources are {known}")
    if missing := sorted(set(sources) - set(weights)):
        raise ValueError(f"weights: source {missing[0]!r} of the corpus has none; 0 leaves it out (sources: {known})")
    total = math.fsum(weights.values())
    if not total:
        raise ValueError(f"weights: all are 0, which leaves nothing; sources are {known}")
    return {name: weights[name] / total for name in sorted(weights)}


def epochs(wanted: dict[str, float], tokens: dict[str, int], most: float) -> dict[str, float]:
    """How often each source is seen, at most `most` times.

    wanted: shares.  tokens: of each source, once; one without any may be left out.  In all there are as many tokens as
    the sources with a share have; what one cannot give is not made up for by others, which would take the shares
    further from what was asked for.
    """
    total = sum(tokens.get(name, 0) for name, share in wanted.items() if share)
    had = {name: tokens.get(name, 0) for name in wanted}
    return {name: min(most, share * total / had[name]) if had[name] else 0.0 for name, share in wanted.items()}


def copies(ids: Iterable[str], sources: Iterable[str], times: dict[str, float]) -> list[int]:
    """How often each document is seen: of 2.3 times two, and three for those three in ten whose ids hash lowest."""
    parts = {name: (math.floor(value), (value % 1) * 2**64) for name, value in times.items()}
    found = (parts[name] for name in sources)
    return [
        whole + bool(part and hash64(f"repeat {name}") < part) for name, (whole, part) in zip(ids, found, strict=True)
    ]


def reached(
    wanted: dict[str, float], most: float, had: dict[str, int], written: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """For each source the share wanted and reached, how often it was seen, and the tokens it was too small to give.

    had: training tokens of each source, once.  written: counts of the training split by source.
    """
    given = {name: written.get(name, {}).get("tokens", 0) for name in wanted}
    total = sum(had.get(name, 0) for name, share in wanted.items() if share)
    return {
        name: {
            "wanted": round(share, 6),
            "reached": round(given[name] / max(1, sum(given.values())), 6),
            "epochs": round(given[name] / had[name], 4) if had.get(name) else 0.0,
            "missing_tokens": max(0, round(share * total - most * had.get(name, 0))),
        }
        for name, share in wanted.items()
    }
