"""How much of a server or engine is measured, with which prompts, and what comes of it; known to every peer's process.

Prompts are ids drawn at random, the same for every peer and never the same twice, so that no prefix cache helps.
"""

import json
import random
from dataclasses import asdict, dataclass

LOW, HIGH = 300, 40_000
"""Ids that every vocabulary here has and none treats as special."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    repeats: int = 3
    prompt: int = 512
    decode: tuple[int, int] = (64, 128)
    """Tokens in and out of the measurement of decoding."""
    load: tuple[int, int] = (64, 64)
    """The same of each stream under load."""
    streams: tuple[int, ...] = (1, 4, 8, 16)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Speeds:
    """Medians over the repeats. Seconds, and output tokens a second."""

    first_token_s: float
    decode: float
    throughput: dict[str, float]

    def as_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def prompts(plan: Plan, num: int, length: int, salt: int) -> list[list[int]]:
    """So many prompts of so many ids."""
    chance = random.Random(f"{plan.seed} {length} {salt}")
    return [[chance.randrange(LOW, HIGH) for _ in range(length)] for _ in range(num)]


def middle(values: list[float]) -> float:
    """The median, the lower of two."""
    return sorted(values)[(len(values) - 1) // 2]
