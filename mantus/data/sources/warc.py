"""Reader of web crawls: the pages of WARC files, and the texts of WET files.

It knows records, HTTP and HTML, not where the files are. Records are judged one by one: a bad one costs itself.
"""

import io
import re
import zlib
from collections.abc import Iterator
from typing import Any, BinaryIO

from mantus.data.corpus import Document
from mantus.data.sources.source import MAX_TEXT, Drop, Item, Refused, Source
from mantus.data.sources.streams import BOMB_BYTES, BOMB_RATIO, decompressed, packing, peekable

CHUNK = 1 << 16
MAX_RECORD = 2 * MAX_TEXT
"""Bytes of one record held in memory; a larger one is dropped. Common Crawl cuts pages off at 5 MiB."""
MAX_DEPTH = 2000
"""Elements within each other from which on a page is no page: the parser's time grows with their square."""
MAX_HTML = 8 << 20
"""Bytes of one page's HTML; a larger one is dropped."""


def read_warc(stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    """Pages of a crawl: HTML responses with status 200, and the plain text of WET records.

    In a gzipped file each record is its own gzip member, so a damaged one is dropped and the next one found.
    """
    buffered = peekable(stream)
    if not buffered.peek(2).startswith(b"\x1f\x8b"):
        if reason := packing(buffered.peek(262)[:262]).replace("nested compression", ""):
            raise Refused(reason)
        yield from _records(decompressed(buffered))
        return
    for number, member in enumerate(_gzip_members(buffered)):
        if member is TOO_LARGE and number == 0 and buffered.seekable():  # compressed as a whole
            buffered.seek(0)
            yield from _records(decompressed(buffered))
            return
        if isinstance(member, Drop):
            yield member
        else:
            yield from _records(io.BytesIO(member))


def _gzip_members(stream: BinaryIO) -> Iterator[bytes | Drop]:
    """Each gzip member decompressed; one Drop for a stretch that cannot be, after which the next good one follows.

    Refused when the file as a whole is a bomb.
    """
    pending = stream.read(CHUNK)
    lost = False
    num_packed = num_bytes = 0
    while pending:
        data, raw, rest = _one_member(stream, pending)
        good = isinstance(data, bytes) and (not lost or data.startswith(b"WARC/"))
        num_packed += len(raw) - len(rest)
        num_bytes += len(data) if isinstance(data, bytes) else MAX_RECORD if data.reason == TOO_LARGE.reason else 0
        if num_bytes > 4 * BOMB_BYTES and num_bytes > BOMB_RATIO * num_packed:
            raise Refused("compression bomb")
        if good:
            yield data
            pending = rest or stream.read(CHUNK)
        else:
            if not lost:
                yield data if isinstance(data, Drop) else DAMAGED
            pending = _next_member(stream, raw[1:])
        lost = not good


DAMAGED, TOO_LARGE = Drop("damaged record"), Drop("record too large")


def _one_member(stream: BinaryIO, pending: bytes) -> tuple[bytes | Drop, bytes, bytes]:
    """(decompressed, or why not; the compressed bytes read; those of them that are beyond it)."""
    unzip = zlib.decompressobj(31)
    data, raw = bytearray(), bytearray()
    try:
        while pending and not unzip.eof and len(data) <= MAX_RECORD:
            raw += pending
            while pending and not unzip.eof and len(data) <= MAX_RECORD:
                data += unzip.decompress(pending, 1 << 20)
                pending = unzip.unconsumed_tail
            if not unzip.eof and len(data) <= MAX_RECORD:
                pending = stream.read(CHUNK)
    except zlib.error:
        return DAMAGED, bytes(raw), b""
    if len(data) > MAX_RECORD:
        return TOO_LARGE, bytes(raw), unzip.unused_data
    return (bytes(data) if unzip.eof else DAMAGED), bytes(raw), unzip.unused_data


def _next_member(stream: BinaryIO, pending: bytes) -> bytes:
    """Skip to what looks like the start of a gzip member; b'' at the end of the stream."""
    while (start := pending.find(b"\x1f\x8b\x08")) < 0:
        chunk = stream.read(CHUNK)
        if not chunk:
            return b""
        pending = pending[-2:] + chunk
    return pending[start:]


def _records(stream: BinaryIO) -> Iterator[Item]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    wanted = WarcRecordType.response | WarcRecordType.conversion
    try:
        for record in ArchiveIterator(stream, record_types=wanted, parse_http=False):
            payload = record.reader.read(MAX_RECORD)
            if len(payload) == MAX_RECORD:
                yield TOO_LARGE
            elif not _has_length(record) or len(payload) < record.content_length:
                yield DAMAGED
            else:
                yield _judged(record, payload)
    except BaseException as error:
        if not _is_damage(error):
            raise
        yield DAMAGED


def _is_damage(error: BaseException) -> bool:
    """Whether fastwarc tells of a bad record. It panics, which is no Exception, in a stream that cannot seek."""
    return type(error).__name__ == "PanicException" or (isinstance(error, OSError) and error.errno is None)


def _has_length(record: Any) -> bool:
    """Whether the record says how long it is; fastwarc takes nonsense for 0."""
    return re.fullmatch(r"\d{1,18}", str(record.headers.get("Content-Length"))) is not None


def _judged(record: Any, payload: bytes) -> Item:
    try:
        return _from_record(record, payload)
    except Refused as refused:
        return Drop(str(refused))


def _from_record(record: Any, payload: bytes) -> Item:
    from fastwarc.warc import WarcRecordType

    url = str(record.headers.get("WARC-Target-URI") or "").strip("<>")
    added = record.record_date.isoformat() if record.record_date else ""
    if record.record_type == WarcRecordType.conversion:
        text = payload.decode(errors="replace")
        return Document(text, url, added=added) if text.strip() else Drop("no text")
    status, kind, body = parse_http(payload)
    if status != 200:
        return Drop("status not 200")
    if "html" not in kind:
        return Drop("not html")
    if body is None:
        return Drop("unknown content encoding")
    text = _html_text(body, kind)
    return Document(text, url, added=added) if text.strip() else Drop("no text")


def _html_text(body: bytes, kind: str) -> str:
    from resiliparse.extract.html2text import extract_plain_text

    if len(body) > MAX_HTML:
        raise Refused("page too large")
    if _is_too_deep(body):
        raise Refused("html too deep")
    text: str = extract_plain_text(_html(body, kind), main_content=True, alt_texts=False)
    return text


def _html(body: bytes, kind: str) -> str:
    """A page's HTML, by the charset that the server names, else as UTF-8 where it is that, else by its bytes."""
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    declared = re.search(r"charset=[\"']?([\w.:-]+)", kind)
    try:
        if declared:
            return str(bytes_to_str(body, declared.group(1)))
    except (LookupError, ValueError):  # a charset that is none, or is no charset of texts
        pass
    # The detector takes a page with few letters of UTF-8, such as Sphinx's pilcrows, for Greek.
    return str(bytes_to_str(body, "utf-8" if _is_utf8(body) else detect_encoding(body) or "utf-8"))


def _is_utf8(body: bytes) -> bool:
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return b"\0" not in body


TAG = re.compile(rb"<(/?)([a-zA-Z][a-zA-Z0-9]*)")


def _is_too_deep(body: bytes) -> bool:
    """Whether more elements are open at once than any page has; those that are often left open do not count."""
    if body.count(b"<") <= MAX_DEPTH:
        return False
    depth: dict[bytes, int] = {}
    total = 0
    for tag in TAG.finditer(body):
        name = tag[2].lower()
        before = depth.get(name, 0)
        if name not in IMPLIED:
            depth[name] = max(0, before - 1) if tag[1] else before + 1
            total += depth[name] - before
            if total > MAX_DEPTH:
                return True
    return False


IMPLIED = frozenset(
    b"area base br col embed hr img input link meta source track wbr "
    b"p li dt dd tr td th option thead tbody tfoot html body head script style".split()
)
"""Elements without an end, and those that the next one or the end of their parent closes."""


def parse_http(payload: bytes) -> tuple[int, str, bytes | None]:
    """Status, content type (lower case) and decoded body of a stored response; body None where it cannot be decoded.

    Refused when it is too large once decoded.
    """
    head, _, body = payload.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    status = re.match(r"HTTP/\S+ (\d{3})", first)
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if "chunked" in headers.get("transfer-encoding", "").lower():
        body = _unchunked(body)
    encoding = headers.get("content-encoding", "identity").lower()
    kind = headers.get("content-type", "").lower()
    return int(status.group(1)) if status else 0, kind, _decoded(body, encoding)


def _unchunked(body: bytes) -> bytes:
    """The body of a chunked response; crawlers often store it unchunked under the old header, then as it is."""
    joined, at = bytearray(), 0
    while True:
        size = re.compile(rb"([0-9a-fA-F]+)[^\r\n]*\r\n").match(body, at)
        if size is None:
            return bytes(joined) or body
        num = int(size.group(1), 16)
        if num == 0:
            return bytes(joined)
        if num > len(body):
            return bytes(joined) + body[size.end() :]
        joined += body[size.end() : size.end() + num]
        at = size.end() + num + 2


def _decoded(body: bytes, encoding: str) -> bytes | None:
    """The body without its content encoding. Crawlers also store decoded bodies under the old header."""
    if encoding in ("", "identity") or body.lstrip()[:1] == b"<":
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        return None
    for bits in (47, -15):
        unzip = zlib.decompressobj(bits)
        try:
            data = unzip.decompress(body, MAX_TEXT)
        except zlib.error:
            continue
        if unzip.unconsumed_tail:
            raise Refused("record too large")
        return data
    return None
