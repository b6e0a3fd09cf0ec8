"""Documents that were dropped, a few for each reason, with the signal that decided and its threshold.

It shows nothing of what was taken down: its number only.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from html import escape
from typing import Any

from mantus.data.clean import AUDIT_CHARACTERS, CleanConfig, code_rules, prose_rules
from mantus.data.dedup.cluster import KNOWN, NEAR
from mantus.data.dedup.output import CONTAMINATED
from mantus.data.dedup.takedown import KEPT_REQUESTS, TAKEN_DOWN, Requests, read_requests
from mantus.report.corpus.excerpt import EXCERPT, excerpt, harmless
from mantus.report.corpus.facts import Chain, Made, batches, rows
from mantus.report.sections import count, megabytes

LEDGER = ("id", "source", "url", "reason", "rule", "survivor", "jaccard")


@dataclass(frozen=True, slots=True)
class Reject:
    """One dropped document."""

    url: str
    source: str
    why: str
    """The signal and its threshold, the document it is a copy of, the set it has something of."""
    text: str
    """Its beginning; '' where it is not shown."""


def rejects(made: Chain, num: int) -> str:
    """For each reason of cleaning and deduplication, folded: `num` documents."""
    parts = []
    for stage, sample in ((made.made.get("clean"), _cleaned), (made.made.get("dedup"), _deduplicated)):
        if stage:
            shown = sample(made, stage, num)
            dropped = stage.manifest.stats.get("dropped", {})
            order = sorted(dropped, key=lambda reason: (-dropped[reason]["documents"], reason))
            parts += [_reason(reason, dropped[reason], shown.get(reason, [])) for reason in order]
    return "".join(parts)


def _reason(reason: str, drop: Mapping[str, int], shown: list[Reject]) -> str:
    head = (
        f"<b>{escape(reason.replace('_', ' '))}</b>: {count(drop['documents'], 'document')}, {megabytes(drop['bytes'])}"
    )
    if reason == TAKEN_DOWN:
        return f"<p>{head}; nothing of them is shown.</p>"
    body = "".join(map(_article, shown)) or "<p>No text of them is kept.</p>"
    return f"<details><summary>{head}</summary>{body}</details>"


def _article(reject: Reject) -> str:
    text = excerpt(reject.text) if reject.text else "<p>The text is not shown.</p>"
    why = f"<p class=why>{escape(harmless(reject.why, EXCERPT))}</p>" if reject.why else ""
    where = f"{harmless(reject.url)} ({harmless(reject.source, 40)})"
    return f'<article class="reject"><h3>{escape(where)}</h3>{why}{text}</article>'


def requests(made: Chain) -> Requests:
    """Everything that is known to have been asked to be taken down, with the ids of what went with it."""
    lines: list[str] = []
    for stage in made.corpora:
        lines += stage.manifest.config.get("taken_down", ())
        kept = stage.folder / KEPT_REQUESTS
        lines += kept.read_text(encoding="utf-8").splitlines() if kept.is_file() else ()
    return read_requests(lines)


def _lowest(frames: Iterable[Any], reason: str, num: int) -> Any:
    """For each reason the `num` rows with the smallest ids, each text once; an empty list without frames."""
    import polars as pl

    held = None
    for frame in frames if num else ():
        both = frame if held is None else pl.concat([held, frame])
        texts = both.sort(reason, "id", "url").unique([reason, "id"], keep="first", maintain_order=True)
        held = texts.group_by(reason, maintain_order=True).head(num)
    return [] if held is None else held.iter_rows(named=True)


def _cleaned(made: Chain, stage: Made, num: int) -> dict[str, list[Reject]]:
    """From the audit shard, without what was asked to be taken down afterwards."""
    import polars as pl

    path, asked = stage.folder / "rejects.parquet", requests(made)
    if not path.is_file():
        return {}
    frame = pl.read_parquet(path).filter(pl.col("drop_reason") != TAKEN_DOWN)
    frame = frame.filter(~_taken(frame, asked))
    known = rules(stage.manifest.config)
    found: dict[str, list[Reject]] = {}
    for row in _lowest([frame], "drop_reason", num):
        why = _why(row, known, stage.manifest.config)
        found.setdefault(row["drop_reason"], []).append(Reject(row["url"], row["source"], why, row["text"]))
    return found


def _taken(frame: Any, asked: Requests) -> Any:
    """Whether a row may not be shown; with requests by digest neither is a text that was cut: nobody can tell."""
    met = asked.rules(frame).is_not_null()
    return met | (frame["text"].str.len_chars() >= AUDIT_CHARACTERS) if asked.digests else met


def rules(config: Mapping[str, Any]) -> list[Any]:
    """The rules that an artifact's config asked for; fields that this version does not know are left out."""
    known = {name: value for name, value in config.items() if name in CleanConfig.model_fields}
    settings = CleanConfig.parse({**known, "corpus": "-"}, "clean")
    own = [getattr(settings, name) for name in CleanConfig.model_fields]
    sets = (item.rules() for item in own if hasattr(item, "rules"))
    return [*prose_rules(settings), *code_rules(settings), *(rule for found in sets for rule in found)]  # type: ignore[arg-type]


def _why(row: Mapping[str, Any], known: Iterable[Any], config: Mapping[str, Any]) -> str:
    if row["drop_reason"] == "language":
        return f"told as {row['lang']}; kept: {', '.join(config.get('languages', ()))}"
    for rule in known:
        value = row.get(rule.signal)
        if rule.reason == row["drop_reason"] and value is not None and not rule.low <= value <= rule.high:
            limit = f"at least {rule.low:g}" if value < rule.low else f"at most {rule.high:g}"
            return f"{rule.signal} {value:.4g}, {limit}"
    return ""


def _deduplicated(made: Chain, stage: Made, num: int) -> dict[str, list[Reject]]:
    """From the ledger, with texts from the corpus that was deduplicated."""
    ledger = (frame.filter(frame["reason"] != TAKEN_DOWN) for frame in batches(stage.folder / "ledger.parquet", LEDGER))
    sample = list(_lowest(ledger, "reason", num))
    before = made.read_by_dedup
    texts = rows(before, {row["id"] for row in sample}) if before else {}
    kept = rows(stage, {row["survivor"] for row in sample if row["survivor"]})
    found: dict[str, list[Reject]] = {}
    for row in sample:
        why = _verdict(row, stage.manifest.config, kept.get(row["survivor"], {}).get("url", ""))
        text = texts.get(row["id"], {}).get("text", "")
        found.setdefault(row["reason"], []).append(Reject(row["url"], row["source"], why, text))
    return found


def _verdict(row: Mapping[str, Any], config: Mapping[str, Any], kept: str) -> str:
    if row["reason"] == CONTAMINATED:
        return f"shares a run of {config.get('evaluation_ngram')} words with {harmless(row['rule'] or '')}"
    if not row["survivor"]:
        return ""
    like = f"similarity {row['jaccard']:.4g}, at least {config.get('threshold')}: like"
    what = like if row["reason"] in (NEAR, KNOWN) and row["jaccard"] < 1 else "the same words as"
    return f"{what} {harmless(kept) or row['survivor']}"


def borderline(stage: Made, num: int) -> Iterator[Mapping[str, Any]]:
    """The `num` near duplicates of the ledger that are least like the documents that stand for them."""
    import polars as pl

    held = None
    for frame in batches(stage.folder / "ledger.parquet", LEDGER):
        near = frame.filter(pl.col("reason") == NEAR)
        held = (near if held is None else pl.concat([held, near])).sort("jaccard", "id", "url").head(num)
    yield from () if held is None else held.iter_rows(named=True)
