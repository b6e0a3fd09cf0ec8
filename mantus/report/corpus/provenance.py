"""Provenance: which sources, documents, tokens and licences every shard has, and what everything was made from.

It knows the files of the data artifacts; `provenance.json` has all that the page shows a part of.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mantus.report.corpus.excerpt import harmless
from mantus.report.corpus.facts import CORPORA, UNKNOWN, Chain, Made, Part, Survey
from mantus.report.sections import megabytes, table
from mantus.storage import FileEntry

SHOWN = 100
"""Shards of a kind that the page shows."""
DOCUMENTS = ".documents.parquet"
"""What lies beside a shard and says which documents are in it: id, source, url, license, tokens."""

FAMILIES = (
    r"0BSD|MIT|MIT-0|ISC|Zlib|Unlicense|WTFPL|PostgreSQL|X11|Ruby"
    r"|(?:A?GPL|LGPL|GFDL|Apache|BSD|CC|MPL|EPL|EUPL|CDDL|CECILL|PSF|Python|Artistic|BSL|OFL|NCSA|ODC|ODbL|PDDL|ECL|AFL|MS)"
    r"-[A-Za-z0-9.+-]{1,40}"
)
"""Names of licences that SPDX has a page for."""

Mix = dict[str, int]


@dataclass(frozen=True, slots=True)
class Shard:
    """One file of tokens."""

    path: str
    documents: int
    tokens: int
    bytes: int
    sha256: str
    sources: Mix
    """Tokens by source; empty where nothing says."""
    licenses: Mix
    """Tokens by licence; empty where nothing says."""


def shards(made: Chain) -> list[Shard]:
    """Every shard of tokens, by path."""
    tokens = made.made.get("tokens")
    entries = {entry.path: entry for entry in tokens.manifest.files} if tokens else {}
    return [
        _shard(tokens, entry, entries) for path, entry in sorted(entries.items()) if tokens and path.endswith(".bin")
    ]


def _shard(tokens: Made, entry: FileEntry, entries: Mapping[str, FileEntry]) -> Shard:
    import numpy as np

    index = tokens.folder / entry.path.replace(".bin", ".idx")
    offsets = np.memmap(index, "<u8", "r") if index.is_file() else np.zeros(1, "<u8")
    listed = tokens.folder / entry.path.replace(".bin", DOCUMENTS)
    if listed.is_file():
        sources, licenses = _listed(listed)
    else:  # the only shard of its split has the mix of the split
        split = entry.path.rpartition("/")[0]
        alone = sum(path.startswith(f"{split}/") and path.endswith(".bin") for path in entries) == 1
        told = tokens.manifest.stats.get(split, {}).get("sources", {}) if alone else {}
        sources, licenses = {name: mix["tokens"] for name, mix in told.items()}, {}
    return Shard(entry.path, len(offsets) - 1, int(offsets[-1]), entry.bytes, entry.sha256, sources, licenses)


def _listed(path: Path) -> tuple[Mix, Mix]:
    import polars as pl

    frame = pl.read_parquet(path, columns=["source", "license", "tokens"])
    by = [frame.group_by(name).agg(pl.col("tokens").sum()).sort(name) for name in ("source", "license")]
    sources, licenses = ({name or UNKNOWN: int(num) for name, num in mix.iter_rows()} for mix in by)
    return sources, licenses


def sources(made: Chain) -> list[dict[str, Any]]:
    """What was read: name, type, where from, its fingerprint, licences. Empty where the first corpus is not there."""
    path = made.made["corpus"].folder / "licenses.json" if "corpus" in made.made else Path()
    return list(json.loads(path.read_bytes())["sources"]) if path.is_file() else []


def artifacts(made: Chain) -> list[dict[str, Any]]:
    """What the corpus and the shards are, first things first; of their settings all but who was taken down."""
    order = [*CORPORA, "tokenizer", "tokens"]
    return [
        {
            "kind": manifest.kind,
            "key": manifest.key,
            "code_digest": manifest.code_digest,
            "mantus_version": manifest.mantus_version,
            "inputs": [reference.key for reference in manifest.inputs],
            "config": {name: value for name, value in manifest.config.items() if name != "taken_down"},
            "files": len(manifest.files),
            "bytes": sum(entry.bytes for entry in manifest.files),
        }
        for kind in order
        if kind in made.made
        for manifest in [made.made[kind].manifest]
    ]


def licences(counted: Survey) -> dict[str, Any]:
    """Every licence of the corpus in the shape of SPDX's list, with documents and bytes, in all and by source."""
    found: dict[str, dict[str, Any]] = {}
    for source, name, documents, size in _by_licence(counted):
        entry = found.setdefault(name, {"licenseId": name, "reference": spdx(name), "documents": 0, "bytes": 0})
        entry["documents"] += documents
        entry["bytes"] += size
        entry.setdefault("sources", {})[source] = {"documents": documents, "bytes": size}
    return {"licenses": [found[name] for name in sorted(found)]}


def _by_licence(counted: Survey) -> Iterator[tuple[str, str, int, int]]:
    import polars as pl

    both = counted.groups.group_by("source", "license").agg(pl.col("documents", "bytes").sum())
    yield from both.sort("license", "source").iter_rows()


def spdx(name: str) -> str:
    """The page of a licence at SPDX; '' for names of none of FAMILIES (LicenseRef-*, unknown, A OR B)."""
    return f"https://spdx.org/licenses/{name}.html" if re.fullmatch(FAMILIES, name) else ""


def record(made: Chain, counted: Survey) -> dict[str, Any]:
    """All of it, for `provenance.json`."""
    return {
        "artifacts": artifacts(made),
        "sources": sources(made),
        "parts": [_part(made, part) for part in counted.parts],
        "shards": [
            {name: getattr(shard, name) for name in Shard.__slots__} | {"artifact": made.made["tokens"].manifest.key}
            for shard in shards(made)
        ],
    }


def _part(made: Chain, part: Part) -> dict[str, Any]:
    digests = {entry.path: entry.sha256 for entry in made.final.manifest.files}
    mix = [
        {"source": source, "license": name, "documents": documents, "bytes": size}
        for (source, name), (documents, size) in part.mix.items()
    ]
    own = {"path": part.name, "documents": part.documents, "bytes": part.bytes, "sha256": digests.get(part.name, "")}
    return {**own, "artifact": made.final.manifest.key, "mix": mix}


def provenance(made: Chain, counted: Survey) -> str:
    """The tables of the page: sources with fingerprints, artifacts, shards, parts."""
    read = [
        (
            *(harmless(entry["name"], 60), entry["type"], harmless(entry["uri"], 300), _fingerprint(entry)),
            ", ".join(harmless(name, 60) for name in entry["licenses"]),
        )
        for entry in sources(made)
    ]
    kept = [
        (entry["kind"], entry["key"], entry["code_digest"], entry["files"], megabytes(entry["bytes"]))
        for entry in artifacts(made)
    ]
    body = table(("source", "type", "read from", "fingerprint", "licences"), read, "Sources as they were read", True)
    body += table(("artifact", "key", "code", "files", "size"), kept, "Artifacts")
    return body + _shards(shards(made)) + _parts(made, counted)


def _fingerprint(entry: Mapping[str, Any]) -> str:
    """The key (digest, ETag, commit, versions), and the file's digest where it is not in it."""
    digest = entry.get("sha256", "")
    more = f" sha256 {digest}" if digest and digest not in entry["key"] else ""
    return harmless(f"{entry['key'].strip()}{more}", 400)


def _shards(found: list[Shard]) -> str:
    rows = [
        (
            *(shard.path, shard.documents, shard.tokens, megabytes(shard.bytes), shard.sha256[:16]),
            *(_mixed(shard.sources), _mixed(shard.licenses)),
        )
        for shard in found[:SHOWN]
    ]
    head = ("shard", "documents", "tokens", "size", "sha256", "sources (tokens)", "licences (tokens)")
    return table(head, rows, "Shards of tokens", True) + _more(len(found))


def _parts(made: Chain, counted: Survey) -> str:
    digests = {entry.path: entry.sha256[:16] for entry in made.final.manifest.files}
    rows = []
    for part in counted.parts[:SHOWN]:
        sources: Mix = {}
        licenses: Mix = {}
        for (source, name), (documents, _) in part.mix.items():
            sources[source] = sources.get(source, 0) + documents
            licenses[name] = licenses.get(name, 0) + documents
        own = (part.name, part.documents, megabytes(part.bytes), digests.get(part.name, ""))
        rows.append((*own, _mixed(sources), _mixed(licenses)))
    head = ("part", "documents", "text", "sha256", "sources (documents)", "licences (documents)")
    return table(head, rows, f"Parts of the corpus ({made.final.manifest.kind})", True) + _more(len(counted.parts))


def _mixed(mix: Mapping[str, int]) -> str:
    order = sorted(mix, key=lambda name: (-mix[name], name))
    shown = ", ".join(f"{harmless(name, 40)} {mix[name]:,}" for name in order[:6])
    return f"{shown}, {len(order) - 6:,} more" if len(order) > 6 else shown or "not told"


def _more(num: int) -> str:
    return f"<p>and {num - SHOWN:,} more in provenance.json</p>" if num > SHOWN else ""
