"""Rows of results and their 95 % intervals.

It knows numbers, not where they come from.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

Z = 1.96


@dataclass(frozen=True, slots=True)
class Score:
    """One measured number with its 95 % interval."""

    task: str
    metric: str
    value: float
    low: float
    high: float
    num: int
    higher_is_better: bool
    through: str

    def row(self) -> dict[str, Any]:
        """The stored form."""
        return {name: round(value, 6) if isinstance(value, float) else value for name, value in asdict(self).items()}


def share(task: str, metric: str, hits: Sequence[bool], through: str) -> Score:
    """A share of successes with Wilson's interval."""
    num, value = len(hits), sum(hits) / max(1, len(hits))
    middle = (value + Z * Z / (2 * num)) / (1 + Z * Z / num) if num else 0.0
    spread = Z * math.sqrt(value * (1 - value) / num + Z * Z / (4 * num * num)) / (1 + Z * Z / num) if num else 0.0
    low, high = max(0.0, min(value, middle - spread)), min(1.0, max(value, middle + spread))
    return Score(task, metric, value, low, high, num, True, through)


def ratio(task: str, metric: str, parts: Sequence[tuple[float, float]], through: str) -> Score:
    """Sum over sum (lower is better) with a bootstrap interval over the parts."""
    chance = random.Random(0)
    value = sum(top for top, _ in parts) / sum(bottom for _, bottom in parts)
    draws = []
    for _ in range(500):
        drawn = chance.choices(parts, k=len(parts))
        draws.append(sum(top for top, _ in drawn) / sum(bottom for _, bottom in drawn))
    draws.sort()
    return Score(task, metric, value, draws[12], draws[487], len(parts), False, through)
