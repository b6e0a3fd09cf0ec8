"""Signals of the published rule sets are what plain Python makes of the same text, word by word and line by line."""

import re
from collections import Counter
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mantus.data.clean import CleanConfig, judge
from mantus.data.cleaning import published
from mantus.data.cleaning.published import LineRules
from mantus.data.cleaning.repetition import SEEN_NGRAMS, TOP_NGRAMS, ngram_shares, paragraphs
from mantus.data.cleaning.rules import C4, FineWeb, Gopher
from mantus.data.cleaning.spans import Spans, Texts, batches, first_equal, texts_of
from tests.data.samples import CODE, PROSE, SENTENCES, frame_of

WORDS = st.sampled_from(
    [
        *("the", "be", "mill", "42", "#", "...", "\u2026", "-", "\u2022", "\u00e9t\u00e9.", "\u4e2d\u6587\u3002"),
        *("{x}", "[1]", "javascript", "Lorem ipsum", "privacy policy", "x" * 9, "y" * 1200, "\U0001f600", "end?"),
        *('so."', "\u2014", "c4!"),
    ]
)
GAPS = st.sampled_from([" ", "\n", "\n\n", "\t", "\u3000", " \u2003 "])
ANY = st.characters(max_codepoint=0x1FFFF, exclude_categories=["Cs"], exclude_characters="\x1c\x1d\x1e\x1f\0")
TEXTS = st.lists(
    st.lists(st.tuples(WORDS, GAPS), max_size=40).map(lambda pairs: "".join(a + b for a, b in pairs).strip("\n")),
    min_size=1,
    max_size=5,
)


def pieces(texts: Texts, spans: Spans) -> list[list[str]]:
    found = [texts.data[start:end].tobytes().decode() for start, end in zip(spans.starts, spans.ends, strict=True)]
    return [found[start:end] for start, end in zip(spans.bounds[:-1], spans.bounds[1:], strict=True)]


@settings(max_examples=300, deadline=None)
@given(st.one_of(TEXTS, st.lists(st.text(ANY), min_size=1)))
@example(["", "a", "", "b", "\u00e9"])
def test_words_and_lines_are_those_of_python(texts: list[str]):
    held = texts_of(pl.Series(texts, dtype=pl.String))
    assert held.strings().to_list() == texts
    words, lines = held.words(), held.lines()
    assert pieces(held, words) == [text.split() for text in texts]
    assert pieces(held, lines) == [text.split("\n") for text in texts]
    assert held.characters(words.starts, words.ends).tolist() == [len(word) for text in texts for word in text.split()]
    assert held.sizes.tolist() == [len(text) for text in texts]
    assert held.count(b"a").tolist() == [text.count("a") for text in texts]
    flat = pl.Series([word for text in texts for word in text.split()], dtype=pl.String)
    assert ((held.any_class(words) & 1) != 0).tolist() == flat.str.contains(r"\p{L}").to_list()


@given(st.lists(st.integers(0, 20), max_size=200))
def test_the_first_equal_one_is_found(keys: list[int]):
    assert first_equal(np.array(keys, np.uint64)).tolist() == [keys.index(key) for key in keys]


@given(TEXTS)
def test_equal_spans_have_equal_hashes_and_others_do_not(texts: list[str]):
    held = texts_of(pl.Series([*texts, "z" * 600, "z" * 601, "z" * 600], dtype=pl.String))
    words = held.words()
    found = dict(zip((word for text in pieces(held, words) for word in text), held.hashes(words).tolist(), strict=True))
    assert len(set(found.values())) == len(found)
    again = texts_of(pl.Series(list(found), dtype=pl.String))
    whole = Spans(again.bounds[:-1], again.bounds[1:], np.arange(len(found) + 1))
    assert dict(zip(found, again.hashes(whole).tolist(), strict=True)) == found


def seen_share(words: list[str], num: int, size: int) -> float:
    """Runs that came before, one behind the other, by a plain set."""
    known, characters, place = set(), 0, 0
    while place <= len(words) - num:
        run = tuple(words[place : place + num])
        if run in known:
            characters += sum(map(len, run))
            place += num
        else:
            known.add(run)
            place += 1
    return characters / max(1, size)


def top_share(words: list[str], num: int, size: int) -> float:
    runs = [" ".join(words[place : place + num]) for place in range(len(words) - num + 1)]
    [(run, count)] = Counter(runs).most_common(1) or [("", 0)]
    return len(run) * count / max(1, size)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(st.sampled_from(["a", "bb", "\u00e9", "ccc"]), max_size=120), min_size=1, max_size=4))
def test_shares_of_ngrams_are_those_of_plain_sets(lists: list[list[str]]):
    texts = [" ".join(words) for words in lists]
    held = texts_of(pl.Series(texts, dtype=pl.String))
    words = held.words()
    found = ngram_shares(held, words, held.hashes(words))
    for row, (text, mine) in enumerate(zip(texts, lists, strict=True)):
        for num in TOP_NGRAMS:
            assert found[f"top_{num}gram"][row] == pytest.approx(top_share(mine, num, len(text)))
        for num in SEEN_NGRAMS:
            assert found[f"seen_{num}gram"][row] == pytest.approx(seen_share(mine, num, len(text)))


def repeated(items: list[str]) -> tuple[int, int]:
    again = [item for place, item in enumerate(items) if item in items[:place]]
    return len(again), sum(map(len, again))


def plain_gopher(text: str) -> dict[str, float]:
    words, lines, blocks = text.split(), text.split("\n"), re.split("\n{2,}", text)
    marked = [word for word in words if not re.fullmatch(r"[-#.{}\[\]?!\"\u2026\u2022\u2014\u3002]+", word)]
    full = [line for line in lines if line]
    size, num_words = max(1, len(text)), max(1, len(words))
    return {
        "gopher_words": len(marked),
        "gopher_word_length": sum(map(len, marked)) / max(1, len(marked)),
        "gopher_hashes": text.count("#") / num_words,
        "gopher_ellipses": (text.count("...") + text.count("\u2026")) / num_words,
        "gopher_bullet_lines": sum(line.lstrip().startswith(("-", "\u2022")) for line in lines) / len(lines),
        "gopher_ellipsis_lines": sum(line.endswith(("...", "\u2026")) for line in lines) / len(lines),
        "gopher_alpha_words": sum(any(map(str.isalpha, word)) for word in words) / num_words,
        "gopher_stop_words": len({"the", "be"} & set(words)),
        "gopher_repeated_lines": repeated(full)[0] / max(1, len(full)),
        "gopher_repeated_line_characters": repeated(full)[1] / size,
        "gopher_repeated_paragraphs": repeated(blocks)[0] / len(blocks) if text else 0,
        "gopher_repeated_paragraph_characters": repeated(blocks)[1] / size,
    }


def plain_fineweb(text: str, short: int = 30) -> dict[str, float]:
    lines = [line for line in text.split("\n") if line.strip()]
    num = max(1, len(lines))
    return {
        "fineweb_terminal_lines": sum(line.endswith((".", "?", "!", "\u3002")) for line in lines) / num,
        "fineweb_short_lines": sum(len(line) <= short for line in lines) / num,
        "fineweb_repeated_characters": repeated(lines)[1] / max(1, len(text.replace("\n", ""))),
        "fineweb_line_breaks": text.count("\n") / max(1, len(text.split())),
    }


@settings(max_examples=300, deadline=None)
@given(TEXTS)
def test_signals_are_those_of_plain_python(texts: list[str]):
    held = texts_of(pl.Series(texts, dtype=pl.String))
    found = {**published.gopher(held, held.words(), held.lines()), **published.fineweb(held, 30)}
    assert set(found) == {*published.GOPHER, *published.FINEWEB}
    for row, text in enumerate(texts):
        for name, value in {**plain_gopher(text), **plain_fineweb(text)}.items():
            assert found[name][row] == pytest.approx(value), (name, text)


def plain_c4(text: str, rules: LineRules) -> tuple[str, int, int, int]:
    """The text without the lines that go; lines with lorem ipsum, with a bracket; sentences."""
    kept, lorem, curly, sentences = [], 0, 0, 0
    for line in text.split("\n"):
        line = re.sub(r"\[\d*\]|\[edit\]|\[citation needed\]", "", line).strip()
        words, lower = line.split(), line.lower()
        ends = line.endswith((".", "?", "!", '"', "'")) and not line.endswith("...")
        if any(len(word) > rules.max_line_word for word in words) or len(words) < rules.min_line_words:
            continue
        if rules.remove_unpunctuated and not ends:
            continue
        lorem += "lorem ipsum" in lower
        if "javascript" in lower:
            continue
        curly += "{" in line
        if "privacy policy" in lower:
            continue
        kept.append(line)
        sentences += len(re.findall(r"[.?!][\"')\]]{0,3}[ \t]", line)) + bool(line)
    return "\n".join(kept), lorem, curly, sentences


@settings(max_examples=300, deadline=None)
@given(TEXTS, st.builds(LineRules, remove_unpunctuated=st.booleans(), min_line_words=st.integers(0, 4)))
def test_c4_takes_out_the_lines_that_plain_python_takes_out(texts: list[str], rules: LineRules):
    held = texts_of(pl.Series(texts, dtype=pl.String))
    edited, signals = published.c4(held, held.words(), rules)
    found = zip(edited.strings().to_list(), *(signals[name].tolist() for name in published.C4), strict=True)
    assert list(found) == [plain_c4(text, rules) for text in texts]
    assert published.edited(held, rules).to_list() == edited.strings().to_list()


def test_paragraphs_are_what_stands_between_empty_lines():
    held = texts_of(pl.Series(["a\nb\n\nc\n\n\nd", "", "a\nb\n\na\nb\n\nb\na"]))
    lines = held.lines()
    full = lines.where(lines.ends > lines.starts)
    blocks, hashes = paragraphs(full, held.hashes(full))
    assert pieces(held, blocks) == [["a\nb", "c", "d"], [], ["a\nb", "a\nb", "b\na"]]
    assert hashes[0] == hashes[3] == hashes[4] != hashes[5]


def test_batches_hold_every_row_once():
    frame = pl.DataFrame({"text": ["a" * size for size in (5, 1, 900, 3, 3, 400, 0)]})
    found = list(batches(frame, 500))
    assert pl.concat(found).equals(frame)
    assert len(found) == 3
    assert not list(batches(frame.clear()))


def reason(text: str, *rules: str, form: str = "prose", **fields: Any) -> str | None:
    config = CleanConfig(corpus="x", rules=rules, languages=(), **fields)  # type: ignore[arg-type]
    found: str | None = judge(frame_of(text, form=form), config)["drop_reason"][0]
    return found


@pytest.mark.parametrize(
    ("expected", "rules", "text"),
    [
        (None, ("gopher", "c4", "fineweb"), PROSE),
        ("gopher: too few words", ("gopher",), " ".join(SENTENCES[:2])),
        ("gopher: repeated lines", ("gopher",), "\n".join([*SENTENCES, *SENTENCES[:3]])),
        ("gopher: repeated paragraphs", ("gopher",), "\n\n".join([*["A line.\nAnother line."] * 6, *SENTENCES])),
        ("gopher: top 2-grams", ("gopher",), PROSE + " " + "".join(f"every evening, {n} " for n in "abcdefghijklmn")),
        ("gopher: repeated 5-grams", ("gopher",), PROSE + " And again: " + " ".join(SENTENCES[:2])),
        ("gopher: few words with letters", ("gopher",), PROSE + " " + " ".join(map(str, range(40)))),
        ("gopher: number signs", ("gopher",), PROSE.replace(" a ", " # # # a ").replace(" the ", " # the ")),
        ("gopher: bullet lines", ("gopher",), "\n".join(f"- {sentence}" for sentence in SENTENCES)),
        ("gopher: ellipsis lines", ("gopher",), "\n".join(sentence.rstrip(".") + "..." for sentence in SENTENCES)),
        ("gopher: few stop words", ("gopher",), "Rivers run past old mills near villages where nobody lives today. " * 1
         + "Many travellers say they saw lights there at night, but nobody ever found anything when they went looking "
         + "again after sunrise; stories grow quickly around empty houses, as every child in our valley learns early, "
         + "and old people smile when asked about such things."),
        ("c4: curly brackets", ("c4",), PROSE + "\n\nint main() { return 0; }"),
        ("c4: lorem ipsum", ("c4",), PROSE + " Lorem ipsum dolor sit amet."),
        ("c4: too few sentences", ("c4",), "\n".join([*SENTENCES[:4], "Please enable JavaScript in your browser."])),
        ("fineweb: unpunctuated lines", ("fineweb",), "\n".join(sentence.rstrip(".") for sentence in SENTENCES)),
        ("fineweb: short lines", ("fineweb",), "\n".join(f"Line {n} of the list." for n in range(40))),
        ("fineweb: repeated lines", ("fineweb",), "\n".join([*SENTENCES, SENTENCES[0]])),
        ("fineweb: list", ("fineweb",), "\n".join("Internationalisation matters-to-everybody." for _ in range(1))
         + "".join(f"\nInternationalisation-matters-to-everybody, case {n}." for n in range(20))),
    ],
)  # fmt: skip
def test_each_published_rule_drops_what_it_says(expected: str | None, rules: tuple[str, ...], text: str):
    assert reason(text, *rules) == expected


def test_the_order_of_rule_sets_is_the_order_of_reasons():
    text = " ".join(SENTENCES[:2]) + " Lorem ipsum."
    assert reason(text, "c4", "gopher") == "c4: lorem ipsum"
    assert reason(text, "gopher", "c4") == "gopher: too few words"
    assert reason(text, "mantus", "c4", min_words=60) == "too few words"
    assert reason(text) is None


def test_thresholds_of_the_published_rules_are_fields():
    assert reason(" ".join(SENTENCES[:2]), "gopher", gopher=Gopher(min_words=5)) is None
    assert reason("\n".join(SENTENCES[:2]), "c4", c4=C4(min_sentences=2)) is None
    assert (
        reason("\n".join([*SENTENCES, SENTENCES[0]]), "fineweb", fineweb=FineWeb(max_repeated_characters=0.5)) is None
    )


def test_code_is_judged_by_its_own_rules_only():
    assert reason(CODE, "gopher", "c4", "fineweb", form="code") is None
    assert reason("x = 1\n", "gopher", form="code") == "too few words"
    frame = judge(frame_of(CODE, form="code"), CleanConfig(corpus="x", rules=("gopher", "c4", "fineweb")))
    names = (*published.GOPHER, *published.C4, *published.FINEWEB)
    assert frame.select(names).null_count().row(0) == (1,) * len(names)
    assert frame["text"][0] == CODE.strip("\n"), "C4 takes no lines out of code"
