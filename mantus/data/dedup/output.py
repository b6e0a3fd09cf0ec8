"""What dedup leaves: the documents that stay, the index of them, a ledger of those that go, and the account.

It knows verdicts, not how they were come by.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mantus.data.corpus import write_table
from mantus.data.dedup import lines
from mantus.data.dedup.cluster import EXACT, KNOWN, NEAR, Library, Verdict
from mantus.data.dedup.contamination import Search
from mantus.data.dedup.signatures import INDEX, Signed, write_index
from mantus.data.dedup.takedown import KEPT_REQUESTS, TAKEN_DOWN, Requests

BOILERPLATE, CONTAMINATED = "only repeated lines", "contaminated"
REASONS = (EXACT, NEAR, KNOWN, TAKEN_DOWN, BOILERPLATE, CONTAMINATED)
LEDGER = ("id", "source", "url", "bytes", "reason", "rule", "survivor", "jaccard")
DUPLICATES = ("id", "source", "url", "bytes", "kind", "jaccard", "cluster_id", "kept_source", "kept_url")


@dataclass(frozen=True, slots=True)
class Settings:
    """What is done with documents that stay."""

    unit: str
    everywhere: bool
    least: int
    mode: str
    """Repeated units: keep, count or remove."""
    drop_contaminated: bool


@dataclass(frozen=True, slots=True)
class Written:
    """What came of one part."""

    kept: Any
    """For each source: documents that stay, their bytes, before in `read`, and how many units of them repeat."""
    ledger: Any
    """A row of LEDGER for each that goes; `survivor` a number in the library."""


def write(library: Library, verdict: Verdict, settings: Settings, search: Search | None, out: Path) -> dict[str, Any]:
    """Write the parts, their index, `ledger.parquet` and `duplicates.parquet` into `out`; the stats."""
    import polars as pl

    hashes = None
    if settings.mode != "keep":
        frames = (_texts(*item) for item in _parts(library, verdict))
        hashes = lines.repeated(frames, settings.unit, settings.everywhere, settings.least, library.scratch)
    written = []
    for number, (frame, own) in enumerate(_parts(library, verdict)):
        judged = _judged(frame, own, settings, hashes, search)
        stays = judged["reason"].is_null()
        written.append(_written(judged))
        if stays.any():
            kept = sum(bool(part.kept.height) for part in written) - 1
            drop = ["reason", "rule", "survivor", "jaccard", "read", *(["repeated"] if hashes is None else [])]
            write_table(judged.filter(stays).drop(drop).to_arrow(), out / f"part-{kept:05d}.parquet")
            folder = library.corpora[-1].files[number].parent
            write_index(folder, stays.to_numpy(), library.sketch, out / f"{INDEX}{kept:05d}.parquet")
    ledger = _named(pl.concat([part.ledger for part in written]), library)
    write_table(ledger.select(LEDGER).to_arrow(), out / "ledger.parquet")
    write_table(_duplicates(ledger).to_arrow(), out / "duplicates.parquet")
    if ledger.height == len(verdict):
        raise ValueError(f"corpus: no document is left of {len(verdict)}; {_reasons(ledger)}")
    return _stats(library, verdict, pl.concat([part.kept for part in written]), ledger, settings)


def _parts(library: Library, verdict: Verdict) -> Iterator[tuple[Any, Any]]:
    """Each part of the corpus and the verdicts on its documents."""
    import polars as pl

    signed: Signed = library.corpora[-1]
    for number, part in enumerate(signed.parts):
        yield pl.read_parquet(part), verdict.rows(int(signed.bounds[number]), int(signed.bounds[number + 1]))


def _texts(frame: Any, verdict: Any) -> Any:
    return frame.select("text", "form").filter(verdict["reason"].is_null())


def _judged(frame: Any, verdict: Any, settings: Settings, hashes: Any, search: Search | None) -> Any:
    """The part with its verdicts, and those on what is in the texts: rows in the same order."""
    import polars as pl

    frame = frame.with_columns(cluster_id=pl.col("id"), cluster_size=verdict["cluster_size"])
    frame = frame.with_columns(verdict["reason"], verdict["rule"], verdict["survivor"], verdict["jaccard"])
    frame = frame.with_columns(repeated=pl.lit(0, pl.Int64), read=pl.col("text").str.len_bytes().cast(pl.Int64))
    frame = frame.with_row_index("place")
    stays, goes = frame.filter(pl.col("reason").is_null()), frame.filter(pl.col("reason").is_not_null())
    if hashes is not None:
        remove = settings.mode == "remove"
        stays = lines.without(stays.drop("repeated"), hashes, settings.unit, settings.everywhere, remove)
        empty = (pl.col("repeated") > 0) & (pl.col("text").str.strip_chars() == "")
        stays = stays.with_columns(reason=pl.when(empty).then(pl.lit(BOILERPLATE)), rule=pl.lit(None, pl.String))
    if search is not None:
        left = stays.filter(pl.col("reason").is_null())
        named = left.select("place", sets=search.look(left))
        stays = stays.join(named, on="place", how="left")
        found = pl.col("sets").is_not_null() & settings.drop_contaminated
        rule = pl.when(found).then(pl.col("sets")).otherwise(pl.col("rule"))
        stays = stays.with_columns(reason=pl.when(found).then(pl.lit(CONTAMINATED)).otherwise("reason"), rule=rule)
    return pl.concat([stays.select(frame.columns), goes]).sort("place").drop("place")


def _written(judged: Any) -> Written:
    import polars as pl

    size = pl.col("text").str.len_bytes().cast(pl.Int64)
    kept = judged.filter(pl.col("reason").is_null()).group_by("source", maintain_order=True)
    counts = kept.agg(
        pl.len().cast(pl.Int64).alias("documents"), size.sum().alias("bytes"), pl.col("repeated", "read").sum()
    )
    ledger = judged.filter(pl.col("reason").is_not_null())
    columns = [name for name in LEDGER if name != "bytes"]
    return Written(counts, ledger.select(*columns, pl.col("read").alias("bytes")))


def _named(ledger: Any, library: Library) -> Any:
    """The ledger with survivors by id, source and URL; null for what has none."""
    import polars as pl

    copies = ledger["reason"].is_in([EXACT, NEAR, KNOWN])
    numbers = ledger.filter(copies)["survivor"].to_numpy()
    names = {name: pl.Series(library.pick(name, numbers), dtype=pl.String) for name in ("id", "source", "url")}
    survivors = pl.DataFrame({"row": np.flatnonzero(copies.to_numpy()), **{f"kept_{k}": v for k, v in names.items()}})
    numbered = ledger.with_columns(row=pl.int_range(pl.len(), dtype=pl.Int64), jaccard=pl.when(copies).then("jaccard"))
    joined = numbered.join(survivors, on="row", how="left", maintain_order="left")
    return joined.with_columns(survivor=pl.col("kept_id"), rule=pl.coalesce("rule", _rule()))


def _rule() -> Any:
    """What decided on a copy, in words."""
    import polars as pl

    near = pl.format("jaccard {}", pl.col("jaccard").round(4))
    return (
        pl.when(pl.col("reason") == BOILERPLATE).then(pl.lit("repeated"))
        .when((pl.col("jaccard") == 1) & (pl.col("reason") != NEAR)).then(pl.lit("same words"))
        .otherwise(near)
    )  # fmt: skip


def _duplicates(ledger: Any) -> Any:
    """One row for each copy within the corpus and the document that stands for it."""
    import polars as pl

    copies = ledger.filter(pl.col("reason").is_in([EXACT, NEAR]))
    return copies.with_columns(kind=pl.col("reason").str.strip_suffix(" duplicate"), cluster_id="survivor").select(
        DUPLICATES
    )


def write_requests(requests: Requests, out: Path) -> None:
    """Keep what was asked to be taken down, and the ids of all that was: it holds for later corpora too."""
    import polars as pl

    if requests:
        ledger = pl.read_parquet(out / "ledger.parquet", columns=["id", "reason"])
        ids = ledger.filter(pl.col("reason") == TAKEN_DOWN)["id"]
        wanted = sorted({*requests.lines(), *ids})
        (out / KEPT_REQUESTS).write_text("".join(f"{line}\n" for line in wanted), encoding="utf-8")


def write_report(report: dict[str, Any], out: Path) -> None:
    """Write `contamination.json`."""
    (out / "contamination.json").write_text(json.dumps(report, indent=1, sort_keys=True), encoding="utf-8")


def _reasons(ledger: Any) -> str:
    counts = ledger["reason"].value_counts().sort("reason").iter_rows()
    return ", ".join(f"{reason} ({num})" for reason, num in counts)


def _stats(library: Library, verdict: Verdict, kept: Any, ledger: Any, settings: Settings) -> dict[str, Any]:
    import polars as pl

    names = sorted({*kept["source"], *ledger["source"]})
    of = {name: (kept.filter(pl.col("source") == name), ledger.filter(pl.col("source") == name)) for name in names}
    sizes = verdict.kept_sizes()
    extra: dict[str, Any] = {"compared_with": library.num_old} if library.num_old else {}
    if settings.mode != "keep":
        extra["repeated"] = {f"{settings.unit}s": int(kept["repeated"].sum()), "bytes": _cut(kept)}
    return {
        **_stage(kept, ledger),
        "clusters": int((sizes > 1).sum()),
        "largest_cluster": int(sizes.max(initial=0)),
        **extra,
        "sources": {name: _stage(*parts) for name, parts in of.items()},
    }


def _cut(kept: Any) -> int:
    return int(kept["read"].sum() - kept["bytes"].sum())


def _stage(kept: Any, ledger: Any) -> dict[str, Any]:
    dropped = {}
    for reason in REASONS:
        sizes = ledger.filter(ledger["reason"] == reason)["bytes"]
        if len(sizes):
            dropped[reason] = {"documents": len(sizes), "bytes": int(sizes.sum())}
    documents, size = int(kept["documents"].sum()), int(kept["bytes"].sum())
    return {
        "documents_read": documents + ledger.height,
        "bytes_read": int(kept["read"].sum()) + int(ledger["bytes"].sum()),
        "documents": documents,
        "bytes": size,
        "dropped": dropped,
    }
