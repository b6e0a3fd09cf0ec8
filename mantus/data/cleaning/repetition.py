"""How much of a text repeats itself: lines, paragraphs, the commonest n-grams, and n-grams seen before.

It knows spans and their hashes, not thresholds. Two spans are equal where their 64-bit hashes are, and so n-grams.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from mantus.data.cleaning.spans import MIX, OTHER, Spans, Texts, first_equal

TOP_NGRAMS = (2, 3, 4)
"""n-grams of which the commonest one counts."""
SEEN_NGRAMS = (5, 6, 7, 8, 9, 10)
"""n-grams of which those count that came before."""


@dataclass(frozen=True, slots=True)
class Ngrams:
    """n-grams of all texts, or those of them that occur more than once in their text."""

    num: int
    places: Any
    """Their first words, in order."""
    firsts: Any
    """For each the first word of the first one equal to it in its text."""
    counts: Any
    """How often each occurs in its text."""


def repeated_spans(texts: Texts, spans: Spans, hashes: Any) -> tuple[Any, Any]:
    """(spans, their characters) that stood before in the same text, by text."""
    keys = hashes ^ (spans.rows.astype(np.uint64) * OTHER)
    again = first_equal(keys) != np.arange(len(keys))
    return spans.total(again), spans.total(np.where(again, texts.characters(spans.starts, spans.ends), 0))


def paragraphs(lines: Spans, hashes: Any) -> tuple[Spans, Any]:
    """Runs of lines with no empty one between them, and their hashes. lines: those that are not empty."""
    if not len(lines):
        return lines, hashes
    opens = np.ones(len(lines), np.bool_)
    opens[1:] = lines.starts[1:] != lines.ends[:-1] + 1
    opens[lines.bounds[:-1][lines.nums > 0]] = True
    firsts = np.flatnonzero(opens)
    numbers = np.arange(len(lines)) - np.repeat(firsts, np.diff([*firsts, len(lines)]))
    mixed = hashes * (numbers.astype(np.uint64) * MIX | np.uint64(1))
    ends = lines.ends[np.append(firsts[1:], len(lines)) - 1]
    return Spans(lines.starts[firsts], ends, np.searchsorted(firsts, lines.bounds)), np.add.reduceat(mixed, firsts)


def ngram_shares(texts: Texts, words: Spans, hashes: Any) -> dict[str, Any]:
    """For each of TOP_NGRAMS and SEEN_NGRAMS the share of a text's characters in them, [D].

    top_2gram: length of the commonest pair of words, blank included, times its count; of equally common ones the first.
    seen_5gram: words of runs of five that came before, one run behind the other: what one has taken, the next cannot,
    nor is it known to later ones.
    """
    lengths = texts.characters(words.starts, words.ends)
    sums = np.concatenate([[0], np.cumsum(lengths)])
    sizes = np.maximum(texts.sizes, 1)
    found = {}
    for ngrams in _ngrams(words, hashes):
        if ngrams.num in TOP_NGRAMS:
            found[f"top_{ngrams.num}gram"] = _top(words, ngrams, sums) / sizes
        if ngrams.num in SEEN_NGRAMS:
            taken = np.array(_taken(ngrams, len(words)), np.int64)
            characters = sums[taken + ngrams.num] - sums[taken]
            rows = np.searchsorted(words.bounds, taken, side="right") - 1
            found[f"seen_{ngrams.num}gram"] = np.bincount(rows, characters, len(sizes)) / sizes
    return found


def _ngrams(words: Spans, hashes: Any) -> Iterator[Ngrams]:
    """2-grams, 3-grams and so on: of those that begin where a shorter one does that occurs more than once."""
    rows, places = words.rows, np.arange(len(words), dtype=np.int32)
    room = words.bounds[1:].astype(np.int32)[rows] - places  # words from here to the text's end
    keys = hashes ^ (rows.astype(np.uint64) * OTHER)
    for num in range(2, SEEN_NGRAMS[-1] + 1):
        whole = np.flatnonzero(room[places] >= num)
        places, keys = places[whole], keys[whole]
        keys = keys * MIX + hashes[places + (num - 1)]
        owners = first_equal(keys)
        counts = np.bincount(owners, minlength=len(owners))[owners]
        more = np.flatnonzero(counts > 1)
        places_more = places[more]
        yield Ngrams(num, places_more, places[owners[more]], counts[more])
        places, keys = places_more, keys[more]


def _top(words: Spans, ngrams: Ngrams, sums: Any) -> Any:
    """Characters of the commonest n-gram of each text, blanks between words included, times its count, [D]."""
    num = ngrams.num
    result = np.zeros(len(words.nums), np.int64)
    some = words.nums >= num
    begin = words.bounds[:-1][some]
    result[some] = sums[begin + num] - sums[begin] + num - 1  # where all occur once, the first one
    if len(ngrams.places):
        rows = np.searchsorted(words.bounds, ngrams.places, side="right") - 1
        bounds = np.concatenate([[0], np.flatnonzero(np.diff(rows)) + 1])
        most = np.repeat(np.maximum.reduceat(ngrams.counts, bounds), np.diff([*bounds, len(rows)]))
        best = np.flatnonzero(ngrams.counts == most)
        _, first = np.unique(rows[best], return_index=True)
        best = best[first]
        place = ngrams.places[best]
        result[rows[best]] = (sums[place + num] - sums[place] + num - 1) * ngrams.counts[best]
    return result


def _taken(ngrams: Ngrams, num_words: int) -> list[int]:
    """First words of the n-grams that came before, none of them within another.

    From left to right: an n-gram that came before is taken with all its words; one that did not is known from then on.
    Those that begin within a taken one are never looked at, so they are not known either, unless they stand elsewhere.
    """
    num, again = ngrams.num, ngrams.firsts != ngrams.places
    places, firsts = ngrams.places[again], ngrams.firsts[again]
    taken: list[int] = []
    if not len(places):
        return taken
    breaks = np.flatnonzero(np.diff(places) != 1) + 1
    opens = np.concatenate([[0], breaks]).tolist()
    stops = np.concatenate([breaks, [len(places)]]).tolist()
    begins = places[opens].tolist()
    known = firsts.tolist()
    skipped, late, marks = bytearray(num_words), set[int](), b"\1" * (num - 1)
    free = 0
    for opened, stop, begin in zip(opens, stops, begins, strict=True):
        place, end = max(begin, free), begin + stop - opened
        while place < end:
            first = known[opened + place - begin]
            if skipped[first] and first not in late:
                late.add(first)
                place += 1
            else:
                taken.append(place)
                skipped[place + 1 : place + num] = marks
                place += num
        free = place
    return taken
