"""A crawl of this machine's own text: documents of installed packages as pages of a WARC file, to measure phases on.

It knows files and WARC records, not what is measured. A crawl of the web has other pages: see `mantus plan --like`.
"""

import gzip
import hashlib
import html
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

MAX_BYTES = 200_000
"""Of one text."""
MIN_BYTES = 200
PROSE = (".md", ".rst", ".txt")
DOCSTRING = re.compile(r'"""(.+?)"""', re.DOTALL)
HEAD = """<!DOCTYPE html><html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<link rel="stylesheet" href="/style.css"><script>window.page = {{"path": "{title}"}};</script></head><body>
<header><nav class="menu"><ul><li><a href="/">Home</a></li><li><a href="/packages">Packages</a></li>
<li><a href="/about">About</a></li><li><a href="/contact">Contact</a></li></ul></nav></header>
<main><article><h1>{title}</h1>
"""
TAIL = """</article></main><footer><p><a href="/terms">Terms</a> <a href="/privacy">Privacy</a></p>
<script src="/script.js"></script></footer></body></html>
"""


def texts(megabytes: float) -> Iterator[tuple[str, str]]:
    """(name, text) of documents and docstrings of installed packages, in the order of their names' hashes."""
    files = {}
    for package in metadata.distributions():
        for entry in package.files or ():
            if entry.suffix in (*PROSE, ".py") or entry.name == "METADATA":
                files[entry.as_posix()] = entry
    size = 0
    for name in sorted(files, key=lambda name: hashlib.blake2b(name.encode()).digest()):
        path = Path(str(files[name].locate()))
        if not path.is_file() or path.stat().st_size > 4 * MAX_BYTES:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        if name.endswith(".py"):
            text = "\n\n".join(DOCSTRING.findall(text))
        if MIN_BYTES <= len(text) <= MAX_BYTES:
            yield name, text
            size += len(text)
            if size >= megabytes * 1e6:
                return


def write_crawl(megabytes: float, path: Path) -> None:
    """Write such texts as a WARC file, each page a gzip member as Common Crawl has them."""
    with path.open("wb") as file:
        for name, text in texts(megabytes):
            file.write(gzip.compress(_record(name, _page(name, text)), 6))


def _page(name: str, text: str) -> bytes:
    paragraphs = (part for part in re.split(r"\n\s*\n", text) if part.strip())
    body = "\n".join(f"<p>{html.escape(part)}</p>" for part in paragraphs)
    return f"{HEAD.format(title=html.escape(name))}{body}\n{TAIL}".encode()


def _record(name: str, page: bytes) -> bytes:
    answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + page
    head = (
        f"WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://packages.example/{name}\r\n"
        f"WARC-Date: 2026-01-01T00:00:00Z\r\nContent-Type: application/http; msgtype=response\r\n"
        f"Content-Length: {len(answer)}\r\n\r\n"
    )
    return head.encode() + answer + b"\r\n\r\n"
