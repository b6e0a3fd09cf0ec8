"""Collect: read every source into one corpus, in parallel, with a count of everything dropped.

It does not judge documents; it knows sources, pieces of work and the corpus it writes.
"""

import json
import os
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus import console
from mantus.data.corpus import Document, Row, document_id, part_paths, write_rows
from mantus.data.sources.read import read_file
from mantus.data.sources.resolve import Resolved, resolve
from mantus.data.sources.source import Drop, File, Item, Manners, Source, sound
from mantus.processes import apply_apart, num_processors
from mantus.storage import Manifest, PhaseConfig, Work, execute
from mantus.storage.artifact import digest_file
from mantus.storage.phase import RUNTIME
from mantus.storage.share import gather, share

PIECE_BYTES = 64 << 20
"""Bytes of input files that one worker reads in one go."""


class CollectConfig(PhaseConfig):
    """Read sources (WARC, Wikipedia, git, files) into a corpus."""

    sources: tuple[Source, ...] = ()
    """What to read: entries with type, path, license and more (see `Source`)."""
    workers: int = Field(default=0, ge=0, json_schema_extra=RUNTIME)
    """Processes that read at once (0 = one a processor)."""
    user_agent: str = Field(default="", json_schema_extra=RUNTIME)
    """How requests to servers name their sender ('' = Mantus and its version); best with an address for complaints."""
    requests_per_second: float = Field(default=10, gt=0, json_schema_extra=RUNTIME)
    """Requests to one host, over all processes of a machine."""
    attempts: int = Field(default=6, ge=1, json_schema_extra=RUNTIME)
    """Requests for one thing before it is given up; waits double from 1 s, or are what the server asks for."""
    max_wait_s: float = Field(default=300, ge=0, json_schema_extra=RUNTIME)
    """The longest wait that a server may ask for before the run is given up."""

    @property
    def manners(self) -> Manners:
        """How to behave towards servers."""
        given = {"user_agent": self.user_agent, "requests_per_s": self.requests_per_second}
        return Manners(**given, attempts=self.attempts, max_wait_s=self.max_wait_s)  # type: ignore[arg-type]


@dataclass(frozen=True, slots=True)
class Piece:
    """What one worker reads in one go; the corpus is the pieces' documents in order."""

    index: int
    """The source's place in the config."""
    source: Source
    files: tuple[File, ...]


@dataclass
class Tally:
    """What came of a piece, or of many."""

    documents: int = 0
    bytes: int = 0
    dropped: dict[str, int] = field(default_factory=dict)
    licenses: dict[str, dict[str, int]] = field(default_factory=dict)

    def count(self, license_name: str, num_bytes: int, num_documents: int = 1) -> None:
        """Count documents under their licence."""
        entry = self.licenses.setdefault(license_name, {"documents": 0, "bytes": 0})
        entry["documents"] += num_documents
        entry["bytes"] += num_bytes
        self.documents += num_documents
        self.bytes += num_bytes

    def drop(self, reason: str, num: int = 1) -> None:
        """Count something that did not become a document."""
        self.dropped[reason] = self.dropped.get(reason, 0) + num

    def add(self, other: "Tally") -> None:
        """Count what another tally has."""
        for reason, num in other.dropped.items():
            self.drop(reason, num)
        for name, entry in other.licenses.items():
            self.count(name, entry["bytes"], entry["documents"])


def run(config: CollectConfig) -> Manifest:
    """Make the corpus of `config.sources`, or find it. ValueError names the source that is wrong or gave nothing."""
    if not config.sources:
        raise ValueError("sources: empty; name at least one source")
    resolved = [resolve(source, f"sources[{index}]", config.manners) for index, source in enumerate(config.sources)]
    references = [item.reference for item in resolved]
    workers = config.workers or num_processors()
    return execute("corpus", config, lambda work: _produce(work, resolved, workers), references)


def _produce(work: Work, resolved: list[Resolved], workers: int) -> dict[str, Any]:
    pieces: list[Piece] = []
    fetched: list[list[File]] = []
    with console.progress("fetch", len(resolved), "sources") as bar:
        for index, item in enumerate(resolved):
            fetched.append(item.fetch())
            pieces += _pieces(index, item.source, fetched[-1])
            bar.advance(note=item.source.title)
    folders = [work.scratch / f"piece-{number:05d}" for number in range(len(pieces))]
    mine = share(len(pieces), work)
    _read_all([pieces[number] for number in mine], [folders[number] for number in mine], workers)
    gather(work, folders)
    tallies = [read_piece(piece, folder) for piece, folder in zip(pieces, folders, strict=True)]
    sources = [Tally() for _ in resolved]
    for piece, tally in zip(pieces, tallies, strict=True):
        sources[piece.index].add(tally)
    for index, (item, tally) in enumerate(zip(resolved, sources, strict=True)):
        if tally.documents == 0:
            reasons = ", ".join(f"{reason} ({num})" for reason, num in sorted(tally.dropped.items()))
            raise ValueError(f"sources[{index}] ({item.source.title}): gave no documents: {reasons or 'it is empty'}")
    for number, part in enumerate(part for folder in folders for part in part_paths(folder)):
        os.link(part, work.out / f"part-{number:05d}.parquet")  # the scratch copy stays, should this run be killed
    _write_licenses(work.out, resolved, fetched, sources)
    return _stats(resolved, sources)


def _pieces(index: int, source: Source, files: list[File]) -> list[Piece]:
    """Files in bundles of about PIECE_BYTES; all in one when the source is capped or has no files of its own."""
    if source.max_mb or source.type in ("git", "code"):
        return [Piece(index, source, tuple(files))]
    bundles: list[list[File]] = []
    size = PIECE_BYTES
    for file in files:
        if size >= PIECE_BYTES:
            bundles.append([])
            size = 0
        bundles[-1].append(file)
        size += _size(file, source)
    return [Piece(index, source, tuple(bundle)) for bundle in bundles]


def _size(file: File, source: Source) -> int:
    """Bytes of input; a file nobody has seen yet, a repository and a shard of a data set are a piece each."""
    if source.type in ("repositories", "huggingface"):
        return PIECE_BYTES
    return file.size or (PIECE_BYTES if file.remote else file.path.stat().st_size)


def _read_all(pieces: list[Piece], folders: list[Path], workers: int) -> None:
    """Read pieces into their folders, those of a crashed run left out."""
    if not pieces:
        return
    tasks = list(zip(pieces, folders, strict=True))
    with console.progress("collect", len(pieces), "pieces") as bar:
        num_bytes = 0
        for tally in apply_apart(read_piece, tasks, workers, "collect"):  # apart: parsers of what strangers wrote
            num_bytes += tally.bytes
            bar.advance(note=f"{num_bytes / 1e6:,.1f} MB of text")


def read_piece(piece: Piece, folder: Path) -> Tally:
    """Write the documents of a piece as parts in `folder`; what came of it. A finished piece is found again."""
    done = folder / "done.json"
    if done.is_file():
        return Tally(**json.loads(done.read_bytes()))
    for part in part_paths(folder):
        part.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    tally = Tally()
    write_rows(_rows(piece, tally), folder)
    temporary = done.with_suffix(".part")
    temporary.write_text(json.dumps(asdict(tally)))
    temporary.replace(done)
    return tally


def _rows(piece: Piece, tally: Tally) -> Iterator[Row]:
    source = piece.source
    limit = source.max_mb * 1e6
    for item in map(sound, _items(piece)):
        if isinstance(item, Drop):
            tally.drop(item.reason)
            continue
        row = _row(item, source)
        tally.count(row.license, len(item.text.encode()))
        yield row
        if limit and tally.bytes >= limit:
            return


def _items(piece: Piece) -> Iterator[Item]:
    from mantus.data.sources import programs

    if piece.source.type == "code":
        yield from programs.read_code(piece.source)
        return
    read = _reader(piece.source)
    for file in piece.files:
        try:
            yield from read(file, piece.source)
        except ValueError as error:
            raise ValueError(f"sources[{piece.index}].path: {error}") from None


def _reader(source: Source) -> Callable[[File, Source], Iterator[Item]]:
    if source.type == "git":
        from mantus.data.sources.programs import read_git

        return read_git
    if source.type == "repositories":
        from mantus.data.sources.repositories import read_repository

        return read_repository
    if source.type == "huggingface":
        from mantus.data.sources.huggingface import read_shard

        return read_shard
    return read_file


def _row(document: Document, source: Source) -> Row:
    return Row(
        id=document_id(document.text),
        text=document.text,
        source=source.title,
        url=document.url,
        license=document.license or source.license or "unknown",
        lang=document.lang,
        added=document.added,
        form=document.form,
    )


def _write_licenses(out: Path, resolved: list[Resolved], fetched: list[list[File]], sources: list[Tally]) -> None:
    """`licenses.json`: for each source what was read, its digest, and documents and bytes by licence."""
    ledger = []
    for item, files, tally in zip(resolved, fetched, sources, strict=True):
        entry = {"name": item.source.title, "type": item.source.type, **asdict(item.reference)}
        if item.source.path.startswith("pypi:"):
            entry["file"], entry["sha256"] = files[0].path.name, digest_file(files[0].path)
        ledger.append({**entry, "licenses": dict(sorted(tally.licenses.items()))})
    (out / "licenses.json").write_text(json.dumps({"sources": ledger}, indent=1, sort_keys=True))


def _stats(resolved: list[Resolved], sources: list[Tally]) -> dict[str, Any]:
    total = Tally()
    by_source: dict[str, Tally] = {}
    for item, tally in zip(resolved, sources, strict=True):
        total.add(tally)
        by_source.setdefault(item.source.title, Tally()).add(tally)
    return {**_plain(total), "sources": {name: _plain(tally) for name, tally in by_source.items()}}


def _plain(tally: Tally) -> dict[str, Any]:
    return {
        "documents": tally.documents,
        "bytes": tally.bytes,
        "dropped": dict(sorted(tally.dropped.items())),
        "licenses": dict(sorted(tally.licenses.items())),
    }
