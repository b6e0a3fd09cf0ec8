"""Phase `collect`: sources -> corpus; what could not be read is counted by reason.

It knows sources and rows, not formats (sources.py) nor quality (clean.py).
"""

from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

from pydantic import Field

from mantus import console
from mantus.data import code
from mantus.data.corpus import Document, Row, document_id, write_rows
from mantus.data.fetch import locate
from mantus.data.sources import Drop, File, Item, Source, read_file
from mantus.processes import die_with_parent, num_processors
from mantus.storage import Manifest, PhaseConfig, Reference, Work, execute


class CollectConfig(PhaseConfig):
    """Settings of `mantus collect`."""

    sources: list[Source] = Field(min_length=1)
    """Where to read from: see Source in mantus/data/sources.py."""


@dataclass(frozen=True, slots=True)
class _Read:
    """One source, read."""

    rows: list[Row]
    dropped: Counter[str]


def run(config: CollectConfig) -> Manifest:
    """Collect, or find the corpus. ValueError names a source that is not there or gives nothing."""
    console.say(f"collect: {len(config.sources)} sources")
    located = [_locate(source, f"collect.sources[{index}]") for index, source in enumerate(config.sources)]

    def produce(work: Work) -> dict[str, Any]:
        rows: list[Row] = []
        dropped: Counter[str] = Counter()
        by_source: dict[str, dict[str, Any]] = {}
        with (
            ProcessPoolExecutor(num_processors(), initializer=die_with_parent) as pool,
            console.progress("collect", len(config.sources), "sources") as bar,
        ):
            reads = pool.map(_read, config.sources, [files for files, _ in located])
            for index, (source, read) in enumerate(zip(config.sources, reads, strict=True)):
                if not read.rows:
                    why = ", ".join(f"{reason}: {count}" for reason, count in sorted(read.dropped.items()))
                    raise ValueError(
                        f"collect.sources[{index}]: {source.path or source.type}: no documents ({why or 'empty'})"
                    )
                rows += read.rows
                dropped += read.dropped
                size = sum(len(row.text.encode()) for row in read.rows)
                by_source[source.title] = {
                    "documents": len(read.rows),
                    "bytes": size,
                    "dropped": dict(sorted(read.dropped.items())),
                }
                bar.advance(1, f"{source.title}: {len(read.rows):,} documents")
        write_rows(rows, work.out)
        licenses = Counter(row.license for row in rows)
        size = sum(entry["bytes"] for entry in by_source.values())
        counts = {"documents": len(rows), "bytes": size, "dropped": dict(sorted(dropped.items()))}
        return {**counts, "sources": by_source, "licenses": dict(sorted(licenses.items()))}

    return execute("corpus", config, produce, [reference for _, reference in located])


def _locate(source: Source, where: str) -> tuple[list[File], Reference]:
    if source.type in ("git", "code"):
        return [], code.fingerprint(source, where)
    return locate(source, where)


def _read(source: Source, files: list[File]) -> _Read:
    rows: list[Row] = []
    dropped: Counter[str] = Counter()
    left = source.max_mb * 1e6 or float("inf")
    for item in _items(source, files):
        if isinstance(item, Drop):
            dropped[item.reason] += 1
        elif left > 0:
            left -= len(item.text)
            rows.append(_row(item, source))
    return _Read(rows, dropped)


def _items(source: Source, files: list[File]) -> Iterator[Item]:
    if source.type in ("git", "code"):
        yield from code.read(source)
    for file in files:
        yield from read_file(file, source)


def _row(document: Document, source: Source) -> Row:
    license = source.license or document.license or "unknown"
    identity = document_id(document.text)
    return Row(
        identity, document.text, source.title, document.url, license, document.lang, document.added, document.form
    )
