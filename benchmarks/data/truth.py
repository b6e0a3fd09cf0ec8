"""What is alike, told by plain sets of words in Python; planted copies; and how a result is judged by them.

It knows texts and the ids that a result kept, not who made it.
"""

import random
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

NGRAM = 5
NUM_COPIES = {
    "exact": 1989,
    "case and spaces": 783,
    "1 % of words": 843,
    "3 % of words": 783,
    "8 % of words": 783,
    "frame, 5 % of lines": 843,
}
"""Copies of each kind, of 6,024."""
EDITS = {"1 % of words": 0.01, "3 % of words": 0.03, "8 % of words": 0.08}
LINES_DROPPED = 0.05
FRAMES = (
    (
        "Skip to content | Home | About | Archive | Contact us",
        "All rights reserved. Subscribe to our newsletter",
    ),
    ("You are here: start page, documentation, reference, this page", "Was this page of any help to you? Yes / No"),
    ("Please enable cookies in your browser to go on reading", "Share this with friends: by mail, by post, by word"),
)
BANDS = ((0.0, 0.5), (0.5, 0.7), (0.7, 0.8), (0.8, 0.9), (0.9, 1.0), (1.0, 1.01))
"""Ranges of Jaccard similarity in which recall is told, [low, high)."""
WORD = re.compile(r"\w+")

Shingles = Any
"""Sorted distinct hashes of a text's runs of words, uint64."""


class Words:
    """Numbers of words: the same word, the same number. What `shingles` needs to be exact."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def __call__(self, text: str) -> Any:
        numbers = self.numbers
        found = [numbers.setdefault(word, len(numbers)) for word in WORD.findall(text.lower())]
        return np.array(found, np.uint64)


def shingles(words: Any) -> Shingles:
    """Distinct runs of NGRAM words, as 64-bit hashes; one of all words where they are fewer."""
    if len(words) < NGRAM:
        words = np.concatenate([words, np.full(NGRAM - len(words), 2**40, np.uint64)])
    hashes = np.zeros(len(words) - NGRAM + 1, np.uint64)
    for step in range(NGRAM):  # splitmix64 after each word: a polynomial alone would let runs of numbers collide
        hashes += words[step : step + len(hashes)] + np.uint64(0x9E3779B97F4A7C15)
        hashes = (hashes ^ (hashes >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        hashes = (hashes ^ (hashes >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        hashes ^= hashes >> np.uint64(31)
    return np.unique(hashes)


def jaccard(left: Shingles, right: Shingles) -> float:
    """The Jaccard similarity of two sets."""
    shared = len(np.intersect1d(left, right, assume_unique=True))
    return shared / (len(left) + len(right) - shared)


def unlike(sets: Sequence[Shingles], share: float) -> list[int]:
    """Which sets to keep, so that no two of them are alike by `share`, and none is by itself like several others.

    Kept are those of which less than `share` was in any set before. Jaccard similarity to one of those before is then
    below `share` too, since it is at most the part of the later one that both have. Exact: nothing is estimated.
    """
    lengths = np.array([len(found) for found in sets])
    owners = np.repeat(np.arange(len(sets), dtype=np.int32), lengths)
    everything = np.concatenate(sets)
    order = np.argsort(everything, kind="stable")  # of equal ones the first set's comes first
    ordered = everything[order]
    repeated = np.concatenate([[False], ordered[1:] == ordered[:-1]])
    known = np.bincount(owners[order[repeated]], minlength=len(sets))
    return np.flatnonzero(known < share * lengths).tolist()


@dataclass(frozen=True, slots=True)
class Pair:
    """A planted copy, and what it is a copy of."""

    copy: str
    base: str
    kind: str
    jaccard: float


def copy_of(text: str, kind: str, chance: random.Random, words: Sequence[str]) -> str:
    """A copy with a known change.  words: what replaces words."""
    if kind == "case and spaces":
        return re.sub(r"[ \t]+", "  ", text.upper()).replace(". ", " ... ")
    if kind == "frame, 5 % of lines":
        head, foot = chance.choice(FRAMES)
        return "\n".join([head, *(line for line in text.split("\n") if chance.random() >= LINES_DROPPED), foot])
    if share := EDITS.get(kind):
        return WORD.sub(lambda found: chance.choice(words) if chance.random() < share else found[0], text)
    return text


def plant(texts: dict[str, str], num: int, seed: int = 0) -> tuple[dict[str, str], list[Pair]]:
    """Copies of `num` of the texts, at most one of each, by id; and the truth about them, the kinds in proportion."""
    chance = random.Random(seed)
    chosen = chance.sample(sorted(texts), num)
    vocabulary = sorted({word for name in chosen[:50] for word in WORD.findall(texts[name])})
    total, numbers = sum(NUM_COPIES.values()), Words()
    kinds = [kind for kind, share in NUM_COPIES.items() for _ in range(round(share * num / total))]
    copies, pairs = {}, []
    for base, kind in zip(chosen, kinds, strict=False):
        copy = f"copy-{base}"
        copies[copy] = copy_of(texts[base], kind, chance, vocabulary)
        similarity = jaccard(shingles(numbers(copies[copy])), shingles(numbers(texts[base])))
        pairs.append(Pair(copy, base, kind, similarity))
    return copies, pairs


@dataclass(frozen=True, slots=True)
class Recall:
    """Of some planted pairs: how many there are, and how many were found (not both kept)."""

    num: int
    found: int

    @property
    def share(self) -> float:
        """Found of all; 1 where there are none."""
        return self.found / self.num if self.num else 1.0


@dataclass(frozen=True, slots=True)
class Judgement:
    """How good a deduplication is."""

    removed: int
    wrong: int
    """Removed though in no pair, or though the other of its pair had gone."""
    pairs: tuple[tuple[Pair, bool], ...]
    """Each planted pair, and whether it was found."""

    @property
    def precision(self) -> float:
        """Share of what was removed that had its like among what stays."""
        return 1 - self.wrong / self.removed if self.removed else 1.0

    def recall(self, kind: str = "", low: float = 0.0, high: float = 2.0) -> Recall:
        """Of the pairs of a kind ('' = all) whose similarity is in [low, high)."""
        found = [hit for pair, hit in self.pairs if kind in ("", pair.kind) and low <= pair.jaccard < high]
        return Recall(len(found), sum(found))

    def by_kind(self) -> dict[str, Recall]:
        return {kind: self.recall(kind) for kind in NUM_COPIES}

    def by_band(self) -> dict[str, Recall]:
        return {band_name(low, high): self.recall(low=low, high=high) for low, high in BANDS}


def band_name(low: float, high: float) -> str:
    return "J = 1" if low >= 1 else f"J {low:g} to {high:g}"


def judge(everything: Iterable[str], kept: set[str], pairs: Sequence[Pair]) -> Judgement:
    """Judge what was kept.  everything: ids of all documents."""
    removed = {name for name in everything if name not in kept}
    partner = {pair.copy: pair.base for pair in pairs} | {pair.base: pair.copy for pair in pairs}
    planted = [name for name in removed if name in partner]
    both = sum(partner[name] in removed for name in planted) // 2
    found = tuple((pair, not (pair.copy in kept and pair.base in kept)) for pair in pairs)
    return Judgement(len(removed), len(removed) - len(planted) + both, found)
