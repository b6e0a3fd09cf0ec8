"""A list of URLs that nothing is taken from: domains with all beneath them, and beginnings of URLs.

It knows lists and URLs, not documents.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

BLOCKED = "blocked url"
"""The reason of the drop."""

ENTRY = re.compile(r"(?i)(?:https?://)?(?:\*\.|\.)?((?:[^\s/?#:@.]+\.)*[^\s/?#:@.]+)\.?(?::\d+)?([/?#]\S*)?")
"""A domain, or the beginning of a URL: host, and what stands behind it."""

HOST = r"^(?i:https?://)?(?:[^/?#@]*@)?([^/?#:]+)"
"""The host of a URL, for polars."""


@dataclass(frozen=True, slots=True)
class Blocklist:
    """What is blocked."""

    domains: frozenset[str] = frozenset()
    prefixes: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """By host: beginnings of what stands behind it."""

    def __bool__(self) -> bool:
        return bool(self.domains or self.prefixes)

    def rules(self, urls: Any) -> Any:
        """Whether each URL of a polars series is blocked. What has no host (file:...) is not."""
        import polars as pl

        if not self:
            return pl.repeat(False, len(urls), eager=True)
        hosts = urls.str.extract(HOST).str.to_lowercase().str.strip_chars_end(".").fill_null("")
        known = {host: self._domain(host) for host in hosts.unique()}
        blocked = [known[host] or self._prefix(host, url) for host, url in zip(hosts, urls, strict=True)]
        return pl.Series(blocked, dtype=pl.Boolean)

    def _domain(self, host: str) -> bool:
        labels = host.split(".")
        return any(".".join(labels[first:]) in self.domains for first in range(len(labels)))

    def _prefix(self, host: str, url: str) -> bool:
        wanted = self.prefixes.get(host)
        return wanted is not None and _behind(url).startswith(wanted)


def read_blocklist(lines: Iterable[str], where: str) -> Blocklist:
    """A list, one entry a line: example.org (with its subdomains), https://example.org/path (all that begins so), or a
    line of a hosts file. Lines that begin with # are left out, and so is what follows a blank and #.

    ValueError names `where` and the line when it is neither, and when nothing is listed.
    """
    domains: set[str] = set()
    prefixes: dict[str, list[str]] = {}
    for line in lines:
        entry = re.sub(r"(^|\s)#.*", "", re.sub(r"^\s*(?:0\.0\.0\.0|127\.0\.0\.1|::1?)\s+", "", line)).strip()
        if not entry:
            continue
        given = ENTRY.fullmatch(entry)
        if given is None:
            raise ValueError(f"{where}: {entry!r}: expected a domain or the beginning of a URL, one a line")
        host, path = given[1].lower(), given[2] or ""
        if path in ("", "/"):
            domains.add(host)
        else:
            prefixes.setdefault(host, []).append(path)
    if not domains and not prefixes:
        raise ValueError(f"{where}: names no URL; one domain or beginning of a URL a line")
    return Blocklist(frozenset(domains), {host: tuple(sorted(found)) for host, found in prefixes.items()})


def _behind(url: str) -> str:
    """What stands behind the host of a URL."""
    found = re.match(r"(?i:https?://)?[^/?#]+", url)
    return url[found.end() :] if found else url
