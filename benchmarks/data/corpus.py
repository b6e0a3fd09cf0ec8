"""Build the measured corpus: documentation without near duplicates, planted copies of known kind, and web archives.

`python -m benchmarks.data.corpus [--quick]`. It knows packages, truth and the formats that the compared toolkits read,
not the toolkits. Built once under .mantus/bench; the same packages give the same bytes.
"""

import argparse
import gzip
import hashlib
import io
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.data import packages, truth
from mantus.data.corpus import Row, document_id, part_paths, write_rows
from mantus.storage import PhaseConfig, execute

BENCH = Path(".mantus/bench").resolve()
NUM_COPIES = sum(truth.NUM_COPIES.values())
ALIKE = 0.25
"""What no two documents but planted ones share of their runs of words."""
NUM_PAGES, PAGES_A_PACKAGE, MAX_PAGE = 6000, 600, 1 << 20
NUM_ARCHIVES = 4
FORMAT = "3"
"""Of what is built; another one is built anew."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """Where everything is."""

    folder: Path
    artifact: str
    """The documents as Mantus keeps a corpus, parquet: the artifact's URI."""
    documents: int
    bytes: int
    pages: int
    page_bytes: int

    @property
    def jsonl(self) -> Path:
        """The same documents in the same files as jsonl.gz."""
        return self.folder / "jsonl"

    @property
    def warc(self) -> Path:
        return self.folder / "warc"

    def truth(self) -> list[truth.Pair]:
        import polars as pl

        return [truth.Pair(**row) for row in pl.read_parquet(self.folder / "truth.parquet").to_dicts()]

    def ids(self) -> list[str]:
        """What each document is called: the column `url`."""
        import polars as pl

        parts = part_paths(Path(self.artifact.removeprefix("file://")))
        return [name for part in parts for name in pl.read_parquet(part, columns=["url"])["url"]]


class Planted(PhaseConfig):
    """Names the corpus in its store."""

    digest: str


def build(quick: bool = False) -> Corpus:
    """The corpus, made or found."""
    wanted = packages.QUICK if quick else packages.PACKAGES
    debs = packages.download(wanted, BENCH / "debs")
    names = json.dumps([FORMAT, wanted, [deb.name for deb in debs.values()]])
    folder = BENCH / f"corpus-{hashlib.blake2b(names.encode(), digest_size=6).hexdigest()}"
    stored = folder / "corpus.json"
    if not stored.is_file():
        _make(folder, stored, wanted, debs, packages.QUICK_CODE_MB if quick else packages.CODE_MB)
    found = json.loads(stored.read_text())
    return Corpus(**{**found, "folder": Path(found["folder"])})


def _make(folder: Path, stored: Path, wanted: dict[str, int], debs: dict[str, Path], code_mb: float) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    unpacked = {name: packages.unpack(deb, BENCH / "unpacked") for name, deb in debs.items()}
    (folder / "licences.json").write_text(json.dumps(packages.licences(debs, unpacked), indent=1))
    quick = len(wanted) < len(packages.PACKAGES)
    base = _without_alike(list(_documents(wanted, unpacked, code_mb)))
    copies, pairs = truth.plant({row.url: row.text for row in base}, min(NUM_COPIES, len(base) // 3))
    rows = base + [_like(row, copies[f"copy-{row.url}"]) for row in base if f"copy-{row.url}" in copies]
    random.Random(0).shuffle(rows)
    size = sum(len(row.text.encode()) for row in rows)

    def produce(work: Any) -> dict[str, int]:
        write_rows(rows, work.out)
        return {"bytes": size, "documents": len(rows)}

    made = execute("clean", Planted(store=str(folder / "store"), digest=folder.name), produce).uri
    _write_jsonl(Path(made.removeprefix("file://")), folder / "jsonl")
    _write_truth(pairs, folder / "truth.parquet")
    num_pages, page_bytes = _write_archives(unpacked, folder / "warc", 200 if quick else NUM_PAGES)
    corpus = Corpus(folder, made, len(rows), size, num_pages, page_bytes)
    stored.write_text(json.dumps({**asdict(corpus), "folder": str(folder)}, indent=1))


def _documents(wanted: dict[str, int], unpacked: dict[str, Path], code_mb: float) -> Iterator[Row]:
    for name, megabytes in wanted.items():
        for path, text in packages.texts(unpacked[name], megabytes):
            yield _row(name, path, text, "prose")
    for path, text in packages.code(code_mb):
        yield _row(packages.CODE, path, text, "code")


def _row(package: str, path: str, text: str, form: str) -> Row:
    return Row(document_id(text), text, package, f"{package}/{path}", f"LicenseRef-{package}", "", "", form)


def _like(row: Row, text: str) -> Row:
    return Row(document_id(text), text, row.source, f"copy-{row.url}", row.license, "", "", row.form)


def _without_alike(rows: list[Row]) -> list[Row]:
    """Those of the rows of which no two are alike."""
    numbers = truth.Words()
    return [rows[number] for number in truth.unlike([truth.shingles(numbers(row.text)) for row in rows], ALIKE)]


def _write_jsonl(artifact: Path, folder: Path) -> None:
    import polars as pl

    folder.mkdir(exist_ok=True)
    for part in part_paths(artifact):
        with gzip.GzipFile(folder / f"{part.stem}.jsonl.gz", "wb", 6, mtime=0) as file:
            for url, text in pl.read_parquet(part, columns=["url", "text"]).iter_rows():
                file.write(json.dumps({"id": url, "text": text}, ensure_ascii=False).encode() + b"\n")


def _write_truth(pairs: list[truth.Pair], path: Path) -> None:
    import polars as pl

    pl.DataFrame([asdict(pair) for pair in pairs]).write_parquet(path)


def _write_archives(unpacked: dict[str, Path], folder: Path, num: int) -> tuple[int, int]:
    """Web archives of the packages' pages as they are, a gzip member a record; how many pages, bytes of HTML."""
    folder.mkdir(exist_ok=True)
    pages = _pages(unpacked, num)
    size = 0
    for number in range(NUM_ARCHIVES):
        with (folder / f"pages-{number:02d}.warc.gz").open("wb") as file:
            for name, path in pages[number::NUM_ARCHIVES]:
                html = path.read_bytes()
                file.write(gzip.compress(warc_record(f"https://{name}", html), 6, mtime=0))
                size += len(html)
    return len(pages), size


def _pages(unpacked: dict[str, Path], num: int) -> list[tuple[str, Path]]:
    found = {}
    for package, folder in unpacked.items():
        names = (name for name in packages.files(folder) if name.endswith(packages.PAGES))
        fit = [name for name in names if 1000 <= (folder / name).stat().st_size <= MAX_PAGE]
        found.update({f"{package}.example/{name}": folder / name for name in fit[:PAGES_A_PACKAGE]})
    return [(name, found[name]) for name in packages.hashed(found)[:num]]


def warc_record(url: str, html: bytes) -> bytes:
    """A WARC response record, as a crawler writes it."""
    http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: %d\r\n\r\n" % len(html) + html
    number = hashlib.blake2b(url.encode(), digest_size=16).hexdigest()
    uuid = "-".join([number[:8], number[8:12], number[12:16], number[16:20], number[20:]])
    out = io.BytesIO()
    out.write(b"WARC/1.0\r\nWARC-Type: response\r\n")
    out.write(f"WARC-Record-ID: <urn:uuid:{uuid}>\r\nWARC-Target-URI: {url}\r\n".encode())
    out.write(b"WARC-Identified-Payload-Type: text/html\r\n")
    out.write(b"WARC-Date: 2026-01-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n")
    out.write(b"Content-Length: %d\r\n\r\n" % len(http) + http + b"\r\n\r\n")
    return out.getvalue()


def main() -> None:
    """Build, and say where the parts are."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some 8 MB of four packages")
    corpus = build(parser.parse_args().quick)
    print(corpus.artifact.removeprefix("file://"))


if __name__ == "__main__":
    main()
