"""Fetch pages and ask a search service, at public addresses only, each connected to exactly where it was checked.

It knows HTTP and addresses, not which text on a page matters.
"""

import ipaddress
import json
import re
import socket
import ssl
from collections.abc import Callable, Iterable
from html.parser import HTMLParser
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import httpcore

import mantus
from mantus.agent.tools import ToolError, tool

MAX_BYTES, MAX_HOPS, MAX_URL_CHARS = 1 << 20, 5, 2000
PORTS = (80, 443)
WAIT_S = 10.0
REDIRECTS = (301, 302, 303, 307, 308)
TEXTUAL = re.compile(r"text/|application/(json|xml|xhtml\+xml|.*\+json|.*\+xml)")
SILENT = {"script", "style", "template", "noscript", "svg", "head"}
BLOCKS = {"p", "br", "div", "li", "tr", "h1", "h2", "h3", "h4", "h5", "h6", "section", "article", "pre", "table"}

HIDING = [ipaddress.ip_network(text) for text in ("64:ff9b::/96", "64:ff9b:1::/48", "2002::/16", "2001::/32", "::/96")]
"""IPv6 that carries an IPv4 address (NAT64, 6to4, Teredo, compatible): it may lead anywhere, so it leads nowhere."""

Resolve = Callable[..., Iterable[tuple[Any, ...]]]


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and nothing else in disguise."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        if ip.ipv4_mapped:
            return is_public(str(ip.ipv4_mapped))
        if ip.is_site_local or any(ip in network for network in HIDING):
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved and not ip.is_unspecified


class PinnedNetwork(httpcore.SyncBackend):
    """Resolves a name once, checks every address that comes back, and connects to one of those that were checked."""

    def __init__(self, allow: frozenset[str], resolve: Resolve) -> None:
        """allow: 'host:port' that may be reached though they are not public."""
        self.allow, self.resolve = allow, resolve

    def connect_tcp(self, host: str, port: int, *args: Any, **options: Any) -> httpcore.NetworkStream:
        """Connect to a public address of `host`. ToolError when it has another one."""
        try:
            found = [str(entry[4][0]) for entry in self.resolve(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError):
            raise ToolError(f"no such host: {host}") from None
        if f"{host}:{port}" not in self.allow and (port not in PORTS or not all(map(is_public, found))):
            raise ToolError(f"not a public address: {host}")
        return super().connect_tcp(found[0], port, *args, **options)


def fetch(url: str, allow: str = "", resolve: Resolve = socket.getaddrinfo) -> tuple[str, str, bytes]:
    """GET a URL: the address it led to, the content's type, at most MAX_BYTES of it.

    Redirects are followed by hand, so that each hop is checked like the first. Nothing compressed is accepted, so a
    small answer stays small. No proxy, cookie or credential of the host is used. ToolError says in short what is wrong.
    """
    network = PinnedNetwork(frozenset(allow.split(",")), resolve)
    for _ in range(MAX_HOPS):
        _check(url)
        try:
            with httpcore.ConnectionPool(ssl_context=_trusted(), network_backend=network) as pool:
                found = _get(pool, url)
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException, OSError):
            raise ToolError(f"cannot reach {urlsplit(url).hostname}") from None
        if isinstance(found, tuple):
            return url, *found
        url = urljoin(url, found)
    raise ToolError("too many redirects")


def _trusted() -> ssl.SSLContext:
    import certifi

    return ssl.create_default_context(cafile=certifi.where())


def _check(url: str) -> None:
    if len(url) > MAX_URL_CHARS or re.search(r"[\s\x00-\x20\x7f\\]", url) or not url.isascii():
        raise ToolError("not a URL: write it in full, such as https://example.org/page, with %20 for a space")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ToolError("not a URL") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ToolError("only http:// and https:// can be fetched")
    if "@" in parts.netloc:
        raise ToolError("a URL with a user name is not fetched")


def _get(pool: httpcore.ConnectionPool, url: str) -> tuple[str, bytes] | str:
    """One hop: the type and the content, or where a redirect leads."""
    agent = f"mantus/{mantus.__version__}"
    headers = [("User-Agent", agent), ("Accept", "text/*, application/json"), ("Accept-Encoding", "identity")]
    timeouts = dict.fromkeys(("connect", "read", "write", "pool"), WAIT_S)
    with pool.stream("GET", url, headers=headers, extensions={"timeout": timeouts}) as response:
        fields = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.headers}
        if response.status in REDIRECTS and "location" in fields:
            return fields["location"]
        if response.status != 200:
            raise ToolError(f"the server answered {response.status}")
        if fields.get("content-encoding", "identity") != "identity":
            raise ToolError("the server sent something compressed")
        kind = fields.get("content-type", "text/plain").lower()
        if not TEXTUAL.match(kind):
            raise ToolError(f"not text: {kind[:60]}")
        content = bytearray()
        for part in response.iter_stream():
            content += part
            if len(content) >= MAX_BYTES:
                break
        return kind, bytes(content[:MAX_BYTES])


@tool(effects=["network"], timeout_s=20.0)
def http_get(url: str, *, allow: str = "") -> str:
    """Get the text of a web page."""
    _, kind, content = fetch(url, allow)
    text = content.decode("utf-8", errors="replace")
    return readable(text) if "html" in kind else text


@tool(effects=["network"], timeout_s=20.0)
def web_search(query: str, *, service: str, allow: str = "", num_results: int = 5) -> str:
    """Search the web."""
    _, _, content = fetch(service.replace("{query}", quote(query.encode("utf-8", "replace"))), allow)
    try:
        rows = json.loads(content)["results"][:num_results]
        found = [f"{row['title']} ({row['url']}): {row.get('content') or ''}"[:500] for row in rows]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ToolError("the search service gave no results in JSON") from None
    if not found:
        raise ToolError("nothing found")
    return "\n".join(found)


class _Reader(HTMLParser):
    """Collects what a page shows."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._silent = 0

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self._silent += tag in SILENT
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        self._silent = max(0, self._silent - (tag in SILENT))
        if tag in BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        if not self._silent:
            self.parts.append(data.replace("\n", " "))


def readable(page: str) -> str:
    """The text that an HTML page shows, a line for each block."""
    reader = _Reader()
    reader.feed(page)
    reader.close()
    lines = (" ".join(line.split()) for line in "".join(reader.parts).split("\n"))
    return "\n".join(line for line in lines if line)
