"""Broken crawls: records, HTTP, charsets and HTML as no crawler should store them."""

import gzip
import zipfile
from pathlib import Path

from tests.data.broken.case import MB, PROSE, Case, case, repeated, write


def record(number: int, payload: bytes, kind: str = "response", length: object = None) -> bytes:
    size = len(payload) if length is None else length
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://example.org/{number}\r\n"
        f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{number:012d}>\r\n"
        f"Content-Type: application/http\r\nContent-Length: {size}\r\n\r\n"
    )
    return head.encode() + payload + b"\r\n\r\n"


def page(number: int, body: bytes | None = None, extra: str = "", kind: str = "text/html; charset=utf-8") -> bytes:
    text = f"<html><body><main><p>Page {number}. {PROSE * 3}</p></main></body></html>".encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{extra}\r\n"
    return head.encode() + (text if body is None else body)


def crawl(folder: Path, *middle: bytes, zipped: bool = True) -> dict[str, object]:
    """A crawl with a good record before and behind what is given."""
    records = [record(1, page(1)), *middle, record(9, page(9))]
    data = b"".join(gzip.compress(item, mtime=0) for item in records) if zipped else b"".join(records)
    return {"type": "warc", "path": write(folder, "crawl.warc.gz" if zipped else "crawl.warc", data)}


def html(folder: Path, body: bytes, extra: str = "", kind: str = "text/html") -> dict[str, object]:
    return crawl(folder, record(5, page(5, body, extra, kind)))


@case
def warc_length_too_short(folder: Path, _: int) -> Case:
    return Case(crawl(folder, record(5, page(5), length=40)), {"no text": 1, "damaged record": 1}, 2)


@case
def warc_length_too_long(folder: Path, _: int) -> Case:
    return Case(crawl(folder, record(5, page(5), length=100_000)), {"damaged record": 1}, 2)


@case
def warc_length_beyond_the_end(folder: Path, _: int) -> Case:
    return Case(crawl(folder, record(5, page(5), length=10**15), zipped=False), {"damaged record": 1}, 1)


@case
def warc_length_of_more_digits_than_a_number_has(folder: Path, _: int) -> Case:
    return Case(crawl(folder, record(5, page(5), length="9" * 500)), {"damaged record": 2}, 2)


@case
def warc_length_negative(folder: Path, _: int) -> Case:
    return Case(crawl(folder, record(5, page(5), length=-5)), {"damaged record": 2}, 2)


@case
def warc_length_in_words(folder: Path, _: int) -> Case:
    return Case(crawl(folder, record(5, page(5), length="many")), {"damaged record": 2}, 2)


@case
def warc_without_length(folder: Path, _: int) -> Case:
    whole = record(5, page(5))
    return Case(crawl(folder, whole.replace(b"Content-Length: ", b"X-Length: ")), {"damaged record": 2}, 2)


@case
def warc_cut_off(folder: Path, _: int) -> Case:
    source = crawl(folder)
    path = Path(str(source["path"]))
    path.write_bytes(path.read_bytes()[:-30])
    return Case(source, {"damaged record": 1}, 1)


@case
def warc_with_a_wrong_checksum(folder: Path, _: int) -> Case:
    member = bytearray(gzip.compress(record(5, page(5))))
    member[-6] ^= 255
    good = [gzip.compress(record(number, page(number))) for number in (1, 9)]
    path = write(folder, "crawl.warc.gz", good[0] + bytes(member) + good[1])
    return Case({"type": "warc", "path": path}, {"damaged record": 1}, 2)


@case
def warc_with_a_record_that_is_a_bomb(folder: Path, size: int) -> Case:
    bomb = record(5, page(5, b"<p>" + bytes((size + 20) * MB)))
    return Case(crawl(folder, bomb), {"record too large": 1}, 2)


@case
def warc_that_is_all_bombs(folder: Path, size: int) -> Case:
    bomb = gzip.compress(record(5, page(5, bytes(70 * MB))), 6)
    path = write(folder, "crawl.warc.gz", gzip.compress(record(1, page(1))) + bomb * (4 + size // 50))
    return Case({"type": "warc", "path": path}, {"record too large": 1, "compression bomb": 1}, 1)


@case
def warc_with_one_endless_header(folder: Path, size: int) -> Case:
    path = repeated(folder / "crawl.warc", b"X", size, before=record(1, page(1)) + b"WARC/1.0\r\nX: ")
    return Case({"type": "warc", "path": path}, {"damaged record": 1}, 1)


@case
def warc_compressed_as_a_whole(folder: Path, _: int) -> Case:
    data = gzip.compress(record(1, page(1)) + record(2, page(2), kind="metadata") + record(9, page(9)))
    return Case({"type": "warc", "path": write(folder, "crawl.warc.gz", data)}, {}, 2)


@case
def warc_that_is_a_zip(folder: Path, _: int) -> Case:
    with zipfile.ZipFile(folder / "crawl.warc", "w") as archive:
        archive.writestr("a", record(1, page(1)))
    return Case({"type": "warc", "path": str(folder / "crawl.warc")}, {"unopened archive": 1})


@case
def warc_of_nothing(folder: Path, _: int) -> Case:
    return Case({"type": "warc", "path": write(folder, "crawl.warc.gz", b"")}, {"empty file": 1})


@case
def http_body_that_is_a_bomb(folder: Path, size: int) -> Case:
    bomb = gzip.compress(bytes(size * MB))
    return Case(html(folder, bomb, "Content-Encoding: gzip\r\n"), {"record too large": 1}, 2)


@case
def http_body_that_is_no_gzip(folder: Path, _: int) -> Case:
    return Case(html(folder, b"\x1f\x8bnonsense", "Content-Encoding: gzip\r\n"), {"unknown content encoding": 1}, 2)


@case
def http_chunk_larger_than_numbers(folder: Path, _: int) -> Case:
    body = b"f" * 4000 + b"\r\n<p>" + PROSE.encode() * 3
    return Case(html(folder, body, "Transfer-Encoding: chunked\r\n"), {}, 3)


@case
def http_chunks_that_end_too_early(folder: Path, _: int) -> Case:
    body = b"5\r\n<p>An\r\nffff\r\nd then " + PROSE.encode() * 3
    return Case(html(folder, body, "Transfer-Encoding: chunked\r\n"), {}, 3)


@case
def http_chunks_of_nonsense(folder: Path, _: int) -> Case:
    return Case(html(folder, b"zz\r\n\0\1\2", "Transfer-Encoding: chunked\r\n"), {}, 3)


@case
def charset_that_nobody_knows(folder: Path, _: int) -> Case:
    return Case(html(folder, f"<p>caf\xe9 {PROSE}".encode(), kind="text/html; charset=klingon-7"), {}, 3)


@case
def charset_that_is_no_charset(folder: Path, _: int) -> Case:
    return Case(html(folder, f"<p>caf\xe9 {PROSE}".encode(), kind="text/html; charset=undefined"), {}, 3)


@case
def charset_that_lies(folder: Path, _: int) -> Case:
    return Case(html(folder, f"<p>{PROSE}".encode("utf-16"), kind="text/html; charset=iso-8859-1"), {}, 3)


@case
def html_nested_without_end(folder: Path, _: int) -> Case:
    return Case(html(folder, b"<div><b>" * 200_000 + PROSE.encode()), {"html too deep": 1}, 2)


@case
def html_too_large(folder: Path, _: int) -> Case:
    return Case(html(folder, b"<p>" + PROSE.encode() * 100_000), {"page too large": 1}, 2)


@case
def html_of_zeros(folder: Path, _: int) -> Case:
    return Case(html(folder, b"<p>" + bytes(1000) + PROSE.encode()), {}, 3)


@case
def wet_that_is_not_utf8(folder: Path, _: int) -> Case:
    return Case(crawl(folder, record(5, b"caf\xe9 \xff " + PROSE.encode(), kind="conversion")), {}, 3)


@case
def wet_with_zeros(folder: Path, _: int) -> Case:
    return Case(crawl(folder, record(5, b"a\0b " + PROSE.encode(), kind="conversion")), {"binary": 1}, 2)
