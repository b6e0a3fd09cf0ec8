"""Readers of the web's two dump formats: WARC/WET crawls and Wikipedia's XML.

It knows records, HTML and wikitext, not where the files are.
"""

import io
import re
import zlib
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO
from urllib.parse import quote

from mantus.data.corpus import Document
from mantus.data.sources import Drop, Item, Source, decompressed, peekable

CHUNK = 1 << 16
MAX_MEMBER = 256 << 20
"""Decompressed bytes of one gzip member held in memory; a larger one is dropped."""


def read_warc(stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    """Pages of a crawl: HTML responses with status 200, and the plain text of WET records.

    In a gzipped file each record is its own gzip member, so a damaged one is dropped and the next one found.
    """
    buffered = peekable(stream)
    if not buffered.peek(2).startswith(b"\x1f\x8b"):
        yield from _records(decompressed(buffered))
        return
    for member in _gzip_members(buffered):
        if member is None:
            yield Drop("damaged record")
        else:
            yield from _records(io.BytesIO(member))


def _gzip_members(stream: BinaryIO) -> Iterator[bytes | None]:
    """Each gzip member decompressed; one None for a stretch that cannot be, after which the next good one follows."""
    pending = stream.read(CHUNK)
    lost = False
    while pending:
        data, raw, rest = _one_member(stream, pending)
        good = data is not None and (not lost or data.startswith(b"WARC/"))
        if good:
            yield data
            pending = rest or stream.read(CHUNK)
        else:
            if not lost:
                yield None
            pending = _next_member(stream, raw[1:] + rest)
        lost = not good


def _one_member(stream: BinaryIO, pending: bytes) -> tuple[bytes | None, bytes, bytes]:
    """(decompressed or None, the compressed bytes taken, what was read beyond them)."""
    unzip = zlib.decompressobj(31)
    data, raw = bytearray(), bytearray()
    try:
        while pending and not unzip.eof and len(data) <= MAX_MEMBER:
            raw += pending
            data += unzip.decompress(pending)
            pending = unzip.unused_data if unzip.eof else stream.read(CHUNK)
    except zlib.error:
        return None, bytes(raw), b""
    return (bytes(data) if unzip.eof else None), bytes(raw), pending


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
            payload = record.reader.read()
            if len(payload) < record.content_length:
                yield Drop("damaged record")
            else:
                yield _from_record(record, payload)
    except OSError as error:
        if error.errno is not None:
            raise
        yield Drop("damaged record")


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
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    declared = re.search(r"charset=[\"']?([\w.:-]+)", kind)
    detected = detect_encoding(body) or "utf-8"
    try:
        html = bytes_to_str(body, declared.group(1) if declared else detected)
    except LookupError:
        html = bytes_to_str(body, detected)
    text: str = extract_plain_text(html, main_content=True, alt_texts=False)
    return text


def parse_http(payload: bytes) -> tuple[int, str, bytes | None]:
    """Status, content type (lower case) and decoded body of a stored response; body None where it cannot be decoded."""
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
            return unzip.decompress(body, MAX_MEMBER)
        except zlib.error:
            continue
    return None


def read_wikipedia(stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    """Articles of a MediaWiki XML dump as plain text; redirects and other namespaces are drops."""
    from xml.etree.ElementTree import ParseError, XMLPullParser

    parser: Any = XMLPullParser(("start", "end"))
    site = _Site("", "")
    try:
        for element, parents in _elements(stream, parser):
            tag = element.tag.rpartition("}")[2]
            if tag == "siteinfo":
                base = _find(element, "base").rpartition("/")[0]
                site = _Site(base, parents[0].get("{http://www.w3.org/XML/1998/namespace}lang", ""))
            elif tag == "page":
                yield _from_page(element, site)
                parents[0].clear()
    except ParseError:
        yield Drop("broken xml")


class _Site:
    """What a dump says of itself: address of its articles and language."""

    def __init__(self, base: str, lang: str) -> None:
        self.base, self.lang = base, lang


def _elements(stream: BinaryIO, parser: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Each finished element with its ancestors, outermost first. ParseError where the XML breaks."""
    path: list[Any] = []
    while chunk := stream.read(CHUNK):
        parser.feed(chunk)
        for event, element in parser.read_events():
            if event == "start":
                path.append(element)
            else:
                path.pop()
                if path:
                    yield element, path
    parser.close()


def _find(element: Any, *names: str) -> str:
    """The text at a path of tag names, whatever their namespace; '' where absent."""
    for name in names:
        element = next((child for child in element if child.tag.rpartition("}")[2] == name), ())
    return getattr(element, "text", "") or ""


def _from_page(page: Any, site: _Site) -> Item:
    title, wikitext = _find(page, "title"), _find(page, "revision", "text")
    if _find(page, "ns") not in ("", "0"):
        return Drop("not an article")
    if any(child.tag.endswith("redirect") for child in page) or wikitext.lstrip()[:9].lower() == "#redirect":
        return Drop("redirect")
    text = plain_wikitext(wikitext)
    if not text:
        return Drop("no text")
    url = f"{site.base}/{quote(title.replace(' ', '_'))}" if site.base else title
    added = _find(page, "revision", "timestamp")
    return Document(f"{title}\n\n{text}", url, lang=site.lang, added=added)


BACK_MATTER = re.compile(
    r"^(=+) *(?:see also|references|notes|footnotes|external links|further reading|bibliography|sources|citations)"
    r" *\1 *$",
    re.IGNORECASE | re.MULTILINE,
)
BLANK_LINES = re.compile(r"\n\s*\n\s*\n")
SKIPPED_TAGS = {"ref", "references", "table", "gallery", "math", "timeline", "imagemap", "score"}
SKIPPED_NAMESPACES = {"file", "image", "category", "media"}
LAST_ARGUMENT = {"lang", "nowrap", "transl", "transliteration", "abbr", "small", "quote", "blockquote", "nihongo"}
"""Templates that show one of their arguments; nearly all others are furniture and show nothing."""


def plain_wikitext(wikitext: str) -> str:
    """Readable text: no tables, references, files or categories, few templates; headings and items stay as lines."""
    import mwparserfromhell

    back = BACK_MATTER.search(wikitext)
    code = mwparserfromhell.parse(wikitext[: back.start()] if back else wikitext, skip_style_tags=True)
    text = _plain(code).replace("'''", "").replace("''", "").replace("\xa0", " ").replace("()", "").replace("(, ", "(")
    return BLANK_LINES.sub("\n\n", text).strip()


def _plain(code: Any) -> str:
    return "".join(RENDER[type(node).__name__](node) for node in code.nodes) if code is not None else ""


def _link(node: Any) -> str:
    prefix, colon, _ = str(node.title).partition(":")
    if colon and prefix.strip(": ").lower() in SKIPPED_NAMESPACES:
        return ""
    return _plain(node.title if node.text is None else node.text)


def _tag(node: Any) -> str:
    name = str(node.tag).strip().lower()
    if name in ("li", "dt", "dd"):
        return "-" if node.wiki_markup == "*" else ""
    if name == "br":
        return "\n"
    return "" if name in SKIPPED_TAGS else _plain(node.contents)


def _template(node: Any) -> str:
    name = str(node.name).strip().lower()
    arguments = [parameter.value for parameter in node.params if not parameter.showkey]
    if name in ("convert", "cvt") and len(arguments) > 1:
        return f"{_plain(arguments[0])} {_plain(arguments[1])}"
    shows = name in LAST_ARGUMENT or name.startswith("lang-")
    return _plain(arguments[0 if name in ("abbr", "nihongo") else -1]) if shows and arguments else ""


def _nothing(node: Any) -> str:
    return ""


RENDER: dict[str, Callable[[Any], str]] = {
    "Text": lambda node: str(node.value),
    "Heading": lambda node: f"{_plain(node.title).strip()}\n",
    "HTMLEntity": lambda node: str(node.normalize()),
    "Wikilink": _link,
    "ExternalLink": lambda node: _plain(node.title) if node.brackets else "",
    "Tag": _tag,
    "Template": _template,
    "Comment": _nothing,
    "Argument": _nothing,
}
