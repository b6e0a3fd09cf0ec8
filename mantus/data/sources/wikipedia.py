"""Reader of MediaWiki's XML dumps: articles as plain text.

It knows XML and wikitext, not where the files are nor how a dump is divided (multistream.py).
"""

import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO
from urllib.parse import quote
from xml.parsers import expat

from mantus.data.corpus import Document
from mantus.data.sources.source import Drop, Item, Refused, Source

CHUNK = 1 << 16
MAX_PAGE = 16 << 20
"""Bytes of XML from one page's end to the next; MediaWiki takes articles of 2 MiB."""
MAX_ELEMENTS = 100_000
"""Elements likewise; a page has about 15."""
MAX_UNCLOSED = 20_000_000
"""Bytes of wikitext times its unclosed brackets: the parser reads what follows one of them anew."""


def read_wikipedia(stream: BinaryIO, source: Source, url: str) -> Iterator[Item]:
    """Articles of a MediaWiki XML dump as plain text; redirects and other namespaces are drops."""
    from xml.etree.ElementTree import ParseError, XMLPullParser

    parser: Any = XMLPullParser(("start", "end"))
    site = _Site("", "")
    try:
        for element, parents in _elements(_without_dtd(stream), parser):
            tag = element.tag.rpartition("}")[2]
            if tag == "siteinfo":
                base = _find(element, "base").rpartition("/")[0]
                site = _Site(base, parents[0].get("{http://www.w3.org/XML/1998/namespace}lang", ""))
            elif tag == "page":
                yield _from_page(element, site)
    except ParseError:
        yield Drop("broken xml")
    except (LookupError, ValueError):
        yield Drop("unknown encoding")


class _Site:
    """What a dump says of itself: address of its articles and language."""

    def __init__(self, base: str, lang: str) -> None:
        self.base, self.lang = base, lang


def _without_dtd(stream: BinaryIO) -> Iterator[bytes]:
    """The stream's chunks. Refused where a DTD comes before the root: dumps have none, and entities are bombs."""
    prologue = expat.ParserCreate()
    rooted: list[str] = []
    prologue.StartElementHandler = lambda name, _: rooted.append(name)
    prologue.StartDoctypeDeclHandler = _refuse_dtd
    while chunk := stream.read(CHUNK):
        if not rooted:
            try:
                prologue.Parse(chunk)
            except expat.ExpatError:  # said by the other parser too, behind what stands before it
                rooted.append("")
        yield chunk


def _refuse_dtd(*_: object) -> None:
    raise Refused("xml with a dtd")


def _elements(chunks: Iterator[bytes], parser: Any) -> Iterator[tuple[Any, list[Any]]]:
    """Each finished element with its ancestors, outermost first. ParseError where the XML breaks.

    Refused when a page, or what stands between two, is larger than a page can be.
    """
    path: list[Any] = []
    num_bytes = num_elements = 0
    for chunk in chunks:
        parser.feed(chunk)
        num_bytes += len(chunk)
        for event, element in parser.read_events():
            if event == "start":
                path.append(element)
                num_elements += 1
            else:
                path.pop()
                if path:
                    yield element, path
                if len(path) == 1:
                    num_bytes = num_elements = 0
                    del path[0][:]
            if num_elements > MAX_ELEMENTS:
                raise Refused("page too large")
        if num_bytes > MAX_PAGE:
            raise Refused("page too large")
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
    if _is_trap(wikitext):
        return Drop("unbalanced markup")
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


BRACKET = re.compile(r"\{\{|\{\||\[\[|\[(?=\w+:)|<!--|<(?!(?:br|hr|li|wbr)\b)(?=[a-zA-Z])|\}\}|\|\}|\]\]?|-->|</|/>")


def _is_trap(wikitext: str) -> bool:
    """Whether so many brackets are left open in so long a text that the parser would not come to an end."""
    if (wikitext.count("{") + wikitext.count("[") + wikitext.count("<")) * len(wikitext) < MAX_UNCLOSED:
        return False
    unclosed = 0
    for bracket in BRACKET.finditer(wikitext):
        unclosed = unclosed + 1 if bracket[0][0] in "{[<" and bracket[0] != "</" else max(0, unclosed - 1)
    return unclosed * len(wikitext) > MAX_UNCLOSED


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
    "HTMLEntity": lambda node: str(node.normalize()).encode(errors="ignore").decode(),
    "Wikilink": _link,
    "ExternalLink": lambda node: _plain(node.title) if node.brackets else "",
    "Tag": _tag,
    "Template": _template,
    "Comment": _nothing,
    "Argument": _nothing,
}
