"""What duplicates are found by, kept of every document in files: hashes of its words, MinHash bands, shingles.

It does not know which documents are duplicates, nor of which corpus they are.
"""

import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from mantus.data.corpus import part_paths, write_table
from mantus.data.dedup import minhash
from mantus.data.dedup.takedown import Requests

SIGNATURES, SHINGLES = "signatures.parquet", "shingles.bin"
INDEX = "index-"
"""What the index of `part-00000.parquet` is called instead of `part-`."""
OPEN = 64
"""Files of shingles that are open at a time."""
FORMAT = 1
"""Of the index; another one is made anew from the texts beside it."""
INDEXED = ("id", "source", "url", "bytes", "exact_0", "exact_1", "shingles")
"""Columns that the index keeps beside the bands."""


@dataclass(frozen=True, slots=True)
class Sketch:
    """How documents are hashed."""

    ngram: int
    bands: int
    rows: int

    def columns(self) -> list[str]:
        """The columns of the bands."""
        return [f"band_{number:02d}" for number in range(self.bands)]

    def facts(self) -> dict[bytes, bytes]:
        """What two indexes must share for their hashes to be comparable; polars' own may change with its version."""
        versions = {name: metadata.version(name) for name in ("polars", "rensa")}
        facts = {**asdict(self), **versions, "format": FORMAT}
        return {f"mantus.{name}".encode(): str(value).encode() for name, value in facts.items()}


def sign(part: Path, folder: Path, sketch: Sketch, requests: Requests) -> float:
    """Write the signatures of one part of a corpus into `folder`; the MB of text. A finished folder is found again."""
    import polars as pl

    if (folder / SIGNATURES).is_file():
        return float(pl.read_parquet(folder / SIGNATURES, columns=["bytes"])["bytes"].sum()) / 1e6
    folder.mkdir(parents=True, exist_ok=True)
    frame = pl.read_parquet(part, columns=["id", "text", "source", "url", "form"])
    words = minhash.word_lists(frame["text"])
    hashes, starts = minhash.shingles(*minhash.word_hashes(words), sketch.ngram)
    hashes.tofile(folder / SHINGLES)
    table = minhash.bands(hashes, starts, sketch.bands, sketch.rows)
    signed = frame.select(
        "id",
        "source",
        "url",
        pl.col("text").str.len_bytes().cast(pl.Int64).alias("bytes"),
        *_exact(frame, words),
        pl.Series("shingles", np.diff(starts), dtype=pl.Int64),
        pl.Series("taken", requests.rules(frame), dtype=pl.String),
        *(pl.Series(name, table[:, number]) for number, name in enumerate(sketch.columns())),
    )
    temporary = folder / f"{SIGNATURES}.part"
    write_table(signed.to_arrow(), temporary)
    temporary.replace(folder / SIGNATURES)
    return float(signed["bytes"].sum()) / 1e6


def _exact(frame: Any, words: Any) -> list[Any]:
    """128 bits of each text: of its lower-case words; for code, where all else matters too, of the text as it is."""
    import polars as pl

    text = frame["text"]
    whole = (frame["form"] == "code") | (words.list.len() == 0)
    joined = pl.select(pl.when(whole).then(None).otherwise(words).list.join(" "))
    key = joined.to_series().fill_null(text.str.strip_chars())
    return [key.hash(number + 1).alias(f"exact_{number}") for number in (0, 1)]


@dataclass
class Signed:
    """The signatures of a corpus: where its shingles are in memory, all else in files, read when asked for.

    Memory: 12 bytes a document.
    """

    files: list[Path]
    """Parquet, one for each part."""
    parts: list[Path]
    """The parts themselves."""
    taken: dict[int, str] = field(default_factory=dict)
    """Number of each document that was asked to be taken down -> the request."""
    bounds: Any = None
    """Where each file's documents begin, [files + 1]."""
    starts: Any = None
    """Where each document's shingles begin in its file; -1 until they are there."""
    nums: Any = None
    """How many shingles each document has."""
    shingles: list[Path] = field(default_factory=list)
    """Where each file's shingles are."""
    opened: dict[Path, BinaryIO] = field(default_factory=dict)
    """What shingles are read from: mapped files would count as memory."""

    def load(self, requests: Requests | None = None) -> "Signed":
        """Read what stays in memory. requests: who was taken down, where the files do not say it."""
        import polars as pl

        self.shingles = [path.with_name(SHINGLES) for path in self.files]
        nums, starts, start = [np.zeros(0, np.uint32)], [np.zeros(0, np.int64)], 0
        for file, part, shingles in zip(self.files, self.parts, self.shingles, strict=True):
            num = pl.read_parquet(file, columns=["shingles"])["shingles"].to_numpy()
            self.taken |= {start + own: rule for own, rule in self._requested(file, part, requests)}
            nums.append(num.astype(np.uint32))
            starts.append(np.cumsum(num) - num if shingles.is_file() else np.full(len(num), -1))
            start += len(num)
        self.bounds = np.cumsum([0, *map(len, nums[1:])])
        self.nums, self.starts = np.concatenate(nums), np.concatenate(starts)
        return self

    @staticmethod
    def _requested(file: Path, part: Path, requests: Requests | None) -> list[tuple[int, str]]:
        """Which documents of a file were asked to be taken down, and the requests."""
        import polars as pl

        if requests is None:
            rules = pl.read_parquet(file, columns=["taken"])["taken"]
        elif requests:
            rules = requests.rules(pl.read_parquet(part, columns=requests.columns))
        else:
            return []
        found = np.flatnonzero(rules.is_not_null().to_numpy())
        return list(zip(found.tolist(), rules.gather(found), strict=True))

    def __len__(self) -> int:
        return int(self.bounds[-1])

    def columns(self, names: Sequence[str]) -> Iterator[Any]:
        """Columns of hashes, [num_documents, len(names)], of one file after the other."""
        import polars as pl

        for path in self.files:
            frame = pl.read_parquet(path, columns=list(names))
            yield np.stack([frame[name].to_numpy() for name in names], axis=1)

    def pick(self, name: str, numbers: Any) -> list[Any]:
        """One column of some documents, in their order; a file at a time in memory."""
        import polars as pl

        found: list[Any] = [None] * len(numbers)
        owner = np.searchsorted(self.bounds, numbers, side="right") - 1
        for file in np.unique(owner).tolist():
            values = pl.read_parquet(self.files[file], columns=[name])[name]
            places = np.flatnonzero(owner == file)
            for place, value in zip(places.tolist(), values.gather(numbers[places] - self.bounds[file]), strict=True):
                found[place] = value
        return found

    def have(self, numbers: Any, sketch: Sketch, scratch: Path) -> None:
        """Make the shingles of these documents anew from their texts, where there are none."""
        import polars as pl

        missing = np.unique(numbers[self.starts[numbers] < 0])
        owner = np.searchsorted(self.bounds, missing, side="right") - 1
        for file in np.unique(owner).tolist():
            chosen = missing[owner == file]
            texts = pl.read_parquet(self.parts[file], columns=["text"])["text"]
            hashes, starts = minhash.text_shingles(texts.gather(chosen - self.bounds[file]), sketch.ngram)
            scratch.mkdir(parents=True, exist_ok=True)
            self.shingles[file] = scratch / f"{SHINGLES}-{file:05d}"
            with self.shingles[file].open("ab") as out:
                self.starts[chosen] = starts[:-1] + out.tell() // 8
                hashes.tofile(out)

    def shingles_of(self, number: int) -> Any:
        """The shingles of a document, as they stand in its text."""
        path = self.shingles[int(np.searchsorted(self.bounds, number, side="right")) - 1]
        start, num = int(self.starts[number]), int(self.nums[number])
        assert start >= 0, "`have` comes first"
        if path not in self.opened:
            if len(self.opened) == OPEN:
                self.close()
            self.opened[path] = path.open("rb", buffering=0)
        return np.frombuffer(os.pread(self.opened[path].fileno(), 8 * num, 8 * start), np.uint64)

    def close(self) -> None:
        """Close the files that shingles are read from."""
        for file in self.opened.values():
            file.close()
        self.opened.clear()


def write_index(folder: Path, stays: Any, sketch: Sketch, path: Path) -> None:
    """Keep the signatures of a part's documents that stay, in their order: a later corpus is compared with them.

    folder: what `sign` made of the part.  stays: which of its documents, as an array of bool.
    """
    import polars as pl

    frame = pl.read_parquet(folder / SIGNATURES, columns=[*INDEXED, *sketch.columns()]).filter(pl.Series(stays))
    write_table(frame.to_arrow().replace_schema_metadata(sketch.facts()), path)


def read_index(corpus: Path, sketch: Sketch) -> Signed | None:
    """The index of an older corpus; None when it has none whose hashes can be compared with these."""
    import pyarrow.parquet as parquet

    parts = part_paths(corpus)
    files = [path.with_name(path.name.replace("part-", INDEX)) for path in parts]
    for path in files:
        stored = (parquet.read_schema(path).metadata or {}) if path.is_file() else {}
        if any(stored.get(name) != value for name, value in sketch.facts().items()):
            return None
    return Signed(files, parts)
