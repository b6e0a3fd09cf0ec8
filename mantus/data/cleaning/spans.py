"""Many texts as one array of bytes: their words, lines and paragraphs as spans, with lengths, classes and hashes.

It knows bytes and Unicode's classes, not what makes a text good.
Legend: B bytes, D texts, N spans.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import pairwise
from typing import Any

import numpy as np

LETTER, MARKED, TERMINAL, SPACE, CONTINUED, NEWLINE = 1, 2, 4, 8, 16, 32
"""Classes of a character, on its first byte: a letter; no punctuation; what ends a sentence; white space; a later byte
of a character; a line's end."""

BATCH_BYTES = 1 << 20
"""Bytes of text worked on at once: arrays of this length stay in a processor's cache."""

PAD = 16
"""Zero bytes behind the texts, so that eight bytes can be read at each place."""

HASHED = 512
"""Bytes of a span from which on it is hashed by itself."""

MIX = np.uint64(0x9E3779B97F4A7C15)
OTHER = np.uint64(0xC2B2AE3D27D4EB4F)
LOW_BYTES = np.array([(1 << 8 * num) - 1 for num in range(9)], np.uint64)


@dataclass(frozen=True, slots=True)
class Spans:
    """Pieces of texts, in order."""

    starts: Any
    """First byte of each, [N]."""
    ends: Any
    """The byte behind the last of each, [N]."""
    bounds: Any
    """Where each text's spans begin, and the number of spans, [D + 1]."""

    def __len__(self) -> int:
        return len(self.starts)

    @property
    def nums(self) -> Any:
        """How many spans each text has, [D]."""
        return np.diff(self.bounds)

    @property
    def rows(self) -> Any:
        """The text of each span, [N]."""
        return np.repeat(np.arange(len(self.bounds) - 1), self.nums)

    def where(self, chosen: Any) -> "Spans":
        """Those that `chosen`, [N] of bool, names."""
        before = np.concatenate([[0], np.cumsum(chosen)])
        return Spans(self.starts[chosen], self.ends[chosen], before[self.bounds])

    def total(self, values: Any) -> Any:
        """The sum of a value of each span over each text, [D]."""
        sums = np.concatenate([[0], np.cumsum(values)])
        return sums[self.bounds[1:]] - sums[self.bounds[:-1]]

    def most(self, values: Any, operation: Any = np.maximum) -> Any:
        """The largest value in each text (or what `operation` makes of all), 0 where there is none, [D]."""
        found = np.zeros(len(self.bounds) - 1, values.dtype)
        some = self.nums > 0
        if some.any():
            found[some] = operation.reduceat(values, self.bounds[:-1][some])
        return found


@dataclass(frozen=True)
class Texts:
    """Texts one behind the other."""

    data: Any
    """Their UTF-8 bytes, [B], with PAD zeros behind."""
    bounds: Any
    """Where each begins, and B, [D + 1]."""
    classes: Any
    """The class of each byte, [B]."""
    ascii: bool
    """Whether each byte is a character."""

    @cached_property
    def raw(self) -> bytes:
        """Their bytes, for what Python's own searches are quickest at."""
        return bytes(self.data[: self.bounds[-1]])

    @cached_property
    def continued(self) -> Any:
        """Where a character goes on, in order."""
        return np.flatnonzero(self.classes & CONTINUED)

    def characters(self, starts: Any, ends: Any) -> Any:
        """Characters in each of some spans of bytes, in order and none within another."""
        if self.ascii:
            return ends - starts
        if len(self.continued) > len(self.classes) // 8:
            before = np.concatenate([[0], np.cumsum((self.classes & CONTINUED) == 0, dtype=np.int32)])
            return before[ends] - before[starts]
        owners = np.searchsorted(starts, self.continued, side="right") - 1
        owners = owners[self.continued < ends[owners]] if len(starts) else owners[:0]
        return ends - starts - np.bincount(owners[owners >= 0], minlength=len(starts))

    @property
    def sizes(self) -> Any:
        """Characters of each text, [D]."""
        return self.characters(self.bounds[:-1], self.bounds[1:])

    def count(self, wanted: bytes) -> Any:
        """How often each text has a string, one behind the other, [D]."""
        return np.array([self.raw.count(wanted, *span) for span in pairwise(self.bounds.tolist())], np.int64)

    def words(self) -> Spans:
        """What stands between white space."""
        inside = np.zeros(len(self.classes) + 2, np.bool_)
        np.equal(self.classes & SPACE, 0, out=inside[1:-1])
        edges = np.flatnonzero(inside[1:] != inside[:-1])
        inner = self.bounds[1:-1]
        joined = np.unique(inner[inside[inner] & inside[inner + 1]])  # ends without white space, and begins without
        if len(joined):
            edges = np.insert(edges, np.searchsorted(edges, joined).repeat(2), joined.repeat(2))
        starts, ends = edges[::2], edges[1::2]
        return Spans(starts, ends, np.searchsorted(starts, self.bounds))

    def lines(self) -> Spans:
        """What stands between line ends; a text has one line more than line ends."""
        breaks = np.flatnonzero(self.data[: self.bounds[-1]] == ord("\n"))
        bounds = np.searchsorted(breaks, self.bounds) + np.arange(len(self.bounds))
        inner_starts, inner_ends = np.ones(bounds[-1], np.bool_), np.ones(bounds[-1], np.bool_)
        inner_starts[bounds[:-1]] = inner_ends[bounds[1:] - 1] = False
        starts, ends = np.empty(bounds[-1], np.int64), np.empty(bounds[-1], np.int64)
        starts[inner_starts], starts[bounds[:-1]] = breaks + 1, self.bounds[:-1]
        ends[inner_ends], ends[bounds[1:] - 1] = breaks, self.bounds[1:]
        return Spans(starts, ends, bounds)

    def last_classes(self, spans: Spans) -> Any:
        """The class of each span's last character; 0 for an empty span."""
        if not len(self.classes):
            return np.zeros(len(spans), np.uint8)
        places = spans.ends - 1
        for _ in range(0 if self.ascii else 3):
            places = places - ((self.classes[places] & CONTINUED) != 0)
        return np.where(spans.ends > spans.starts, self.classes[places], 0)

    def any_class(self, words: Spans) -> Any:
        """LETTER and MARKED where a character of a word has them; the words must be all there are."""
        if not len(words):
            return np.zeros(0, np.uint8)
        return np.bitwise_or.reduceat(self.classes, words.starts) & (LETTER | MARKED)  # what white space has not

    def hashes(self, spans: Spans) -> Any:
        """A hash of each span's bytes, [N] of uint64."""
        return hash_spans(self.data, spans.starts, spans.ends)

    def strings(self) -> Any:
        """The texts as a polars series."""
        import polars as pl
        import pyarrow

        offsets, data = pyarrow.py_buffer(self.bounds.astype(np.int64)), pyarrow.py_buffer(self.data)
        return pl.Series(pyarrow.LargeStringArray.from_buffers(len(self.bounds) - 1, offsets, data))


def texts_of(series: Any) -> Texts:
    """The texts of a polars series without nulls."""
    bounds = np.concatenate([[0], np.cumsum(series.str.len_bytes().to_numpy(), dtype=np.int64)])
    data = np.frombuffer("".join(series.to_list()).encode() + bytes(PAD), np.uint8)
    return texts_from(data, bounds)


def texts_from(data: Any, bounds: Any) -> Texts:
    """Texts from their bytes, PAD zeros behind, and their bounds."""
    held = data[: bounds[-1]]
    classes = np.frombuffer(bytearray(held.tobytes().translate(_ascii_classes().tobytes())), np.uint8)
    if not len(held) or held.max() < 128:
        return Texts(data, bounds, classes, ascii=True)
    places = np.flatnonzero(held >= 0xC0)
    found = _classes()[_code_points(data, places)]
    classes[places] = found
    wide = places[(found & SPACE) != 0]
    for further in (1, 2):
        then = wide + further
        then = then[then < len(held)]
        then = then[(held[then] & 0xC0) == 0x80]
        classes[then] |= SPACE
    return Texts(data, bounds, classes, ascii=False)


def without(texts: Texts, cut: Any) -> Texts:
    """The texts without the bytes that `cut`, [B] of bool, names: whole characters."""
    kept = ~cut
    nums = [np.count_nonzero(kept[start:end]) for start, end in pairwise(texts.bounds.tolist())]
    bounds = np.concatenate([[0], np.cumsum(nums, dtype=np.int64)])
    data = np.zeros(int(bounds[-1]) + PAD, np.uint8)
    data[:-PAD] = texts.data[: len(kept)][kept]
    return Texts(data, bounds, texts.classes[kept], texts.ascii)


def batches(frame: Any, limit: int = BATCH_BYTES) -> Iterator[Any]:
    """A frame with a column `text` in slices of about `limit` bytes of text, at least a row each."""
    sizes = frame["text"].str.len_bytes().to_numpy()
    groups = (np.cumsum(sizes) - sizes) // limit
    starts = np.concatenate([[0], np.flatnonzero(np.diff(groups)) + 1, [frame.height]])
    for start, stop in zip(starts[:-1].tolist(), starts[1:].tolist(), strict=True):
        if stop > start:
            yield frame.slice(start, stop - start)


def hash_spans(data: Any, starts: Any, ends: Any) -> Any:
    """A hash of each span of bytes, eight bytes at a time; PAD bytes must lie behind the last span."""
    eights = np.ndarray((len(data) - 7,), np.dtype("<u8"), data, strides=(1,))
    lengths = ends - starts
    found = lengths.astype(np.uint64) * OTHER
    places, left, values = starts, lengths, found
    chosen: Any = slice(None)
    for _ in range(HASHED // 8):
        values = (values ^ (eights[places] & LOW_BYTES[np.minimum(left, 8)])) * MIX
        values ^= values >> np.uint64(29)
        found[chosen] = values
        more = np.flatnonzero(left > 8)
        if not len(more):
            break
        chosen = more if isinstance(chosen, slice) else chosen[more]
        places, left, values = places[more] + 8, left[more] - 8, values[more]
    else:
        for place in chosen.tolist():
            rest = hashlib.blake2b(data[starts[place] : ends[place]].tobytes(), digest_size=8).digest()
            found[place] = int.from_bytes(rest, "little")
    return found * OTHER


def first_equal(keys: Any) -> Any:
    """For each key the place of the first one equal to it, [N].

    A table of places by the keys' upper bits: the first to come owns a slot, those equal to it are settled, and the
    others try again. Each round settles every slot's owner.
    """
    found = np.empty(len(keys), np.int32)
    bits = max(10, len(keys).bit_length() + 1)
    table = np.empty(1 << bits, np.int32)
    factor, shift = int(MIX), np.uint64(64 - bits)
    todo, left = np.arange(len(keys), dtype=np.int32), keys
    while len(todo):
        slots = ((left * np.uint64(factor)) >> shift).view(np.int64)
        table[slots[::-1]] = todo[::-1]
        owners = table[slots]
        found[todo] = owners  # of those that are not equal to their owner, another round says better
        other = np.flatnonzero(keys[owners] != left)
        todo, left = todo[other], left[other]
        factor = factor * int(OTHER) & (1 << 64) - 1
    return found


def _code_points(data: Any, places: Any) -> Any:
    """The characters whose first bytes, none of them ASCII, stand at `places`."""
    first, second, third, fourth = (data[places + further].astype(np.uint32) & 0x3F for further in range(4))
    lead = data[places].astype(np.uint32)
    two = (lead & 0x1F) << 6 | second
    three = (lead & 0x0F) << 12 | second << 6 | third
    four = (lead & 0x07) << 18 | second << 12 | third << 6 | fourth
    del first
    return np.where(lead < 0xE0, two, np.where(lead < 0xF0, three, four))


@cache
def _ascii_classes() -> Any:
    table = np.full(256, MARKED, np.uint8)
    table[0x80:0xC0] = CONTINUED
    for code in range(128):
        character = chr(code)
        if character.isalpha():
            table[code] |= LETTER
        elif character.isspace():
            table[code] = SPACE
        elif not character.isalnum():
            table[code] = 0
    table[[ord(character) for character in ".?!"]] |= TERMINAL
    table[ord("\n")] |= NEWLINE
    return table


@cache
def _classes() -> Any:
    """The class of every code point, asked of polars: its regular expressions know Unicode's properties.

    Behind the first two planes stand ideographs and nothing that these classes name.
    """
    import polars as pl

    table = np.full(0x110000, MARKED, np.uint8)
    table[0x20000:0x40000] |= LETTER
    codes = np.concatenate([np.arange(128, 0xD800), np.arange(0xE000, 0x20000)]).astype("<u4")
    characters = pl.Series(list(codes.tobytes().decode("utf-32-le")))
    for pattern, add, remove in (
        (r"\p{L}", LETTER, 0),
        (r"\p{P}", 0, MARKED),
        (r"\p{STerm}", TERMINAL, 0),
        (r"\s", SPACE, MARKED),
    ):
        found = codes[characters.str.contains(pattern).to_numpy()]
        table[found] = table[found] & np.uint8(255 - remove) | np.uint8(add)
    return table
