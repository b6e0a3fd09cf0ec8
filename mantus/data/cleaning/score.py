"""Score documents: texts in their final form, and the signals of every rule set asked for, written once.

It knows no threshold: a config with other thresholds finds the signals of an earlier run (`kept_signals`).
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mantus.data.cleaning import personal, published
from mantus.data.cleaning.classifier import Classifier
from mantus.data.cleaning.normal import normalise
from mantus.data.cleaning.published import LineRules
from mantus.data.cleaning.signals import SIGNALS, add_signals
from mantus.data.cleaning.spans import batches, texts_of
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute
from mantus.storage.phase import find

KIND = "signals"
"""The artifact: `part-%05d.parquet`, for each document of a corpus, in order, its language, counts and signals."""

LANGUAGE_SAMPLE = 2000
"""Characters of a text that its language is told by."""

PUBLISHED = {"gopher": published.GOPHER, "c4": published.C4, "fineweb": published.FINEWEB}
QUALITY = "quality"


class Scoring(PhaseConfig):
    """Everything that decides texts and signals; what is not asked for is at its default."""

    corpus: ArtifactURI = ""
    """The corpus."""
    classifier: ArtifactURI = ""
    """What gives the signal `quality`."""
    replace_pii: bool = True
    """Replace addresses."""
    replace_also: tuple[personal.Kind, ...] = ()
    """Replace more."""
    keep_layout: bool = False
    """Leave tables and code in prose as they are drawn."""
    rules: tuple[str, ...] = ("mantus",)
    """Rule sets, sorted."""
    lines: LineRules = LineRules()
    """Lines that C4 takes out."""
    short_line: int = 30
    """FineWeb's short line."""

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of a document that scoring adds or decides, but for its text."""
        return ("lang", *personal.columns(self.replace_also), *SIGNALS, *_asked(self))


def _asked(scoring: Scoring) -> tuple[str, ...]:
    """The signals that are not always there, float64 each."""
    published_ones = (name for rules in PUBLISHED if rules in scoring.rules for name in PUBLISHED[rules])
    return (*published_ones, *((QUALITY,) if scoring.classifier else ()))


def score(frame: Any, scoring: Scoring, classifier: Classifier | None = None) -> Any:
    """The frame (columns text, form, lang) with texts in their final form and the columns of `scoring`, in order.

    Signals of a published rule set, and `quality`, are null for code; so are most of Mantus' own for prose where
    nobody asks for them.
    """
    import polars as pl

    columns = tuple(dict.fromkeys((*frame.columns, *scoring.columns)))
    frame = _normal(frame, scoring).with_row_index("row")
    frame = frame.with_columns(_languages(frame))
    own = frame if "mantus" in scoring.rules else frame.filter(pl.col("form") == "code")
    signals = add_signals(own.select("text", "form")).select(own["row"], *SIGNALS)
    frame = frame.join(signals, on="row", how="left", maintain_order="left")
    prose = frame.filter(pl.col("form") != "code")
    if prose.height and (scoring.rules != ("mantus",) or classifier is not None):
        narrow = prose["text"].str.len_bytes() == prose["text"].str.len_chars()  # quicker apart
        halves = (prose.filter(narrow), prose.filter(~narrow))
        found = pl.concat(_scored(part, scoring, classifier) for half in halves for part in batches(half))
        frame = frame.join(found, on="row", how="left", maintain_order="left")
        frame = frame.with_columns(num_words=pl.coalesce("num_words", "words").cast(pl.UInt32))
        if "formed" in frame.columns:
            frame = frame.with_columns(text=pl.coalesce("formed", "text"))
    absent = [pl.lit(None, pl.Float64).alias(name) for name in scoring.columns if name not in frame.columns]
    return frame.with_columns(absent).select(columns)


def form(frame: Any, scoring: Scoring) -> Any:
    """The frame with the texts that `score` gives them, and nothing else."""
    import polars as pl

    columns = frame.columns
    frame = _normal(frame, scoring).with_row_index("row")
    if "c4" not in scoring.rules:
        return frame.select(columns)
    found = [
        pl.DataFrame({"row": part["row"], "formed": published.edited(texts_of(part["text"]), scoring.lines)})
        for part in batches(frame.filter(pl.col("form") != "code"))
    ]
    if found:
        frame = frame.join(pl.concat(found), on="row", how="left", maintain_order="left")
        frame = frame.with_columns(text=pl.coalesce("formed", "text"))
    return frame.select(columns)


def kept_signals(scoring: Scoring) -> Manifest | None:
    """The signals that an earlier run with the same scoring left; None where none did."""
    return find(KIND, scoring, __name__)


def keep_signals(scoring: Scoring, files: Sequence[Path]) -> Manifest:
    """Keep the signals of each part for later runs."""
    return execute(KIND, scoring, _linked(files), fetch_inputs=False)


def _linked(files: Sequence[Path]) -> Callable[[Work], dict[str, Any]]:
    def link(work: Work) -> dict[str, Any]:
        for number, path in enumerate(files):
            os.link(path, work.out / f"part-{number:05d}.parquet")
        return {"parts": len(files)}

    return link


def _normal(frame: Any, scoring: Scoring) -> Any:
    import polars as pl

    texts = normalise(frame["text"], frame["form"], scoring.keep_layout)
    frame = frame.with_columns(pl.Series("text", texts))
    return personal.counted(frame, scoring.replace_pii, scoring.replace_also)


def _languages(frame: Any) -> Any:
    import eldc
    import polars as pl

    eldc.init()
    samples = frame["text"].str.slice(0, LANGUAGE_SAMPLE).to_list()
    pairs = zip(samples, frame["form"], frame["lang"], strict=True)
    return pl.Series("lang", [lang if form == "code" else eldc.detect(sample) for sample, form, lang in pairs])


def _scored(part: Any, scoring: Scoring, classifier: Classifier | None) -> Any:
    """What the published rules ask for, of texts of prose: row, words, signals, and `formed` where texts change."""
    import polars as pl

    texts = texts_of(part["text"])
    words = texts.words()
    found: dict[str, Any] = {"row": part["row"], "words": words.nums}
    if classifier is not None:
        found[QUALITY] = classifier.score(part["text"])
    if "gopher" in scoring.rules:
        found |= published.gopher(texts, words, texts.lines())
    if "c4" in scoring.rules:
        texts, signals = published.c4(texts, words, scoring.lines)
        found |= {**signals, "formed": texts.strings()}
    if "fineweb" in scoring.rules:
        found |= published.fineweb(texts, scoring.short_line)
    return pl.DataFrame(found).cast(dict.fromkeys(_asked(scoring), pl.Float64))
