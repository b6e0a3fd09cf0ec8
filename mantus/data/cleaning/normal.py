"""The form of a text: Unicode, line ends and white space made one, with code and tables left as they are drawn.

It knows characters and lines, not what makes a text good.
"""

import re
from collections.abc import Sequence
from typing import Any

GAP = re.compile(r"(?<=\S)(?:[ \xa0]{2,}|[ \xa0]*\t[ \t\xa0]*)(?=\S)")
"""White space that sets cells apart."""
RUN = re.compile(r"(\S)[ \t\xa0]{2,}(?=\S)")
FENCE = re.compile(r"\s{0,3}(```|~~~)")
INDENTED = ("    ", "\t")
DRAWN = re.compile(r"\|.*\||[\u2500-\u257f]|\+[-=]{2,}")
"""Tables drawn with bars, frames or plus signs."""

COMPOSED = r"[^\x{0}-\x{2ff}\x{400}-\x{482}\x{2010}-\x{2027}\x{2190}-\x{2328}\x{2500}-\x{25ff}\x{4e00}-\x{9fff}]"
"""Characters that Unicode's form C may change, alone or with the one before, and many that it leaves alone."""


def normalise(text: Any, form: Any, keep_layout: bool = False) -> Any:
    """Unicode NFC, unix line ends, no control or invisible characters, at most two line ends in a row.

    Joiners and marks of direction stay. Runs of blanks inside a line of prose become one; indentation stays, and so
    does all that code means. keep_layout: runs of blanks stay in tables and code within prose too, and gaps of two
    empty lines.
    """
    import polars as pl

    plain = (
        _composed(text)
        .str.replace_all("\r\n?", "\n")
        .str.replace_all(r"[\x00-\x08\x0b-\x1f\x7f\x{200b}\x{2060}\x{feff}\x{ad}]", "")
        .str.replace_all(r"(?m)[ \t]+$", "")
        .str.replace_all(r"\n{4,}", "\n\n\n")
        .str.strip_chars("\n")
    )
    if keep_layout:
        drawn = (form != "code") & plain.str.contains(r"\S[ \t\x{a0}]{2,}|\S\t")
        texts = plain.to_list()
        for place in drawn.arg_true().to_list():
            texts[place] = _collapsed(texts[place])
        return pl.Series("text", texts, pl.String)
    prose = plain.str.replace_all(r"(\S)[ \t\x{a0}]{2,}", "$1 ").str.replace_all(r"\n{3,}", "\n\n")
    return pl.select(pl.when(form == "code").then(plain).otherwise(prose).alias("text")).to_series()


def _composed(text: Any) -> Any:
    """NFC. Texts of characters that neither compose nor have another form, most by far, are left alone."""
    import polars as pl

    other = text.str.contains(COMPOSED)
    composed = text.filter(other).str.normalize("NFC")
    return text.scatter(other.arg_true(), composed) if len(composed) else pl.Series(text)


def _collapsed(text: str) -> str:
    """A text with runs of blanks made one, but for lines where they mean something."""
    lines = text.split("\n")
    kept = _layout(lines)
    return "\n".join(line if keep else RUN.sub(r"\1 ", line) for line, keep in zip(lines, kept, strict=True))


def _layout(lines: Sequence[str]) -> list[bool]:
    """Which lines are code within fences or indented, or rows of tables: drawn, or columns as a neighbour has them."""
    cells = [_cells(line) for line in lines]
    kept, fence, before = [], "", ""
    for number, line in enumerate(lines):
        mark = FENCE.match(line)
        fenced = bool(fence)
        if mark and not fence:
            fence = mark[1]
        elif mark and mark[1] == fence:
            fence = ""
        neighbours = cells[number - 1 : number] + cells[number + 1 : number + 2]
        columns = any(cells[number] & other for other in neighbours)
        indented = line.startswith(INDENTED) and (not before or before.startswith(INDENTED))
        kept.append(fenced or columns or indented or bool(DRAWN.search(line)))
        before = line
    return kept


def _cells(line: str) -> frozenset[tuple[str, int]]:
    """Where the cells of a line begin and end, were it a row of a table; nothing where it has no gap."""
    gaps = list(GAP.finditer(line))
    ends = [gap.start() for gap in gaps] + [len(line)] * bool(gaps)
    return frozenset([*(("begins", gap.end()) for gap in gaps), *(("ends", end) for end in ends)])
