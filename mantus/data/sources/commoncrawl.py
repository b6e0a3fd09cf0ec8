"""Common Crawl by the id of a crawl: which files, or which single pages of them, are meant.

It knows the crawl's lists and its URL index, not what is in a page (warc.py). A crawl never changes once it is out,
so that lists and answers of the index are fetched once.
"""

import gzip
import json
import re
from pathlib import Path
from urllib.parse import urlencode

from mantus.data.sources import http
from mantus.data.sources.cache import cache_folder, cached, digest, fetch
from mantus.data.sources.source import File, Manners, Remote, Source
from mantus.storage import Reference

Capture = tuple[str, int, int]
"""Path of a WARC file in the crawl's store, first byte of a record, its bytes."""


def crawl_files(source: Source, where: str, manners: Manners) -> tuple[Reference, list[File]]:
    """The fingerprint of what is meant, and its files, none of them fetched.

    ValueError names `where` when there is no such crawl or nothing is chosen; OSError when nobody answers.
    """
    if not re.fullmatch(r"CC-[A-Z]+-[\w-]+", source.path):
        raise ValueError(f"{where}.path: {source.path!r} is no crawl's id; such as CC-MAIN-2024-10")
    if source.query and source.crawl == "WET":
        raise ValueError(f"{where}.crawl: the URL index knows pages, not their texts; leave out query or take WARC")
    try:
        chosen = _captures(source, manners) if source.query else [(name, 0, 0) for name in _paths(source, manners)]
    except (ValueError, OSError) as error:
        raise type(error)(f"{where}.path: {error}") from None
    if not chosen:
        raise ValueError(f"{where}: {source.path}: nothing is chosen; see query, query_filters, segments and limit")
    key = digest(f"{name} {start} {length}" for name, start, length in chosen)
    return Reference(f"commoncrawl:{source.path}", key), [_file(source, item, manners) for item in chosen]


def _file(source: Source, capture: Capture, manners: Manners) -> File:
    name, start, length = capture
    url = f"{source.base.rstrip('/')}/{name}"
    folder = cache_folder("commoncrawl", url, f"{start}-{length}")
    remote = Remote(url, (start, start + length) if length else None, kept=False, manners=manners)
    return File(folder / "records.warc.gz", url, remote=remote, size=length)


def _paths(source: Source, manners: Manners) -> list[str]:
    """Paths of the crawl's files, in the order of its list."""
    url = f"{source.base.rstrip('/')}/crawl-data/{source.path}/{source.crawl.lower()}.paths.gz"
    with cached("commoncrawl", url, "paths") as (folder, is_new):
        if is_new:
            fetch(Remote(url, manners=manners), folder / "paths.gz")
            _lines(folder / "paths.gz", url)  # what is no list must not enter the cache
    paths = _lines(cache_folder("commoncrawl", url, "paths") / "paths.gz", url)
    if source.segments:
        paths = [path for path in paths if any(f"/segments/{segment}/" in path for segment in source.segments)]
    return paths[: source.limit or None]


def _lines(path: Path, url: str) -> list[str]:
    try:
        lines = gzip.decompress(path.read_bytes()).decode().split()
    except (OSError, EOFError, UnicodeError) as error:
        raise OSError(
            f"{url}: is no gzipped list ({type(error).__name__}); is `base` a copy of Common Crawl?"
        ) from None
    if any(".." in line.split("/") for line in lines):
        raise OSError(f"{url}: names files outside of the crawl; is `base` a copy of Common Crawl?")
    return lines


def _captures(source: Source, manners: Manners) -> list[Capture]:
    """Records that the URL index has for the query, sorted by where they lie."""
    question = [("url", source.query), ("output", "json"), *(("filter", item) for item in source.query_filters)]
    url = f"{source.index.rstrip('/')}/{source.path}-index?{urlencode(question)}"
    with cached("commoncrawl", url, str(source.limit)) as (folder, is_new):
        if is_new:
            found = _ask(url, source.limit, manners)
            (folder / "captures.json").write_text(json.dumps(sorted(found)))
    known = json.loads((cache_folder("commoncrawl", url, str(source.limit)) / "captures.json").read_bytes())
    return [(name, start, length) for name, start, length in known]


def _ask(url: str, limit: int, manners: Manners) -> set[Capture]:
    found: set[Capture] = set()
    try:
        num_pages = int(json.loads(http.get(f"{url}&showNumPages=true", manners))["pages"])
        for page in range(num_pages):
            for line in http.get(f"{url}&page={page}", manners).splitlines():
                row = json.loads(line)
                found.add((_safe(str(row["filename"])), int(row["offset"]), int(row["length"])))
                if len(found) == limit:
                    return found
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise OSError(f"{url}: is no answer of a URL index ({type(error).__name__}); correct `index`") from None
    except ValueError as error:
        if "answers 404" in str(error):  # the index's word for "nothing found"
            return found
        raise
    return found


def _safe(name: str) -> str:
    if name.startswith("/") or ".." in name.split("/"):
        raise OSError(f"{name}: the URL index names a file outside of the crawl; correct `index`")
    return name
