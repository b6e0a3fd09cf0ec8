"""What a source of text is, the files it is made of, and what reading them gives: documents and drops.

It does not know how any of them is read or fetched.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Literal

from pydantic import BaseModel, ConfigDict, Field

from mantus.data.corpus import Document

MAX_TEXT = 32 << 20
"""Bytes of one line, row, page or record; a longer one is dropped, so that memory has a bound whatever comes."""


class Source(BaseModel):
    """One place to read documents from."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    type: Literal[
        "warc", "wikipedia", "git", "jsonl", "text", "parquet", "code", "commoncrawl", "repositories", "huggingface"
    ]
    """How to read it. warc: web crawl (also WET); wikipedia: XML dump, in parallel where a multistream index lies
    beside it; git: tracked text files; jsonl, text, parquet: rows or whole files; code: sources of installed Python
    packages; commoncrawl: a crawl by its id; repositories: a list of git repositories; huggingface: a data set."""
    path: str = ""
    """A path, a glob or a folder; http(s)://...; s3://bucket/glob; pypi:<name>==<version>/<glob inside the file>;
    for git a repository's path or URL; for commoncrawl the crawl's id; for repositories a file with one repository a
    line (path or URL, behind it a commit where it is pinned); for huggingface a data set's name or folder."""
    name: str = ""
    """What the corpus calls it; by default the last part of the path."""
    license: str = ""
    """SPDX name of the licence of its documents; '' means what is found (git, code) or else 'unknown'."""
    max_mb: float = Field(default=0, ge=0)
    """Stop after this many MB of text (0 = all). Files of git and code are then a sample spread by hash."""
    members: str = ""
    """For zip and tar archives at a path, http or s3: which members to read, a glob."""
    kind: Literal["sdist", "wheel"] = "sdist"
    """Which file of a PyPI release to read."""
    sha256: str = Field(default="", pattern="^([0-9a-f]{64})?$")
    """The digest the PyPI file or the file at http(s) must have ('' = any); checked before anything in it is used."""
    rev: str = ""
    """For git: the commit, tag or branch to read ('' = HEAD)."""
    packages: tuple[str, ...] = ()
    """For code: distributions to read, by name; they must be installed."""
    suffixes: tuple[str, ...] = ()
    """For git, code and repositories: file suffixes to read ('' = a list of common text formats)."""
    text_field: str = "text"
    """For rows (jsonl, parquet, huggingface): the field with the text."""
    id_field: str = "id"
    """For rows: the field that names a row in its URL, where present."""
    document_kb: int = Field(default=64, ge=1)
    """For text: longer files become several documents, cut at blank lines."""
    base: str = "https://data.commoncrawl.org"
    """For commoncrawl: where the crawls lie, https://... or s3://commoncrawl."""
    crawl: Literal["WARC", "WET"] = "WARC"
    """For commoncrawl: pages to extract (WARC) or text that Common Crawl has extracted (WET)."""
    segments: tuple[str, ...] = ()
    """For commoncrawl: only these segments, by their names (1707947473347.0)."""
    limit: int = Field(default=0, ge=0)
    """For commoncrawl: the first so many files, or pages where `query` is given (0 = all)."""
    query: str = ""
    """For commoncrawl: only pages that the crawl's URL index has for this (example.org/*, *.example.org)."""
    query_filters: tuple[str, ...] = ("=status:200", "~mime:html")
    """For commoncrawl with `query`: the index's filters."""
    index: str = "https://index.commoncrawl.org"
    """For commoncrawl with `query`: the URL index."""
    repositories: tuple[str, ...] = ()
    """For repositories: the list, or more of it, inline."""
    history: bool = False
    """For git and repositories: every version of every file, not only the last."""
    licenses: tuple[str, ...] = ()
    """For repositories: only those with one of these licences (SPDX names); the others are dropped ('' = all)."""
    repository_mb: float = Field(default=0, ge=0)
    """For repositories: at most so many MB of text from each, spread by hash (0 = all)."""
    clone_s: float = Field(default=600, gt=0)
    """For repositories: seconds that cloning one may take."""
    config: str = ""
    """For huggingface: the data set's configuration."""
    split: str = "train"
    """For huggingface: the split."""
    revision: str = "main"
    """For huggingface, where it comes from a hub: branch, tag or commit."""

    @property
    def title(self) -> str:
        """Its name in the corpus."""
        last = self.path.rstrip("/").removeprefix("pypi:").split("==")[0].rpartition("/")[2]
        return self.name or last.partition("*")[0] or self.type


@dataclass(frozen=True, slots=True)
class Drop:
    """Something that was read but did not become a document."""

    reason: str


class Refused(Exception):
    """What is being read must not be read further: the reason of the drop."""


@dataclass(frozen=True, slots=True)
class Manners:
    """How to behave towards servers that are not ours."""

    user_agent: str = ""
    """How requests name their sender ('' = Mantus and its version)."""
    requests_per_s: float = 10
    """Requests a second to one host, over all processes of this machine."""
    attempts: int = 6
    """Requests for one thing before it is given up; what a broken transfer brought is kept."""
    backoff_s: float = 1
    """Seconds before the second attempt; each further one waits twice as long, or what the server asks for."""
    max_wait_s: float = 300
    """The longest wait that a server may ask for."""
    timeout_s: float = 60
    """Seconds without a byte after which a connection counts as lost."""


@dataclass(frozen=True, slots=True)
class Remote:
    """Where a file comes from that is not here yet."""

    url: str
    """http(s)://... or s3://..."""
    span: tuple[int, int] | None = None
    """First byte and the byte behind the last; None: all of it."""
    sha256: str = ""
    """The digest that it must have; '' where unknown."""
    etag: str = ""
    """The ETag under which it was looked up; '' where unknown."""
    kept: bool = True
    """Whether it stays in the cache; False: it is removed when it has been read."""
    manners: Manners = Manners()


@dataclass(frozen=True, slots=True)
class File:
    """One file to read; `members` is a glob when it is an archive whose members are meant."""

    path: Path
    """Where it lies, or will lie once it is fetched."""
    url: str
    members: str = ""
    remote: Remote | None = None
    """Where to fetch it from when it is not there; None: it is local."""
    size: int = 0
    """Bytes, where it is not here to be asked; 0 = unknown."""
    span: tuple[int, int] | None = None
    """The bytes of the local file that are meant (first, behind the last); None: all."""
    head: bytes = b""
    """What to read before its bytes: the opening of an XML dump of which they are a stretch."""
    tail: bytes = b""
    """What to read behind its bytes."""
    shard: tuple[int, int] = (0, 1)
    """For a data set: which of how many shards."""
    commit: str = ""
    """For a repository: the commit that is meant; '' when nobody knows it."""


Item = Document | Drop
Reader = Callable[[BinaryIO, Source, str], Iterator[Item]]


def sound(item: Item) -> Item:
    """The item, or a Drop where a document's strings cannot be stored or are too long."""
    if isinstance(item, Drop):
        return item
    try:
        size = len(item.text.encode())
        for field in (item.url, item.license, item.lang, item.added):
            field.encode()
    except UnicodeEncodeError:
        return Drop("not utf-8")
    if size > MAX_TEXT:
        return Drop("text too long")
    return Drop("binary") if "\0" in item.text else item
