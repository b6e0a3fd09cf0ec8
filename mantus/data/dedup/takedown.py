"""Take-down: which documents someone asked to be removed, by id, URL or digest of their text.

It knows requests and rows, not what else goes with a document (its copies: see cluster.py).
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mantus.data.sources.read import read_file
from mantus.data.sources.resolve import Resolved, resolve
from mantus.data.sources.source import Drop, Source

TAKEN_DOWN = "taken_down"
"""The reason of the drop."""
KEPT_REQUESTS = "taken_down.txt"
"""Where an artifact keeps the requests that it was made under."""


@dataclass(frozen=True, slots=True)
class Requests:
    """What was asked to be taken down."""

    ids: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()
    """sha256 of the text's UTF-8 bytes, as hex."""

    def __bool__(self) -> bool:
        return bool(self.ids or self.urls or self.digests)

    @property
    def columns(self) -> list[str]:
        """What `rules` must know of a document."""
        return ["id", "url", "text"] if self.digests else ["id", "url"]

    def lines(self) -> list[str]:
        """The requests as they are given, sorted."""
        return sorted(self.ids | self.urls | self.digests)

    def rules(self, frame: Any) -> Any:
        """For each row (columns id, url, and text where digests are asked for) the request it meets; else null."""
        import polars as pl

        if not self:
            return pl.repeat(None, frame.height, dtype=pl.String, eager=True)
        met = [
            pl.when(pl.col(name).is_in(list(wanted))).then(pl.format(f"{name} {{}}", pl.col(name)))
            for name, wanted in (("id", self.ids), ("url", self.urls))
        ]
        if self.digests:
            digests = (hashlib.sha256(text.encode()).hexdigest() for text in frame["text"])
            frame = frame.with_columns(pl.Series("sha256", digests, dtype=pl.String))
            met.append(pl.when(pl.col("sha256").is_in(list(self.digests))).then(pl.format("sha256 {}", "sha256")))
        return frame.select(pl.coalesce([*met, pl.lit(None, pl.String)]).alias("taken"))["taken"]


def read_requests(entries: Iterable[str]) -> Requests:
    """Sort entries by what they are: 32 hex digits an id, 64 a digest, all else a URL."""
    wanted = {entry.strip() for entry in entries} - {""}
    digests = frozenset(entry for entry in wanted if re.fullmatch(r"[0-9a-fA-F]{64}", entry))
    ids = frozenset(entry for entry in wanted if re.fullmatch(r"[0-9a-fA-F]{32}", entry))
    hexes = {entry.lower() for entry in ids}
    return Requests(frozenset(hexes), frozenset(wanted - digests - ids), frozenset(d.lower() for d in digests))


def requested(path: str, where: str) -> list[Resolved]:
    """The list at `path`, looked up; nothing when there is none. ValueError names `where` when it is not there."""
    return [resolve(Source(type="text", path=path), where)] if path else []


def read_list(found: list[Resolved], inline: Iterable[str], where: str) -> Requests:
    """The requests of a list, one a line, lines that begin with # left out, and those given inline.

    ValueError when a list is empty or cannot be read: nobody takes down nothing on purpose.
    """
    lines = [line for item in found for line in whole_text(item, where).splitlines()]
    wanted = [line for line in lines if line.strip() and not line.startswith("#")]
    if found and not wanted:
        raise ValueError(f"{where}: {found[0].source.path}: names no document; one id, URL or sha256 a line")
    return read_requests([*wanted, *inline])


def with_copies(requests: Requests, parts: Iterable[Path]) -> Requests:
    """The requests, and the ids of all documents of a corpus that they name: an id is that of a text, at any URL."""
    import polars as pl

    if not requests:
        return requests
    found = set(requests.ids)
    for part in parts:
        frame = pl.read_parquet(part, columns=requests.columns)
        found.update(frame.filter(requests.rules(frame).is_not_null())["id"])
    return replace(requests, ids=frozenset(found))


def inherited(folders: Iterable[Path]) -> list[str]:
    """The requests that older corpora were made under: they hold for what is compared with them."""
    paths = (folder / KEPT_REQUESTS for folder in folders)
    return [line for path in paths if path.is_file() for line in path.read_text(encoding="utf-8").splitlines()]


def whole_text(found: Resolved, where: str) -> str:
    """The text of a small file, or of the files that a pattern matches, one after the other.

    ValueError when one of them is damaged or no text.
    """
    whole = found.source.model_copy(update={"type": "text", "document_kb": 1 << 30})
    texts = []
    for file in found.fetch():
        for item in read_file(file, whole):
            if isinstance(item, Drop):
                raise ValueError(f"{where}: {file.url}: {item.reason}")
            texts.append(item.text)
    return "\n".join(texts)
