"""The form of texts: what normalising changes and what it must not, and what of persons is replaced."""

import time

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.data.cleaning.normal import COMPOSED, normalise
from mantus.data.cleaning.personal import PATTERNS, columns, counted, replace

MARKDOWN = """# Title

| name   | value |
|--------|-------|
| a      |   1   |

Some  prose  here.

```python
def f(x):
    return  x


y  =  1
```

    indented  = code
    more      = code

Prose  again."""

COLUMNS = """USER       PID  %CPU
root         1   0.0
daemon      42   1.5

one  gap in prose
and none here."""


def made(text: str, form: str = "prose", keep_layout: bool = False) -> str:
    found: str = normalise(pl.Series([text]), pl.Series([form]), keep_layout)[0]
    return found


def test_tables_and_code_in_prose_stay_as_they_are_drawn():
    found = made(MARKDOWN, keep_layout=True)
    assert found == MARKDOWN.replace("Some  prose  here.", "Some prose here.").replace("Prose  again.", "Prose again.")
    columns = made(COLUMNS, keep_layout=True)
    assert columns.split("\n")[:3] == COLUMNS.split("\n")[:3]
    assert columns.split("\n")[4] == "one gap in prose"


def test_tabs_between_cells_stay():
    table = "a\tb\tc\nd\te\tf"
    assert made(table, keep_layout=True) == table
    assert made("a\t\tb\nprose", keep_layout=True) == "a b\nprose", "one line is no table"


@settings(max_examples=300, deadline=None)
@given(st.text(st.sampled_from("ab |+-\t\n\u00a0`~="), max_size=80), st.sampled_from(["prose", "code"]))
def test_keeping_layout_twice_changes_nothing_more(text: str, form: str):
    once = made(text, form, keep_layout=True)
    assert made(once, form, keep_layout=True) == once


@pytest.mark.parametrize("form", ["prose", "code"])
@pytest.mark.parametrize(
    ("what", "text"),
    [
        ("CJK with its own blanks and marks", "\u4f60\u597d\u3000\u4e16\u754c\u3002\u300c\u5f15\u7528\u300d"),
        ("Hangul", "\ud55c\uae00 \ubb38\uc7a5"),
        ("marks that compose with nothing", "q\u0307 x\u0323\u0302 \u0928\u093f"),
        ("marks of direction", "\u200fabc\u200e \u202babc\u202c \u2067abc\u2069"),
        ("a family joined by joiners", "\U0001f468\u200d\U0001f469\u200d\U0001f467"),
        (
            "joiners and non-joiners in words",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645 \u0915\u094d\u200d\u0937",
        ),
        ("variation selectors", "\u2764\ufe0f \u845b\U000e0100"),
        ("ligatures and width", "\ufb01 \uff21 \u00bd"),
        ("indentation", "a\n    b\n\tc"),
    ],
)
def test_what_means_something_stays(what: str, text: str, form: str):
    assert made(text, form) == text


def test_characters_are_composed_and_invisible_ones_go():
    assert made("e\u0301 \u1112\u1161\u11ab \u2126 \u212b") == "\u00e9 \ud55c \u03a9 \u00c5"
    assert made("so\u00adft ze\u200bro \ufeffbom wo\u2060rd b\x07ell") == "soft zero bom word bell"


def test_texts_that_are_left_alone_are_composed_already():
    codes = [chr(code) for code in range(0x20000) if not 0xD800 <= code < 0xE000]
    frame = pl.DataFrame({"text": codes, "code": codes})
    alone = frame.filter(~pl.col("text").str.contains(COMPOSED))
    assert alone.height > 20_000
    assert alone["text"].str.normalize("NFC").to_list() == alone["text"].to_list()
    behind = "a" + alone["text"]
    assert behind.str.normalize("NFC").to_list() == behind.to_list(), "one composes with the letter before it"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        ("ipv6", "at 2606:4700:4700::1111, port 53", "at 2001:db8::1, port 53"),
        ("ipv6", "2a00:1450:4001:0824:0000:0000:0000:200e", "2001:db8::1"),
        ("ipv6", "fe80::1, ::1, 2001:db8::7, std::vector, ab::cd, 2024:01:02, 3:30:45", None),
        ("phone", "call +49 30 901820-00 or (212) 555-1234.", "call +1 202-555-0100 or +1 202-555-0100."),
        ("phone", "212-555-1234 and 415.555.2671", "+1 202-555-0100 and +1 202-555-0100"),
        ("phone", "1.2.3, 2024-01-02, 10.1109/5.771073, 0.123456789, 978-3-16-148410-0, +1 and +2", None),
        ("iban", "DE89 3704 0044 0532 0130 00 or GB82WEST12345698765432",
         "{0} or {0}".format(PATTERNS["iban"].instead)),
        ("iban", "DE89 3704 0044 0532 0130 01 is wrong, AB12CDEF34567890 too", None),
        ("card", "4111 1111 1111 1111, 378282246310005", "4242 4242 4242 4242, 4242 4242 4242 4242"),
        ("card", "4111 1111 1111 1112, 0000 0000 0000 0000, 1234567812345678", None),
        ("secret", "key = 'AKIAIOSFODNN7EXAMPLE'", "key = 'removed_secret'"),
        ("secret", "token: ghp_" + "a1B2" * 9, "token: removed_secret"),
        ("secret", "x\n-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabc=\n-----END RSA PRIVATE KEY-----\ny",
         "x\nremoved_secret\ny"),
        ("secret", "-----BEGIN PUBLIC KEY-----\nMIIE\n-----END PUBLIC KEY----- AKIA ghp_short", None),
    ],
)  # fmt: skip
def test_what_is_a_persons_or_opens_a_door_is_replaced(kind: str, text: str, expected: str | None):
    found, num = replace(text, PATTERNS[kind])
    assert found == (expected or text)
    assert (num > 0) == (expected is not None)
    assert replace(found, PATTERNS[kind]) == (found, 0), "what stands instead is no find"
    frame = counted(pl.DataFrame({"text": [text, "nothing here"]}), False, (kind,))  # type: ignore[arg-type]
    assert frame["text"].to_list() == [found, "nothing here"]
    assert frame[PATTERNS[kind].column].to_list() == [num, 0]


def test_nothing_more_is_looked_for_unless_asked():
    text = "Jane, +49 30 90182000, 4111 1111 1111 1111, AKIAIOSFODNN7EXAMPLE"
    frame = counted(pl.DataFrame({"text": [text]}), True, ())
    assert frame["text"].to_list() == [text]
    assert frame.columns == ["text", *columns(())]


@pytest.mark.parametrize("kind", PATTERNS)
@pytest.mark.parametrize(
    "unit", ["-----BEGIN PRIVATE KEY-----\n", "2001:", "+1 ", "4111-", "DE89 3704 ", "AKIA", "1", ":", "\\n-", "ghp_"]
)
def test_no_text_keeps_a_pattern_busy(kind: str, unit: str):
    start = time.process_time()
    replace(unit * (300_000 // len(unit)), PATTERNS[kind])
    assert time.process_time() - start < 5
