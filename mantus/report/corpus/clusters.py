"""Copies: how many a document had, the largest clusters, and the near duplicates closest to the limit.

It knows the ledger and the texts that dedup read, not how similarity is found.
"""

from collections.abc import Mapping
from html import escape
from typing import Any

from mantus.data.dedup.cluster import EXACT, KNOWN, NEAR
from mantus.report.corpus.excerpt import difference, excerpt, harmless
from mantus.report.corpus.facts import Chain, Made, Survey, batches, rows
from mantus.report.corpus.rejects import LEDGER, borderline
from mantus.report.plots import Strip, strips
from mantus.report.sections import count, table

MEMBERS = 8
"""Members of a cluster that are shown."""
CLOSE = 3
"""Near duplicates shown that are least like what stands for them."""
SAME = "<p>The same words; what differs is case or space, or nothing.</p>"


def clusters(made: Chain, counted: Survey) -> str:
    """Sizes, the largest clusters, the closest calls; nothing where dedup was not."""
    stage = made.made.get("dedup")
    if not stage:
        return ""
    largest = _largest(stage, counted)
    close = list(borderline(stage, CLOSE))
    wanted = {row["id"] for members in largest.values() for row in members} | {row["id"] for row in close}
    before = rows(made.read_by_dedup, wanted) if made.read_by_dedup else {}
    kept = rows(stage, {*largest, *(row["survivor"] for row in close)})
    body = "".join(_cluster(name, members, counted, kept, before) for name, members in largest.items())
    calls = "".join(_call(row, kept, before) for row in close)
    return (
        _sizes(counted)
        + (f"<h3>Largest clusters</h3>{body}" if body else "")
        + (f"<h3>Closest calls</h3><p>{_limit(stage)}</p>{calls}" if calls else "")
    )


def _limit(stage: Made) -> str:
    threshold = stage.manifest.config.get("threshold")
    return (
        f"Near duplicates that are least like what stands for them; {threshold} of their runs of words must be shared."
    )


def _sizes(counted: Survey) -> str:
    """How many clusters have how many members: single numbers to 4, then doubling ranges."""
    held: dict[int, list[int]] = {}
    for size, num in counted.clusters.sort("cluster_size").iter_rows():
        if size > 1:
            bucket = size if size < 5 else 1 << (size - 1).bit_length()
            entry = held.setdefault(bucket, [0, 0])
            entry[0] += num
            entry[1] += num * (size - 1)
    shown = []
    for bucket, (num, copies) in sorted(held.items()):
        label = f"{bucket} members" if bucket < 5 else f"{bucket // 2 + 1} to {bucket}"
        parts = [(0, float(num), count(num, "cluster"))]
        shown.append(Strip(label, parts, (f"{num:,}", f"{copies:,}")))
    return strips("Clusters by size", ("size", "clusters", "copies dropped"), shown)


def _largest(stage: Made, counted: Survey) -> dict[str, list[Mapping[str, Any]]]:
    """The largest clusters by the id of what stays, each with the members that went: those least like it first."""
    import polars as pl

    ids = counted.largest["id"].to_list()
    held = None
    for frame in batches(stage.folder / "ledger.parquet", LEDGER):
        mine = frame.filter(pl.col("survivor").is_in(ids) & pl.col("reason").is_in([EXACT, NEAR, KNOWN]))
        both = (mine if held is None else pl.concat([held, mine])).sort("survivor", "jaccard", "id", "url")
        held = both.group_by("survivor", maintain_order=True).head(MEMBERS)
    found: dict[str, list[Mapping[str, Any]]] = {name: [] for name in ids}
    for row in held.iter_rows(named=True) if held is not None else ():
        found[row["survivor"]].append(row)
    return found


def _cluster(name: str, members: list[Any], counted: Survey, kept: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    sizes = dict(counted.largest.select("id", "cluster_size").iter_rows())
    stays = kept[name]
    listed = [("stays", harmless(stays["url"]), harmless(stays["source"], 40), "")]
    listed += [
        (row["reason"], harmless(row["url"]), harmless(row["source"], 40), f"{row['jaccard']:.4g}") for row in members
    ]
    more = sizes[name] - 1 - len(members)
    note = f"<p>and {more:,} more</p>" if more > 0 else ""
    shown = table(("", "document", "source", "similarity"), listed)
    other = before.get(members[0]["id"]) if members else None
    against = (difference(stays["text"], other["text"]) or SAME) if other else ""
    return (
        f"<details><summary><b>{sizes[name]:,} members</b>: {escape(harmless(stays['url']))}</summary>"
        f"{shown}{note}{excerpt(stays['text'])}{against}</details>"
    )


def _call(row: Mapping[str, Any], kept: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    stays, went = kept.get(row["survivor"]), before.get(row["id"])
    url = harmless(stays["url"]) if stays else row["survivor"]
    against = (difference(stays["text"], went["text"]) or SAME) if stays and went else ""
    head = f"<b>{row['jaccard']:.4g}</b>: {escape(harmless(row['url']))} went, {escape(url)} stays"
    return f"<details><summary>{head}</summary>{against}</details>"
