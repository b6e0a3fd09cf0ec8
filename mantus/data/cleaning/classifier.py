"""A classifier of quality trained from two sets: a linear model on hashed words and pairs of words, fastText's class.

It knows texts that are wanted and texts that are not, not where a threshold should be.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mantus.data.cleaning.spans import MIX, OTHER, batches, texts_of

WEIGHTS, SETTINGS = "weights.f32", "classifier.json"
"""Little-endian float32, one a bucket; and what else the model is."""


@dataclass(frozen=True, slots=True)
class Bags:
    """Texts as buckets of words and pairs, one text behind the other."""

    buckets: Any
    """[all features] of int32."""
    bounds: Any
    """Where each text's begin, and their number, [D + 1]."""

    def take(self, chosen: Any) -> "Bags":
        """Some of the texts, in the order of `chosen`, [n]."""
        nums = np.diff(self.bounds)[chosen]
        bounds = np.concatenate([[0], np.cumsum(nums)])
        places = np.repeat(self.bounds[chosen] - bounds[:-1], nums) + np.arange(bounds[-1])
        return Bags(self.buckets[places], bounds)

    def sums(self, values: Any) -> Any:
        """The sum of a value of each feature over each text, over the root of their number, [D]."""
        sums = np.concatenate([[0.0], np.cumsum(values, dtype=np.float64)])
        return (sums[self.bounds[1:]] - sums[self.bounds[:-1]]) / np.sqrt(np.maximum(np.diff(self.bounds), 1))


@dataclass(frozen=True, slots=True)
class Classifier:
    """What training gives."""

    weights: Any
    """[2 ** bits] of float32."""
    bias: float
    max_words: int

    @property
    def bits(self) -> int:
        """Buckets, as a power of two."""
        return len(self.weights).bit_length() - 1

    def score(self, texts: Any) -> Any:
        """How much each text of a polars series is like the wanted ones, 0 to 1; [D] of float64."""
        return self.of_bags(bags_of(texts, self.bits, self.max_words))

    def of_bags(self, bags: Bags) -> Any:
        """The same of texts as buckets."""
        return 1 / (1 + np.exp(-np.clip(self.bias + bags.sums(self.weights[bags.buckets]), -30, 30)))

    def write(self, folder: Path) -> None:
        """Write the model."""
        self.weights.astype("<f4").tofile(folder / WEIGHTS)
        (folder / SETTINGS).write_text(json.dumps({"bias": self.bias, "max_words": self.max_words}))


def read_classifier(folder: Path) -> Classifier:
    """The model in a folder. ValueError when there is none."""
    try:
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        return Classifier(np.fromfile(folder / WEIGHTS, "<f4"), settings["bias"], settings["max_words"])
    except FileNotFoundError:
        raise ValueError("holds no classifier; name an artifact that `mantus classifier` made") from None


def bags_of(texts: Any, bits: int, max_words: int) -> Bags:
    """Buckets of the first words of each text of a polars series, case left out, and of their pairs."""
    import polars as pl

    parts = [_bags(part["text"], bits, max_words) for part in batches(pl.DataFrame({"text": texts}))]
    nums = np.concatenate([[0], *(np.diff(part.bounds) for part in parts)])
    return Bags(np.concatenate([np.zeros(0, np.int32), *(part.buckets for part in parts)]), np.cumsum(nums))


def _bags(texts: Any, bits: int, max_words: int) -> Bags:
    held = texts_of(texts.str.to_lowercase())
    words = held.words()
    nums = np.minimum(words.nums, max_words)
    words = words.where(np.arange(len(words)) - words.bounds[:-1].repeat(words.nums) < max_words)
    hashes = held.hashes(words)
    pairs = (hashes[:-1] * MIX + hashes[1:]) * OTHER
    within = words.rows[:-1] == words.rows[1:]
    bounds = np.concatenate([[0], np.cumsum(2 * nums - (nums > 0))])
    buckets = np.empty(bounds[-1], np.uint64)
    singles = np.arange(len(words)) + np.repeat(np.cumsum(nums - (nums > 0)) - (nums - (nums > 0)), nums)
    single = np.zeros(len(buckets), np.bool_)
    single[singles] = True
    buckets[single], buckets[~single] = hashes * OTHER, pairs[within]
    return Bags((buckets >> np.uint64(64 - bits)).astype(np.int32), bounds)


def train(bags: Bags, wanted: Any, bits: int, max_words: int, epochs: int, rate: float, seed: int) -> Classifier:
    """Logistic regression by Adagrad, 32 texts at a time. wanted: [D] of bool."""
    chance = np.random.default_rng(seed)
    weights, squares = np.zeros(1 << bits, np.float32), np.full(1 << bits, 1e-6, np.float32)
    bias, bias_squares = 0.0, 1e-6
    for _ in range(epochs):
        order = chance.permutation(len(wanted))
        for start in range(0, len(order), 32):
            chosen = order[start : start + 32]
            batch = bags.take(chosen)
            guess = Classifier(weights, bias, max_words).of_bags(batch)
            slope = guess - wanted[chosen]
            nums = np.diff(batch.bounds)
            steps = np.repeat(slope / np.sqrt(np.maximum(nums, 1)), nums).astype(np.float32)
            np.add.at(squares, batch.buckets, steps * steps)
            np.subtract.at(weights, batch.buckets, rate * steps / np.sqrt(squares[batch.buckets]))
            bias_squares += float(slope.sum()) ** 2
            bias -= rate * float(slope.sum()) / bias_squares**0.5
    return Classifier(weights, bias, max_words)


def ranked(scores: Any, wanted: Any) -> float:
    """The area under the ROC curve: how often a wanted text scores above one that is not; ties count half."""
    values, places = np.unique(scores, return_inverse=True)
    good, bad = (np.bincount(places[chosen], minlength=len(values)) for chosen in (wanted, ~wanted))
    below = np.cumsum(bad) - bad
    return float((good * (below + bad / 2)).sum() / max(1, good.sum() * bad.sum()))
