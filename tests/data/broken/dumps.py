"""Broken dumps of Wikipedia: XML and wikitext made to blow up or to lead out."""

import bz2
from pathlib import Path

from tests.data.broken.case import MB, PROSE, Case, case, repeated, write


def dump(folder: Path, *pages: str, before: str = "", name: str = "dump.xml") -> dict[str, object]:
    return {"type": "wikipedia", "path": write(folder, name, dumped(*pages, before=before))}


def dumped(*pages: str, before: str = "") -> bytes:
    head = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/" xml:lang="en"><siteinfo><base>'
    return f"{before}{head}http://en.example.org/wiki/Main</base></siteinfo>{''.join(pages)}</mediawiki>".encode()


def article(number: int, text: str = PROSE * 5) -> str:
    revision = f"<revision><timestamp>2016-01-01T00:00:00Z</timestamp><text>{text}</text></revision>"
    return f"<page><title>River {number}</title><ns>0</ns>{revision}</page>"


@case
def xml_of_a_billion_laughs(folder: Path, _: int) -> Case:
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    before = f'<?xml version="1.0"?><!DOCTYPE m [<!ENTITY l0 "lol">{laughs}]>'
    return Case(dump(folder, article(1, "&l9;"), before=before), {"xml with a dtd": 1})


@case
def xml_that_names_a_file_of_this_machine(folder: Path, _: int) -> Case:
    before = '<!DOCTYPE m [<!ENTITY secret SYSTEM "file:///etc/passwd">]>'
    return Case(dump(folder, article(1, "&secret;"), before=before), {"xml with a dtd": 1})


@case
def xml_of_blown_up_entities(folder: Path, _: int) -> Case:
    before = f'<!DOCTYPE m [<!ENTITY a "{"a" * 100_000}">]>'
    return Case(dump(folder, article(1, "&a;" * 10_000), before=before), {"xml with a dtd": 1})


@case
def xml_with_a_dtd_in_utf16(folder: Path, _: int) -> Case:
    text = '<?xml version="1.0" encoding="utf-16"?><!DOCTYPE m [<!ENTITY a "b">]><mediawiki>&a;</mediawiki>'
    return Case({"type": "wikipedia", "path": write(folder, "d.xml", text.encode("utf-16"))}, {"xml with a dtd": 1})


@case
def xml_in_an_encoding_that_nobody_knows(folder: Path, _: int) -> Case:
    source = dump(folder, article(1), before='<?xml version="1.0" encoding="klingon-7"?>')
    return Case(source, {"unknown encoding": 1})


@case
def xml_in_an_encoding_that_cannot_be_read(folder: Path, _: int) -> Case:
    source = dump(folder, article(1), before='<?xml version="1.0" encoding="big5"?>')
    return Case(source, {"unknown encoding": 1})


@case
def xml_of_one_endless_page(folder: Path, size: int) -> Case:
    before = dumped(article(1)).removesuffix(b"</mediawiki>") + b"<page><title>x</title><revision><text>"
    return Case(
        {"type": "wikipedia", "path": repeated(folder / "d.xml", PROSE.encode(), size, before)},
        {"page too large": 1},
        1,
    )


@case
def xml_of_one_endless_tag(folder: Path, size: int) -> Case:
    before = dumped(article(1)).removesuffix(b"</mediawiki>") + b'<page a="'
    return Case({"type": "wikipedia", "path": repeated(folder / "d.xml", b"x", size, before)}, {"page too large": 1}, 1)


@case
def xml_nested_without_end(folder: Path, size: int) -> Case:
    before = dumped(article(1)).removesuffix(b"</mediawiki>")
    return Case(
        {"type": "wikipedia", "path": repeated(folder / "d.xml", b"<a>", size, before)}, {"page too large": 1}, 1
    )


@case
def wikitext_that_opens_and_never_closes(folder: Path, _: int) -> Case:
    traps = [article(n, text * 20_000) for n, text in enumerate(("{{{a|", "{{a|[[b|", "[http://a ", "&lt;ref>"), 2)]
    return Case(dump(folder, article(1), *traps, article(9)), {"unbalanced markup": 4}, 2)


@case
def wikitext_with_half_a_letter(folder: Path, _: int) -> Case:
    return Case(dump(folder, article(1, f"{PROSE * 5} &amp;#xD800; and on.")), {}, 1)


@case
def dump_cut_off(folder: Path, _: int) -> Case:
    packed = bz2.compress(dumped(*(article(n) for n in range(3))))
    return Case({"type": "wikipedia", "path": write(folder, "d.xml.bz2", packed[:-9])}, {"damaged compression": 1})


@case
def dump_that_is_a_bomb(folder: Path, size: int) -> Case:
    packed = bz2.compress(dumped(article(1)).removesuffix(b"</mediawiki>") + b" " * (size + 70) * MB)
    return Case({"type": "wikipedia", "path": write(folder, "d.xml.bz2", packed)}, {"page too large": 1}, 1)
