"""Thresholds: the rules that turn signals into reasons to drop, and what each published set of rules asks for.

It knows names of signals and reasons, not how a signal is computed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from mantus.data.cleaning.published import LineRules

RuleSet = Literal["mantus", "gopher", "c4", "fineweb"]


@dataclass(frozen=True, slots=True)
class Rule:
    """Drop a document whose signal is outside [low, high]."""

    reason: str
    signal: str
    low: float = float("-inf")
    high: float = float("inf")
    english: bool = False
    """Only for what is written in English."""


class Gopher(BaseModel):
    """Quality and repetition as in Rae et al. 2021 (arXiv 2112.11446), section A1.1."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    min_words: int = 50
    """Words that are not punctuation alone, at least."""
    max_words: int = 100_000
    """The same, at most."""
    min_word_length: float = 3
    """Mean characters of such words, at least."""
    max_word_length: float = 10
    """The same, at most."""
    max_hashes: float = 0.1
    """Number signs per word."""
    max_ellipses: float = 0.1
    """Ellipses per word."""
    max_bullet_lines: float = 0.9
    """Share of lines that start with a bullet."""
    max_ellipsis_lines: float = 0.3
    """Share of lines that end with an ellipsis."""
    min_alpha_words: float = 0.8
    """Share of words with a letter in them."""
    min_stop_words: int = 2
    """Different ones of eight commonest English words; for English only."""
    max_repeated_lines: float = 0.3
    """Share of lines that stood before."""
    max_repeated_line_characters: float = 0.2
    """Their share of characters."""
    max_repeated_paragraphs: float = 0.3
    """Share of paragraphs that stood before."""
    max_repeated_paragraph_characters: float = 0.2
    """Their share of characters."""
    max_top_ngrams: tuple[float, float, float] = (0.2, 0.18, 0.16)
    """Share of characters in the commonest run of 2, 3, 4 words."""
    max_seen_ngrams: tuple[float, float, float, float, float, float] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.1)
    """Share of characters in runs of 5 to 10 words that came before."""

    def rules(self) -> list[Rule]:
        """Repetition first, as FineWeb does, then quality."""
        return [
            Rule("gopher: repeated paragraphs", "gopher_repeated_paragraphs", high=self.max_repeated_paragraphs),
            Rule(
                "gopher: repeated paragraphs",
                "gopher_repeated_paragraph_characters",
                high=self.max_repeated_paragraph_characters,
            ),
            Rule("gopher: repeated lines", "gopher_repeated_lines", high=self.max_repeated_lines),
            Rule("gopher: repeated lines", "gopher_repeated_line_characters", high=self.max_repeated_line_characters),
            *_numbered("gopher: top {}-grams", "gopher_top_{}gram", 2, self.max_top_ngrams),
            *_numbered("gopher: repeated {}-grams", "gopher_seen_{}gram", 5, self.max_seen_ngrams),
            Rule("gopher: too few words", "gopher_words", low=self.min_words),
            Rule("gopher: too many words", "gopher_words", high=self.max_words),
            Rule("gopher: word length", "gopher_word_length", self.min_word_length, self.max_word_length),
            Rule("gopher: number signs", "gopher_hashes", high=self.max_hashes),
            Rule("gopher: ellipses", "gopher_ellipses", high=self.max_ellipses),
            Rule("gopher: bullet lines", "gopher_bullet_lines", high=self.max_bullet_lines),
            Rule("gopher: ellipsis lines", "gopher_ellipsis_lines", high=self.max_ellipsis_lines),
            Rule("gopher: few words with letters", "gopher_alpha_words", low=self.min_alpha_words),
            Rule("gopher: few stop words", "gopher_stop_words", low=self.min_stop_words, english=True),
        ]


class C4(LineRules):
    """Lines taken out of a text, and rules on what is left, as in Raffel et al. 2020 (JMLR 21-074), section 2.2."""

    drop_lorem_ipsum: bool = True
    """Drop documents with the words in a line that would stay."""
    drop_curly_brackets: bool = True
    """Drop documents with an opening one in a line that would stay."""
    min_sentences: int = Field(default=5, ge=0)
    """Sentences in the lines that stay, at least."""

    def lines(self) -> LineRules:
        """The part that decides texts and signals."""
        return LineRules(**{name: getattr(self, name) for name in LineRules.model_fields})

    def rules(self) -> list[Rule]:
        """What is asked of the lines that stay."""
        return [
            *([Rule("c4: lorem ipsum", "c4_lorem_ipsum", high=0)] if self.drop_lorem_ipsum else []),
            *([Rule("c4: curly brackets", "c4_curly_brackets", high=0)] if self.drop_curly_brackets else []),
            Rule("c4: too few sentences", "c4_sentences", low=self.min_sentences),
        ]


class FineWeb(BaseModel):
    """What FineWeb adds (arXiv 2406.17557, section 3.6)."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    min_terminal_lines: float = 0.12
    """Share of lines that end as a sentence does."""
    short_line: int = Field(default=30, ge=0)
    """Characters up to which a line is short; decides a signal."""
    max_short_lines: float = 0.67
    """Share of short lines."""
    max_repeated_characters: float = 0.01
    """Share of characters in lines that stood before."""
    max_line_breaks: float = 0.3
    """Line ends per word."""

    def rules(self) -> list[Rule]:
        """In the order of FineWeb."""
        return [
            Rule("fineweb: unpunctuated lines", "fineweb_terminal_lines", low=self.min_terminal_lines),
            Rule("fineweb: short lines", "fineweb_short_lines", high=self.max_short_lines),
            Rule("fineweb: repeated lines", "fineweb_repeated_characters", high=self.max_repeated_characters),
            Rule("fineweb: list", "fineweb_line_breaks", high=self.max_line_breaks),
        ]


def first_reason(rules: Sequence[Rule]) -> Any:
    """The reason of the first rule that a row breaks; null when it keeps them all. A null signal keeps its rule."""
    import polars as pl

    broken = [
        pl.when(_broken(rule) & ((pl.col("lang") == "en") | (not rule.english))).then(pl.lit(rule.reason))
        for rule in rules
    ]
    return pl.coalesce([*broken, pl.lit(None, dtype=pl.String)])


def _broken(rule: Rule) -> Any:
    import polars as pl

    return (pl.col(rule.signal) < rule.low) | (pl.col(rule.signal) > rule.high)


def _numbered(reason: str, signal: str, first: int, limits: Sequence[float]) -> list[Rule]:
    numbers = range(first, first + len(limits))
    return [Rule(reason.format(n), signal.format(n), high=high) for n, high in zip(numbers, limits, strict=True)]
