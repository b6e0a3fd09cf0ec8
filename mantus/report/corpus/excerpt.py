"""Untrusted text made harmless to look at: short, without personal data, with nothing invisible in it.

It does not escape for HTML (who writes markup does), and hides more than cleaning replaces: a page is read by people,
whatever `clean.replace_pii` was.
"""

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from html import escape
from itertools import takewhile

EXCERPT = 600
"""Characters of a document that are shown."""
LINE = 200
"""Characters of a URL or a name that are shown."""
DIFF_WORDS = 1500
"""Words of each text, from the first difference on, that are compared."""
CONTEXT, RUN, HUNKS = 8, 30, 4
"""Words around a difference, words of one that are shown, differences that are shown."""

INVISIBLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u00ad\u061c\u180e\u200b\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\U000e0000-\U000e007f]"
)
"""Control characters, overrides of direction, and letters that are there without being seen."""

PERSONAL = (
    (re.compile(r"[\w.%+-]{1,64}@[\w-]{1,64}(?:\.[\w-]{1,64}){0,8}\.[A-Za-z]{2,}"), "[e-mail]"),
    (re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])"), "[address]"),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]{0,10000}"), "[key]"),
    (re.compile(r"\b(?:AKIA|ASIA|gh[opsu]_|github_pat_|glpat-|xox[abp]-|sk-|hf_)[\w-]{16,}"), "[key]"),
    (re.compile(r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,7}(?: ?[A-Z0-9]{1,3})?\b"), "[number]"),
    (re.compile(r"(?<!\w)(?:\+\d|\(\d)[\d ()./-]{7,20}\d(?!\w)"), "[number]"),
    (re.compile(r"(?<![\w.])\d(?:[ -]?\d){12,18}(?!\w|\.\d)"), "[number]"),
    (re.compile(r"(?<![\w.-])\d{3}[ -]\d{2,3}[ -]\d{4}(?![\w-])"), "[number]"),
)
"""E-mail and IPv4 addresses, keys of services, account, telephone, card and social security numbers."""


def harmless(text: str, limit: int = LINE) -> str:
    """The first `limit` characters of a text: personal data replaced, what cannot be seen named ([U+202E])."""
    cut = text[: 4 * limit]  # what is replaced may be cut in two otherwise
    for pattern, instead in PERSONAL:
        cut = pattern.sub(instead, cut)
    seen = INVISIBLE.sub(lambda found: f"[U+{ord(found[0]):04X}]", cut[:limit])
    left = len(text) - limit
    return f"{seen}\u2026" if left > 0 else seen


def excerpt(text: str) -> str:
    """The beginning of a document as HTML."""
    more = f"<small>the first {EXCERPT} of {len(text):,} characters kept</small>" if len(text) > EXCERPT else ""
    return f'<pre class="excerpt" dir="auto">{escape(harmless(text, EXCERPT))}</pre>{more}'


def difference(left: str, right: str) -> str:
    """Where two texts differ, side by side, as an HTML table; '' when their words are the same."""
    a, b = left.split(), right.split()
    same = sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False)))
    start = max(0, same - CONTEXT)
    a, b = a[start : start + DIFF_WORDS], b[start : start + DIFF_WORDS]
    hunks = [code for code in SequenceMatcher(None, a, b, autojunk=False).get_opcodes() if code[0] != "equal"]
    if not hunks:
        return ""
    rows = [f"<tr>{_side(a, i, j, 'del')}{_side(b, k, m, 'ins')}</tr>" for _, i, j, k, m in hunks[:HUNKS]]
    more = f"<small>and {len(hunks) - HUNKS:,} more differences</small>" if len(hunks) > HUNKS else ""
    head = '<tr><th scope="col">stays</th><th scope="col">went</th></tr>'
    return f'<table class="diff">{head}{"".join(rows)}</table>{more}'


def _side(words: Sequence[str], start: int, end: int, tag: str) -> str:
    changed = _words(words[start : min(end, start + RUN)]) + ("\u2026" if end - start > RUN else "")
    marked = f"<{tag}>{changed}</{tag}>" if changed else "<small>nothing</small>"
    before, after = words[max(0, start - CONTEXT) : start], words[end : end + CONTEXT]
    return f'<td dir="auto">{_words(before)} {marked} {_words(after)}</td>'


def _words(words: Sequence[str]) -> str:
    return escape(harmless(" ".join(words), EXCERPT))
