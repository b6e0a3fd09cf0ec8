"""Signals of the published rule sets: Gopher's quality and repetition, C4's, FineWeb's.

It knows texts and spans, not thresholds. Words stand between white space; a text's lines end with a line feed.
"""

import re
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mantus.data.cleaning.repetition import SEEN_NGRAMS, TOP_NGRAMS, ngram_shares, paragraphs, repeated_spans
from mantus.data.cleaning.spans import (
    LETTER,
    MARKED,
    PAD,
    TERMINAL,
    Spans,
    Texts,
    hash_spans,
    without,
)

STOP_WORDS = (b"the", b"be", b"to", b"of", b"and", b"that", b"have", b"with")
BULLETS = (b"-", b"\xe2\x80\xa2")
ELLIPSES = (b"...", b"\xe2\x80\xa6")
CITATIONS = rb"\[\d*\]|\[edit\]|\[citation needed\]"
POLICIES = (
    *(b"terms of use", b"privacy policy", b"cookie policy"),
    *(b"uses cookies", b"use of cookies", b"use cookies"),
)
POLICY_SIGNS = (b"cookie", b"terms of use", b"privacy policy")
"""One of these is in each of them."""

GOPHER = (
    *("gopher_words", "gopher_word_length", "gopher_hashes", "gopher_ellipses", "gopher_bullet_lines"),
    *("gopher_ellipsis_lines", "gopher_alpha_words", "gopher_stop_words", "gopher_repeated_lines"),
    *("gopher_repeated_line_characters", "gopher_repeated_paragraphs", "gopher_repeated_paragraph_characters"),
    *(f"gopher_top_{num}gram" for num in TOP_NGRAMS),
    *(f"gopher_seen_{num}gram" for num in SEEN_NGRAMS),
)
C4 = ("c4_lorem_ipsum", "c4_curly_brackets", "c4_sentences")
FINEWEB = ("fineweb_terminal_lines", "fineweb_short_lines", "fineweb_repeated_characters", "fineweb_line_breaks")


CLOSING, BLANK = (np.isin(np.arange(256), np.frombuffer(marks, np.uint8)) for marks in (b"\"')]", b" \t"))
"""Bytes that may stand between the end of a sentence and the blank behind it; blanks."""


class LineRules(BaseModel):
    """Which lines C4's rules take out of a text. They decide texts and signals."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    remove_unpunctuated: bool = False
    """Take out lines that do not end as a sentence does. C4 does; FineWeb found that it takes too much."""
    remove_javascript: bool = True
    """Take out lines that speak of JavaScript."""
    remove_policies: bool = True
    """Take out lines that speak of cookies, policies and terms of use."""
    remove_citations: bool = True
    """Take [1], [edit] and [citation needed] out of lines."""
    min_line_words: int = Field(default=3, ge=0)
    """Lines with fewer words are taken out."""
    max_line_word: int = Field(default=1000, ge=0)
    """Lines with a word of more characters are taken out (0: none)."""


def gopher(texts: Texts, words: Spans, lines: Spans) -> dict[str, Any]:
    """The signals GOPHER, [D] each. Shares are 0 to 1."""
    hashes = texts.hashes(words)
    flags = texts.any_class(words)
    lengths = texts.characters(words.starts, words.ends)
    marked = (flags & MARKED) != 0  # not of punctuation alone
    num_words, num_lines = np.maximum(words.nums, 1), np.maximum(lines.nums, 1)
    num_marked = words.total(marked)
    full = lines.where(lines.ends > lines.starts)  # several line ends count as one
    line_hashes = texts.hashes(full)
    blocks, block_hashes = paragraphs(full, line_hashes)
    repeated_lines, line_characters = repeated_spans(texts, full, line_hashes)
    repeated_blocks, block_characters = repeated_spans(texts, blocks, block_hashes)
    sizes = np.maximum(texts.sizes, 1)
    values = (
        *(num_marked, words.total(np.where(marked, lengths, 0)) / np.maximum(num_marked, 1)),
        *(texts.count(b"#") / num_words, sum(texts.count(sign) for sign in ELLIPSES) / num_words),
        *(lines.total(_bullets(texts, words, lines)) / num_lines, lines.total(_trailing_off(texts, lines)) / num_lines),
        *(words.total((flags & LETTER) != 0) / num_words, _stop_words(words, hashes)),
        *(repeated_lines / np.maximum(full.nums, 1), line_characters / sizes),
        *(repeated_blocks / np.maximum(blocks.nums, 1), block_characters / sizes),
    )
    named = dict(zip(GOPHER[: len(values)], values, strict=True))
    return {**named, **{f"gopher_{name}": share for name, share in ngram_shares(texts, words, hashes).items()}}


def fineweb(texts: Texts, short: int) -> dict[str, Any]:
    """The signals FINEWEB, [D] each. short: characters up to which a line is short."""
    words, lines = texts.words(), texts.lines()
    firsts = np.searchsorted(words.starts, lines.starts)
    lines = lines.where(np.searchsorted(words.starts, lines.ends) > firsts)  # those with a word in them
    num_lines = np.maximum(lines.nums, 1)
    terminal = (texts.last_classes(lines) & TERMINAL) != 0
    brief = texts.characters(lines.starts, lines.ends) <= short
    _, repeated = repeated_spans(texts, lines, texts.hashes(lines))
    breaks = texts.count(b"\n")
    values = (
        lines.total(terminal) / num_lines,
        lines.total(brief) / num_lines,
        repeated / np.maximum(texts.sizes - breaks, 1),
        breaks / np.maximum(words.nums, 1),
    )
    return dict(zip(FINEWEB, values, strict=True))


def c4(texts: Texts, words: Spans, rules: LineRules) -> tuple[Texts, dict[str, Any]]:
    """The texts without the lines that C4 takes out, and the signals C4, of lines that got as far as each rule.

    Lines that stay lose the blanks around them, and citations as Wikipedia has them.
    """
    cut = _citations(texts) if rules.remove_citations else None
    if cut is not None:
        texts = without(texts, cut)
        words = texts.words()
    lines = texts.lines()
    firsts = np.searchsorted(words.starts, np.append(lines.starts, texts.bounds[-1]))
    inner = Spans(words.starts, words.ends, firsts)
    stays = inner.nums >= rules.min_line_words
    if rules.max_line_word:
        stays &= _longest(texts, words, inner, rules.max_line_word) <= rules.max_line_word
    breaks, lines = lines.ends, _trimmed(words, lines, inner)
    if rules.remove_unpunctuated:
        stays &= _punctuated(texts, lines)
    lower = texts.raw.lower()
    doomed = stays & _lines_with(lower, b"lorem ipsum", lines)
    if rules.remove_javascript:
        stays &= ~_lines_with(lower, b"javascript", lines)
    bracketed = stays & _lines_with(lower, b"{", lines)
    if rules.remove_policies:
        for phrase in POLICIES if any(sign in lower for sign in POLICY_SIGNS) else ():
            stays &= ~_lines_with(lower, phrase, lines)
    sentences = np.where(stays & (lines.ends > lines.starts), 1 + _boundaries(texts, lines), 0)
    signals = dict(zip(C4, (lines.total(doomed), lines.total(bracketed), lines.total(sentences)), strict=True))
    return _with_lines(texts, lines, breaks, stays), signals


def edited(texts: Texts, rules: LineRules) -> Any:
    """The texts that `c4` gives, as a polars series."""
    return c4(texts, texts.words(), rules)[0].strings()


def _with_lines(texts: Texts, lines: Spans, breaks: Any, stays: Any) -> Texts:
    """The texts of the lines that stay, a line end between them. breaks: where each line's end stands."""
    kept = _inside(len(texts.classes), lines.starts[stays], lines.ends[stays])
    before = np.concatenate([[0], np.cumsum(stays)])
    followed = stays & (before[1:] < np.repeat(before[lines.bounds[1:]], lines.nums))
    kept[breaks[followed]] = True
    return without(texts, ~kept)


def _equal(data: Any, places: Any, wanted: bytes) -> Any:
    """Whether `wanted` stands at each place."""
    found = data[places] == wanted[0]
    for further in range(1, len(wanted)):
        found &= data[places + further] == wanted[further]
    return found


def _bullets(texts: Texts, words: Spans, lines: Spans) -> Any:
    """Whether each line starts with a bullet, behind white space."""
    places = np.append(words.starts, len(texts.classes))[np.searchsorted(words.starts, lines.starts)]
    found = _equal(texts.data, places, BULLETS[0])
    if not texts.ascii:
        found |= _equal(texts.data, places, BULLETS[1])
    return found & (places < lines.ends)


def _trailing_off(texts: Texts, lines: Spans) -> Any:
    """Whether each line ends with an ellipsis; blanks at the ends of lines are gone by now."""
    long = lines.ends - lines.starts >= 3
    places = np.where(long, lines.ends - 3, 0)
    found = _equal(texts.data, places, ELLIPSES[0])
    if not texts.ascii:
        found |= _equal(texts.data, places, ELLIPSES[1])
    return found & long


def _stop_words(words: Spans, hashes: Any) -> Any:
    """How many different stop words each text has."""
    data = np.frombuffer(b"".join(STOP_WORDS) + bytes(PAD), np.uint8)
    ends = np.cumsum([len(word) for word in STOP_WORDS])
    wanted = hash_spans(data, ends - [len(word) for word in STOP_WORDS], ends)
    bits = np.zeros(len(words), np.uint8)
    for place, value in enumerate(wanted):
        bits |= (hashes == value).astype(np.uint8) << np.uint8(place)
    return np.bitwise_count(words.most(bits, np.bitwise_or))


def _trimmed(words: Spans, lines: Spans, inner: Spans) -> Spans:
    """The lines without white space around them. inner: the words of each line."""
    full = inner.nums > 0
    starts, ends = lines.starts.copy(), lines.starts.copy()
    starts[full] = words.starts[inner.bounds[:-1][full]]
    ends[full] = words.ends[inner.bounds[1:][full] - 1]
    return Spans(starts, ends, lines.bounds)


def _inside(size: int, starts: Any, ends: Any) -> Any:
    """Which of `size` bytes are in the spans, in order and none within another, [size] of bool."""
    edges = np.empty(2 * len(starts) + 1, np.int64)
    edges[:-1:2], edges[1::2], edges[-1] = starts, ends, size
    flags = np.zeros(len(edges), np.bool_)
    flags[1::2] = True
    return np.repeat(flags, np.diff(edges, prepend=0))


def _citations(texts: Texts) -> Any:
    """Which bytes are citations, [B] of bool; None where none is."""
    places = [found.span() for found in re.finditer(CITATIONS, texts.raw)]
    if not places:
        return None
    starts, ends = np.array(places).T
    return _inside(len(texts.classes), starts, ends)


def _longest(texts: Texts, words: Spans, inner: Spans, limit: int) -> Any:
    """Characters of the longest word of each line; bytes where they are within the limit too."""
    num_bytes = words.ends - words.starts
    if len(words) and num_bytes.max() > limit:
        return inner.most(texts.characters(words.starts, words.ends))
    return inner.most(num_bytes)


def _punctuated(texts: Texts, lines: Spans) -> Any:
    """Whether each line ends as a sentence does, and not with three full stops."""
    places = np.maximum(lines.ends - 1, 0)
    ends = np.isin(texts.data[places], np.frombuffer(b".?!\"'", np.uint8))
    dots = (lines.ends - lines.starts >= 3) & _equal(texts.data, np.maximum(lines.ends - 3, 0), ELLIPSES[0])
    return ends & (lines.ends > lines.starts) & ~dots


def _lines_with(lower: bytes, phrase: bytes, lines: Spans) -> Any:
    """Whether each line has a phrase, [lines] of bool."""
    found, places = np.zeros(len(lines), np.bool_), []
    place = lower.find(phrase)
    while place >= 0:
        line = int(np.searchsorted(lines.starts, place, side="right")) - 1
        places.append(line)
        place = lower.find(phrase, int(lines.ends[line]))  # one in a line is enough
    found[places] = True
    return found


def _boundaries(texts: Texts, lines: Spans) -> Any:
    """Ends of sentences within each line: . ! or ?, up to three closing marks, white space."""
    places = np.flatnonzero(texts.classes & TERMINAL)
    places = places[texts.data[places] < 128] + 1
    for _ in range(3):
        places = places + CLOSING[texts.data[places]]
    places = places[BLANK[texts.data[places]]]
    places = np.unique(places)
    return np.searchsorted(places, lines.ends) - np.searchsorted(places, lines.starts)
