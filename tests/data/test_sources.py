"""Readers on real bytes: what they make of good files, and that damage is a counted drop."""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.data.corpus import Document
from mantus.data.sources.read import read_file
from mantus.data.sources.source import Drop, File, Source
from mantus.data.sources.warc import parse_http
from mantus.data.sources.wikipedia import plain_wikitext

PROSE = "The river ran past the old mill, and nobody who lived there could say how long it had done so. "
NUM_RECORDS = 6


def read(path: Path, members: str = "", **fields: object) -> tuple[list[Document], list[str]]:
    items = list(read_file(File(path, f"file:{path.name}", members), Source(**fields)))  # type: ignore[arg-type]
    documents = [item for item in items if isinstance(item, Document)]
    return documents, [item.reason for item in items if isinstance(item, Drop)]


def response(number: int, status: str = "200 OK", kind: str = "text/html; charset=utf-8", extra: str = "") -> bytes:
    body = f"<html><body><main><p>Page {number}. {PROSE * 3}</p></main></body></html>".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\n{extra}Content-Length: {len(body)}\r\n\r\n".encode()
    return head + body


def record(number: int, payload: bytes, kind: str = "response") -> bytes:
    head = (
        f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Target-URI: http://example.org/{number}\r\n"
        f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-{number:012d}>\r\n"
        f"Content-Type: application/http\r\nContent-Length: {len(payload)}\r\n\r\n"
    )
    return head.encode() + payload + b"\r\n\r\n"


MEMBERS = [gzip.compress(record(n, response(n)), mtime=0) for n in range(NUM_RECORDS)]
CRAWL = b"".join(MEMBERS)

PAGE = (
    "<page><title>River {n}</title><ns>{ns}</ns>{more}<revision><timestamp>2016-01-01T00:00:00Z</timestamp>"
    "<text>{text}</text></revision></page>"
)


def dump(*pages: str) -> bytes:
    head = (
        '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" xml:lang="en"><siteinfo>'
        "<base>https://en.wikipedia.org/wiki/Main_Page</base></siteinfo>"
    )
    return (head + "".join(pages) + "</mediawiki>").encode()


def page(n: int, text: str = PROSE * 5, ns: int = 0, more: str = "") -> str:
    return PAGE.format(n=n, ns=ns, text=f"{n}. {text}" if not more else text, more=more)


@pytest.mark.parametrize(("text", "charset"), [("Title \u00b6", "utf-8"), ("na\u00efve caf\u00e9 " * 9, "cp1252")])
def test_a_page_without_charset_is_read_by_its_bytes(tmp_path: Path, text: str, charset: str):
    body = f"<html><body><main><p>{text}{PROSE}</p></main></body></html>".encode(charset)
    payload = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n" + body
    (tmp_path / "a.warc.gz").write_bytes(gzip.compress(record(1, payload)))
    ((found,), _) = read(tmp_path / "a.warc.gz", type="warc")
    assert text.strip() in found.text


def test_a_crawl_gives_its_html_pages(tmp_path: Path):
    pages = [record(1, response(1)), record(2, response(2, "404 Not Found")), record(3, response(3, kind="image/png"))]
    pages += [record(4, PROSE.encode(), kind="conversion"), record(5, b"x", kind="metadata")]
    for name, data in (("plain.warc", b"".join(pages)), ("zipped.warc.gz", b"".join(map(gzip.compress, pages)))):
        (tmp_path / name).write_bytes(data)
        documents, dropped = read(tmp_path / name, type="warc")
        assert [document.url for document in documents] == ["http://example.org/1", "http://example.org/4"]
        assert documents[0].text.startswith("Page 1. The river")
        assert documents[0].added == "2026-01-01T00:00:00+00:00"
        assert sorted(dropped) == ["not html", "status not 200"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, NUM_RECORDS - 1), st.data())
def test_one_damaged_record_costs_one_record(tmp_path_factory, number: int, data: st.DataObject):
    path = tmp_path_factory.mktemp("warc") / "crawl.warc.gz"
    member = MEMBERS[number]
    start = data.draw(st.integers(10, len(member) - 20))
    broken = member[:start] + bytes(byte ^ 0x5A for byte in member[start : start + 8]) + member[start + 8 :]
    path.write_bytes(b"".join([*MEMBERS[:number], broken, *MEMBERS[number + 1 :]]))
    documents, dropped = read(path, type="warc")
    assert [d.url[-1] for d in documents] == [str(n) for n in range(NUM_RECORDS) if n != number]
    assert dropped == ["damaged record"]


@settings(max_examples=60, deadline=None)
@given(st.integers(1, len(CRAWL) - 1))
def test_a_cut_crawl_keeps_its_whole_records(tmp_path_factory, cut: int):
    path = tmp_path_factory.mktemp("warc") / "crawl.warc.gz"
    path.write_bytes(CRAWL[:cut])
    documents, dropped = read(path, type="warc")
    whole = sum(len(b"".join(MEMBERS[: n + 1])) <= cut for n in range(NUM_RECORDS))
    assert len(documents) == whole
    assert len(dropped) == (len(b"".join(MEMBERS[:whole])) != cut)


@pytest.mark.parametrize(
    ("head", "body", "expected"),
    [
        ("", b"<p>plain", b"<p>plain"),
        ("Transfer-Encoding: chunked\r\n", b"3\r\n<p>\r\n2\r\nhi\r\n0\r\n\r\n", b"<p>hi"),
        ("Transfer-Encoding: chunked\r\n", b"<p>stored unchunked", b"<p>stored unchunked"),
        ("Content-Encoding: gzip\r\n", gzip.compress(b"<p>zipped", mtime=0), b"<p>zipped"),
        ("Content-Encoding: gzip\r\n", b"<p>stored unzipped", b"<p>stored unzipped"),
        ("Content-Encoding: br\r\n", b"\x8b\x00", None),
        ("Content-Encoding: gzip\r\n", b"nonsense", None),
    ],
)
def test_http_bodies_as_crawlers_store_them(head: str, body: bytes, expected: bytes | None):
    payload = f"HTTP/1.1 200 OK\r\nContent-Type: TEXT/HTML\r\n{head}\r\n".encode() + body
    assert parse_http(payload) == (200, "text/html", expected)


def test_articles_only(tmp_path: Path):
    redirect = page(2, "#REDIRECT [[River 1]]", more='<redirect title="River 1"/>')
    (tmp_path / "dump.xml").write_bytes(dump(page(1), redirect, page(3, ns=4), page(4, text="{{stub}}", more=" ")))
    documents, dropped = read(tmp_path / "dump.xml", type="wikipedia")
    assert [(d.url, d.lang, d.added) for d in documents] == [
        ("https://en.wikipedia.org/wiki/River_1", "en", "2016-01-01T00:00:00Z")
    ]
    assert documents[0].text.startswith("River 1\n\n1. The river")
    assert sorted(dropped) == ["no text", "not an article", "redirect"]


WHOLE_DUMP = bz2.compress(dump(*(page(n, text=PROSE * 30 + str(n)) for n in range(40))), 1)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, len(WHOLE_DUMP) - 1))
def test_a_cut_dump_keeps_what_stood_before(tmp_path_factory, cut: int):
    path = tmp_path_factory.mktemp("wiki") / "dump.xml.bz2"
    path.write_bytes(WHOLE_DUMP[:cut])
    documents, dropped = read(path, type="wikipedia")
    assert [document.url[-1] for document in documents] == [str(n)[-1] for n in range(len(documents))]
    assert len(dropped) == 1


def test_broken_xml_keeps_what_stood_before(tmp_path: Path):
    (tmp_path / "open.xml").write_bytes(dump(page(1), page(2)).replace(b"</mediawiki>", b"<page><title>no end"))
    (tmp_path / "tags.xml").write_bytes(dump(page(1), page(2), "</nonsense>", page(3)))
    for name in ("open.xml", "tags.xml"):
        documents, dropped = read(tmp_path / name, type="wikipedia")
        assert len(documents) == 2
        assert dropped == ["broken xml"]


def test_wikitext_becomes_prose():
    wikitext = (
        "{{Infobox|a=b}}[[File:x.jpg|thumb|a [[mill]]]]The '''River''' ({{lang|la|flumen}})<ref>p. 1</ref> is "
        "{{convert|5|km}} [[length|long]] &amp; [[wide]].\n\n== Course ==\n* one\n* [http://x.org two]\n"
        "{| class=x\n| cell\n|}\n<math>x</math><!-- no -->\n== References ==\n{{reflist}}\n[[Category:Rivers]]"
    )
    assert plain_wikitext(wikitext) == "The River (flumen) is 5 km long & wide.\n\nCourse\n\n- one\n- two"


def test_rows_of_jsonl(tmp_path: Path):
    rows = [
        json.dumps({"body": "one", "id": 7, "license": "MIT", "lang": "en"}).encode(),
        b'{"body": "\xff\xfe"}',
        b"{not json",
        json.dumps({"other": 1}).encode(),
        json.dumps({"body": "  "}).encode(),
        b'{"body": "\\ud800"}',
        b"",
        json.dumps({"body": "two", "url": "http://x"}).encode(),
    ]
    (tmp_path / "rows.jsonl").write_bytes(b"\n".join(rows))
    documents, dropped = read(tmp_path / "rows.jsonl", type="jsonl", text_field="body")
    assert documents == [
        Document("one", "file:rows.jsonl#7", license="MIT", lang="en"),
        Document("two", "http://x"),
    ]
    assert dropped == ["not utf-8", "not json", "no field 'body'", "empty text", "not utf-8"]


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress])
def test_compression_is_seen_and_its_damage_counted(tmp_path: Path, compress):
    rows = b"".join(json.dumps({"text": f"{n} {PROSE}"}).encode() + b"\n" for n in range(2000))
    path = tmp_path / "rows.whatever"
    path.write_bytes(compress(rows))
    assert len(read(path, type="jsonl")[0]) == 2000
    path.write_bytes(compress(rows)[:-20])
    documents, dropped = read(path, type="jsonl")
    assert len(documents) <= 2000
    assert dropped[-1] == "damaged compression"


def test_parquet(tmp_path: Path):
    import pyarrow
    import pyarrow.parquet as parquet

    path = tmp_path / "rows.parquet"
    parquet.write_table(pyarrow.table({"text": ["one", None, "two"], "id": ["a", "b", "c"]}), path)
    documents, dropped = read(path, type="parquet")
    assert [(d.text, d.url) for d in documents] == [("one", "file:rows.parquet#a"), ("two", "file:rows.parquet#c")]
    assert dropped == ["no field 'text'"]
    path.write_bytes(path.read_bytes()[:-10])
    assert read(path, type="parquet") == ([], ["not parquet"])


def test_long_texts_are_cut_at_blank_lines(tmp_path: Path):
    paragraphs = [f"{n} {PROSE * 3}".strip() for n in range(40)]
    (tmp_path / "book.txt").write_bytes(b"\xef\xbb\xbf" + "\r\n\r\n".join(paragraphs).encode())
    documents, dropped = read(tmp_path / "book.txt", type="text", document_kb=2)
    assert not dropped
    assert "\n\n".join(d.text for d in documents) == "\n\n".join(paragraphs)
    assert all(len(d.text) <= 2048 for d in documents)
    assert [d.url for d in documents[:2]] == ["file:book.txt", "file:book.txt#1"]


@pytest.mark.parametrize(("data", "reason"), [(b"", "empty file"), (b"caf\xe9", "not utf-8"), (b"a\0b", "not utf-8")])
def test_texts_that_are_none(tmp_path: Path, data: bytes, reason: str):
    (tmp_path / "text.txt").write_bytes(data)
    assert read(tmp_path / "text.txt", type="text") == ([], [reason])


def test_members_are_streamed_out_of_archives(tmp_path: Path):
    with tarfile.open(tmp_path / "release.tar.gz", "w:gz") as archive:
        for name in ("release-1/texts/b.txt", "release-1/texts/a.txt", "release-1/other.txt"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            archive.addfile(info, io.BytesIO(name.encode()))
    with zipfile.ZipFile(tmp_path / "release.whl", "w") as wheel:
        wheel.writestr("texts/b.txt", "release-1/texts/b.txt")
        wheel.writestr("texts/a.txt", "release-1/texts/a.txt")
    for name in ("release.tar.gz", "release.whl"):
        documents, dropped = read(tmp_path / name, members="texts/*.txt", type="text")
        assert [d.text for d in documents] == ["release-1/texts/b.txt", "release-1/texts/a.txt"]
        assert documents[0].url == f"file:{name}/texts/b.txt"
        assert not dropped
        with pytest.raises(ValueError, match=r"no member matches 'nothing\*'"):
            read(tmp_path / name, members="nothing*", type="text")


def test_a_damaged_archive_is_a_drop(tmp_path: Path):
    with tarfile.open(tmp_path / "release.tar.gz", "w:gz") as archive:
        for number in range(40):
            info = tarfile.TarInfo(f"r/{number}.txt")
            info.size = 5000
            archive.addfile(info, io.BytesIO(b"%5d" % number * 1000))
    whole = (tmp_path / "release.tar.gz").read_bytes()
    (tmp_path / "release.tar.gz").write_bytes(whole[: len(whole) // 2])
    documents, dropped = read(tmp_path / "release.tar.gz", members="*", type="text")
    assert documents
    assert dropped[-1] in ("damaged archive", "damaged compression")
