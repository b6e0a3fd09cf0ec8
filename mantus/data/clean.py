"""Clean: normalise texts, score them, drop what breaks a rule, and keep account of every drop.

It does not know where documents came from nor which resemble each other (dedup/).
"""

import functools
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus import console
from mantus.data.cleaning import personal
from mantus.data.cleaning.blocklist import BLOCKED, Blocklist, read_blocklist
from mantus.data.cleaning.classifier import Classifier, read_classifier
from mantus.data.cleaning.published import LineRules
from mantus.data.cleaning.rules import C4, FineWeb, Gopher, Rule, RuleSet, first_reason
from mantus.data.cleaning.score import PUBLISHED, QUALITY, Scoring, form, keep_signals, kept_signals, score
from mantus.data.cleaning.spans import batches
from mantus.data.corpus import part_paths, write_table
from mantus.data.dedup.takedown import TAKEN_DOWN, Requests, read_list, requested, whole_text, with_copies
from mantus.data.sources.resolve import Resolved
from mantus.processes import apply_all, num_processors
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute, fetch
from mantus.storage.phase import RUNTIME
from mantus.storage.share import gather, share

KEPT, REJECTS, COUNTS, SIGNALS = "kept.parquet", "rejects.parquet", "counts.parquet", "signals.parquet"
"""What cleaning a part leaves in its folder."""

AUDIT_CHARACTERS = 2000
"""Characters of a rejected text that the audit shard keeps."""
SLICE_BYTES = 4 << 20
"""Bytes of text scored at once: its words, a row each, need some forty times as much memory."""
PARTS_A_WORKER = 2
"""With less to do a process is not worth its start."""


class CleanConfig(PhaseConfig):
    """Normalise, score and filter documents; every drop has a reason."""

    corpus: ArtifactURI
    """The corpus to clean."""
    languages: tuple[str, ...] = ("en",)
    """ISO 639-1 codes of the languages to keep; empty keeps all. Code has none."""
    replace_pii: bool = True
    """Replace e-mail addresses by name@example.com and public IPv4 addresses by 192.0.2.1."""
    replace_also: tuple[personal.Kind, ...] = ()
    """Replace more: ipv6 (public ones), phone, iban and card (where the check digits are right), secret (private keys,
    and tokens of AWS, GitHub, GitLab, Slack, Google)."""
    keep_layout: bool = False
    """Keep runs of blanks in tables and code within prose, which are made one blank otherwise."""
    rules: tuple[RuleSet, ...] = ("mantus",)
    """Rule sets that prose must pass: mantus (thresholds from min_words to max_repeated_ngrams), gopher, c4, fineweb.
    Code has its own."""
    gopher: Gopher = Gopher()
    """Thresholds of the rules gopher (see docs/data.md)."""
    c4: C4 = C4()
    """Lines that the rules c4 take out, and thresholds."""
    fineweb: FineWeb = FineWeb()
    """Thresholds of the rules fineweb."""
    classifier: ArtifactURI = ""
    """A classifier of quality; '' = none."""
    min_quality: float = Field(default=0.5, ge=0, le=1)
    """What the classifier must give to prose, at least; 0 only writes the signal."""
    url_blocklist: str = ""
    """A file of URLs that nothing is taken from, one a line: domains (with subdomains), beginnings of URLs, or a hosts
    file; a path, http(s)://, s3://."""
    min_words: int = 30
    """Fewer words are too little."""
    max_words: int = 100_000
    """More words are too much."""
    min_mean_word_length: float = 3.0
    """Mean characters of a word, at least."""
    max_mean_word_length: float = 10.0
    """Mean characters of a word, at most."""
    max_symbol_ratio: float = 0.1
    """Number signs and ellipses per word."""
    min_alpha_ratio: float = 0.75
    """Share of words with a letter in them."""
    min_stop_words: int = 2
    """Different ones of eight commonest English words; for English only."""
    max_bullet_lines: float = 0.9
    """Share of lines that start with a bullet."""
    max_ellipsis_lines: float = 0.3
    """Share of lines that end with an ellipsis."""
    min_punctuated_lines: float = 0.12
    """Share of lines that end with punctuation."""
    max_duplicate_lines: float = 0.3
    """Share of characters in lines seen before in the document."""
    max_top_2gram: float = 0.2
    """Share of characters in the commonest pair of words."""
    max_top_3gram: float = 0.18
    """Share of characters in the commonest three words."""
    max_top_4gram: float = 0.16
    """Share of characters in the commonest four words."""
    max_repeated_ngrams: float = 0.3
    """Share of runs of five words seen before in the document."""
    min_code_words: int = 20
    """For code: fewer words are too little."""
    max_code_line: int = 1000
    """For code: longest line in characters."""
    max_code_mean_line: float = 100.0
    """For code: mean characters of a line."""
    min_code_alpha: float = 0.25
    """For code: share of characters that are letters."""
    drop_generated: bool = True
    """For code: drop files whose head says that a program wrote them."""
    audit: int = Field(default=20, ge=0)
    """Rejected documents kept for each reason, to be looked at."""
    taken_down: tuple[str, ...] = ()
    """Documents that must be in nothing made from now on: ids, URLs, sha256 of their texts as collected."""
    taken_down_list: str = ""
    """A file of such entries, one a line: a path, http(s)://, s3://. Dedup takes the same, and finds copies."""
    workers: int = Field(default=0, ge=0, json_schema_extra=RUNTIME)
    """Processes that clean at once (0 = one a processor, fewer for little text)."""

    @property
    def scoring(self) -> Scoring:
        """The part that decides texts and signals."""
        return Scoring(
            store=self.store,
            corpus=self.corpus,
            classifier=self.classifier,
            replace_pii=self.replace_pii,
            replace_also=self.replace_also,
            keep_layout=self.keep_layout,
            rules=tuple(sorted(set(self.rules))),
            lines=self.c4.lines() if "c4" in self.rules else LineRules(),
            short_line=self.fineweb.short_line if "fineweb" in self.rules else FineWeb().short_line,
        )


@dataclass(frozen=True, slots=True)
class Refused:
    """What goes whatever its quality."""

    requests: Requests
    blocklist: Blocklist


def run(config: CleanConfig) -> Manifest:
    """Make the cleaned corpus, or find it. ValueError when a list is not there and when nothing is left."""
    listed = requested(config.taken_down_list, "taken_down_list")
    blocked = requested(config.url_blocklist, "url_blocklist")
    references = [item.reference for item in (*listed, *blocked)]
    return execute("clean", config, lambda work: _produce(work, config, listed, blocked), references)


def _produce(work: Work, config: CleanConfig, listed: list[Resolved], blocked: list[Resolved]) -> dict[str, Any]:

    parts = part_paths(work.inputs["corpus"])
    refused = _refused(config, listed, blocked, parts)
    classifier = _classifier(work)
    kept = kept_signals(config.scoring)
    console.emit({"signals": "found" if kept else "made"})
    signals = part_paths(fetch(kept.uri)) if kept else [None] * len(parts)
    folders = [work.scratch / part.stem for part in parts]
    mine = share(len(parts), work)
    tasks = [(parts[n], signals[n], folders[n], config, refused, classifier) for n in mine]
    workers = config.workers or min(num_processors(), len(tasks) // PARTS_A_WORKER)
    with console.progress("clean", work.manifests["corpus"].stats["bytes"] / 1e6, "MB") as bar:
        for megabytes in apply_all(clean_part, tasks, workers, "clean"):
            bar.advance(megabytes)
    gather(work, folders)
    if kept is None:
        keep_signals(config.scoring, [folder / SIGNALS for folder in folders])
    return _gathered(work, folders, config)


def _gathered(work: Work, folders: list[Path], config: CleanConfig) -> dict[str, Any]:
    """The artifact's files from those of its parts; its stats."""
    import polars as pl

    written = [path for folder in folders if (path := folder / KEPT).is_file()]
    if not written:
        raise ValueError(f"corpus: {work.manifests['corpus'].uri}: no document passes the rules")
    for number, path in enumerate(written):
        os.link(path, work.out / f"part-{number:05d}.parquet")
    rejects = functools.reduce(
        lambda before, folder: _sample(pl.concat([before, pl.read_parquet(folder / REJECTS)]), config.audit),
        folders[1:],
        pl.read_parquet(folders[0] / REJECTS),
    )
    write_table(rejects.to_arrow(), work.out / REJECTS)
    counts = pl.concat([pl.read_parquet(folder / COUNTS) for folder in folders])
    return waterfall(counts, personal.columns(config.replace_also))


def _refused(config: CleanConfig, listed: list[Resolved], blocked: list[Resolved], parts: list[Path]) -> Refused:
    requests = with_copies(read_list(listed, config.taken_down, "taken_down_list"), parts)
    lines = [line for item in blocked for line in whole_text(item, "url_blocklist").splitlines()]
    where = f"url_blocklist: {config.url_blocklist}"
    return Refused(requests, read_blocklist(lines, where) if blocked else Blocklist())


def _classifier(work: Work) -> Classifier | None:
    if "classifier" not in work.inputs:
        return None
    try:
        return read_classifier(work.inputs["classifier"])
    except ValueError as error:
        raise ValueError(f"classifier: {work.manifests['classifier'].uri}: {error}") from None


def clean_part(
    part: Path, signals: Path | None, folder: Path, config: CleanConfig, refused: Refused, classifier: Classifier | None
) -> float:
    """Clean a part into `folder`; the MB of text read.

    With the signals of an earlier run its texts stay as they were collected until they are written; else the signals
    are written too.
    """
    import polars as pl

    folder.mkdir(parents=True, exist_ok=True)
    before = pl.read_parquet(part)
    if signals is None:
        scored = pl.concat([score(rows, config.scoring, classifier) for rows in batches(before, SLICE_BYTES)])
        write_table(scored.select(config.scoring.columns).to_arrow(), folder / SIGNALS)
    else:
        scored = before.with_columns(pl.read_parquet(signals))
    judged = verdicts(scored.with_columns(read=before["text"].str.len_bytes()), config)
    return _write_part(judged, folder, config, refused, signals is not None)


def _write_part(judged: Any, folder: Path, config: CleanConfig, refused: Refused, unformed: bool) -> float:
    """Write what is kept of a part, a sample of what is not, and the counts; the MB of text read."""
    import polars as pl

    judged = judged.with_columns(drop_reason=_refusals(judged, refused))
    kept = judged.filter(pl.col("drop_reason").is_null())
    rejects = _sample(judged.filter(pl.col("drop_reason").is_not_null()), config.audit)
    if unformed:
        kept, rejects = form(kept, config.scoring), form(rejects, config.scoring)
    passing = ("read", *personal.columns(config.replace_also))
    if kept.height:
        write_table(kept.drop("drop_reason", *passing).to_arrow(), folder / KEPT)
    shown = pl.when(pl.col("drop_reason") != TAKEN_DOWN).then(pl.col("text").str.slice(0, AUDIT_CHARACTERS))
    rejects = rejects.drop(passing).with_columns(text=shown.otherwise(pl.lit("")))
    write_table(rejects.to_arrow(), folder / REJECTS)
    write_table(_count(judged, kept, passing).to_arrow(), folder / COUNTS)
    return float(judged["read"].sum()) / 1e6


def _refusals(judged: Any, refused: Refused) -> Any:
    """The reasons, with those of documents that were taken down or whose URL is blocked."""
    import polars as pl

    taken, blocked = refused.requests.rules(judged).is_not_null(), refused.blocklist.rules(judged["url"])
    reasons = pl.when(taken).then(pl.lit(TAKEN_DOWN)).when(blocked).then(pl.lit(BLOCKED)).otherwise("drop_reason")
    return judged.select(reasons.alias("drop_reason"))["drop_reason"]


def judge(frame: Any, config: CleanConfig, classifier: Classifier | None = None) -> Any:
    """Documents with texts in their final form, signals, `lang` told, and `drop_reason` (null = keep)."""
    return verdicts(score(frame, config.scoring, classifier), config)


def verdicts(scored: Any, config: CleanConfig) -> Any:
    """Documents with signals and `drop_reason`."""
    import polars as pl

    sets = {"mantus": prose_rules(config), **{name: getattr(config, name).rules() for name in PUBLISHED}}
    prose = [rule for name in dict.fromkeys(config.rules) for rule in sets[name]]
    if config.classifier:
        prose.append(Rule("low quality", QUALITY, low=config.min_quality))
    is_code = pl.col("form") == "code"
    reason = pl.when(is_code).then(first_reason(code_rules(config))).otherwise(first_reason(prose))
    known = pl.col("lang").is_in(list(config.languages)) | (not config.languages)
    told = pl.col("num_words") >= config.min_words  # of less text no language can be told
    language = pl.when(~is_code & ~known & told).then(pl.lit("language"))
    return scored.with_columns(pl.coalesce(language, reason).alias("drop_reason"))


def prose_rules(config: CleanConfig) -> list[Rule]:
    """Rules for prose, cheapest reading first: the first one broken is the reason."""
    return [
        Rule("too few words", "num_words", low=config.min_words),
        Rule("too many words", "num_words", high=config.max_words),
        Rule("word length", "mean_word_length", config.min_mean_word_length, config.max_mean_word_length),
        Rule("symbols", "symbols", high=config.max_symbol_ratio),
        Rule("few words with letters", "alpha_words", low=config.min_alpha_ratio),
        Rule("bullet lines", "bullets", high=config.max_bullet_lines),
        Rule("ellipsis lines", "ellipses", high=config.max_ellipsis_lines),
        Rule("unpunctuated lines", "punctuated_lines", low=config.min_punctuated_lines),
        Rule("lorem ipsum", "lorem_ipsum", high=0),
        Rule("duplicate lines", "duplicate_lines", high=config.max_duplicate_lines),
        Rule("repeated 2-grams", "top_2gram", high=config.max_top_2gram),
        Rule("repeated 3-grams", "top_3gram", high=config.max_top_3gram),
        Rule("repeated 4-grams", "top_4gram", high=config.max_top_4gram),
        Rule("repeated 5-grams", "repeated_ngrams", high=config.max_repeated_ngrams),
        Rule("few stop words", "stop_words", low=config.min_stop_words, english=True),
    ]


def code_rules(config: CleanConfig) -> list[Rule]:
    """Rules for code."""
    generated = [Rule("generated", "generated", high=0)] if config.drop_generated else []
    return [
        Rule("too few words", "num_words", low=config.min_code_words),
        *generated,
        Rule("long lines", "longest_line", high=config.max_code_line),
        Rule("long lines", "mean_line", high=config.max_code_mean_line),
        Rule("few letters", "alpha_characters", low=config.min_code_alpha),
    ]


def _count(judged: Any, kept: Any, passing: tuple[str, ...]) -> Any:
    """Documents and bytes by source and drop_reason (null = kept)."""
    import polars as pl

    groups = judged.group_by("source", "drop_reason", maintain_order=True)
    counts = groups.agg(pl.len().alias("documents"), pl.col(*passing).sum())
    written = kept.group_by("source", "drop_reason").agg(pl.col("text").str.len_bytes().sum().alias("written"))
    return counts.join(written, on=["source", "drop_reason"], how="left", nulls_equal=True, maintain_order="left")


def _sample(rejects: Any, num: int) -> Any:
    """For each reason the `num` rejects with the smallest ids: a sample that does not depend on their order."""
    ordered = rejects.sort("drop_reason", "id", "url")
    return ordered.group_by("drop_reason", maintain_order=True).head(num).select(rejects.columns)


def waterfall(counts: Any, replaced: tuple[str, ...] = personal.COUNTED) -> dict[str, Any]:
    """Stats: what was read, what each reason took, what is left; in all and by source."""
    import polars as pl

    counts = counts.group_by("source", "drop_reason").agg(pl.exclude("source", "drop_reason").sum())
    by_source = {
        name: _stage(counts.filter(pl.col("source") == name), replaced) for name in counts["source"].unique().sort()
    }
    return {**_stage(counts, replaced), "sources": by_source}


def _stage(counts: Any, replaced: tuple[str, ...]) -> dict[str, Any]:
    import polars as pl

    kept = counts.filter(pl.col("drop_reason").is_null())
    dropped = counts.filter(pl.col("drop_reason").is_not_null()).group_by("drop_reason")
    reasons = dropped.agg(pl.col("documents", "read").sum()).sort("drop_reason")
    return {
        "documents_read": int(counts["documents"].sum()),
        "bytes_read": int(counts["read"].sum()),
        "documents": int(kept["documents"].sum()),
        "bytes": int(kept["written"].sum()),
        "dropped": {reason: {"documents": int(n), "bytes": int(size)} for reason, n, size in reasons.iter_rows()},
        "replaced": {name: int(kept[name].sum()) for name in replaced},
    }
