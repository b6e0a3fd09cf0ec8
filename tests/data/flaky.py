"""A web server on loopback that goes wrong on purpose: it drops, truncates, throttles, lies and asks to wait."""

import hashlib
import http.server
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import Message


@dataclass
class Fault:
    """What goes wrong with one answer; nothing by default."""

    status: int = 0
    retry_after: str = ""
    drop_at: int = -1
    """Close the connection after so many bytes of the body."""
    announce: int = -1
    """The Content-Length to give, whatever is sent."""
    ignore_range: bool = False
    shift: int = 0
    """Begin the range so many bytes off."""
    stall_s: float = 0
    """Wait before each 16 bytes of the body."""
    swap: bytes | None = None
    """From now on the file is this."""
    garble: bool = False
    """Send other bytes than the file has, as many."""
    no_body_length: bool = False
    headers: dict[str, str] = field(default_factory=dict)


@dataclass
class Seen:
    """One request."""

    method: str
    path: str
    headers: Message
    at: float


class Site:
    """Files by path, faults by path (one is used up by each GET of it), and the requests so far."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.faults: dict[str, list[Fault]] = {}
        self.seen: list[Seen] = []
        self.url = ""
        self.etags = True
        self.server = "flaky"

    def gets(self, path: str) -> list[Seen]:
        return [seen for seen in self.seen if seen.path == path and seen.method == "GET"]


@contextmanager
def serving() -> Iterator[Site]:
    """The site, served until the block ends."""
    site = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def version_string(self) -> str:
            return site.server

        def do_HEAD(self) -> None:
            answer(self, site)

        def do_GET(self) -> None:
            answer(self, site)

        do_PUT = do_GET

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        site.url = f"http://127.0.0.1:{server.server_address[1]}"
        yield site
        server.shutdown()


def answer(handler: http.server.BaseHTTPRequestHandler, site: Site) -> None:
    path = handler.path
    site.seen.append(Seen(handler.command, path, handler.headers, time.monotonic()))
    waiting = site.faults.get(path, [])
    fault = waiting.pop(0) if waiting and handler.command == "GET" else Fault()
    if fault.swap is not None:
        site.files[path] = fault.swap
    body = site.files.get(path)
    if body is None or fault.status:
        send(handler, fault.status or 404, b"", {"Retry-After": fault.retry_after} if fault.retry_after else {}, fault)
        return
    etag = f'"{hashlib.sha1(body).hexdigest()[:16]}"'
    headers = {"ETag": etag} if site.etags else {}
    span = ranged(handler.headers, len(body), etag) if not fault.ignore_range else None
    if span is None:
        send(handler, 200, body, headers, fault)
    elif span[0] >= len(body):
        send(handler, 416, b"", {"Content-Range": f"bytes */{len(body)}"}, fault)
    else:
        first, stop = span[0] + fault.shift, span[1]
        headers["Content-Range"] = f"bytes {first}-{stop - 1}/{len(body)}"
        send(handler, 206, body[first:stop], headers, fault)


def ranged(headers: Message, size: int, etag: str) -> tuple[int, int] | None:
    wanted = headers.get("Range", "")
    if not wanted.startswith("bytes=") or headers.get("If-Range", etag) != etag:
        return None
    first, _, last = wanted.removeprefix("bytes=").partition("-")
    return int(first), min(size, int(last) + 1 if last else size)


def send(handler: http.server.BaseHTTPRequestHandler, status: int, body: bytes, headers: dict[str, str], fault: Fault):
    if fault.garble:
        body = bytes(byte ^ 1 for byte in body)
    handler.send_response(status)
    for name, value in {**headers, **fault.headers}.items():
        handler.send_header(name, value)
    if fault.no_body_length:
        handler.send_header("Connection", "close")
    else:
        handler.send_header("Content-Length", str(len(body) if fault.announce < 0 else fault.announce))
    handler.end_headers()
    if handler.command == "HEAD":
        return
    meant = body if fault.drop_at < 0 else body[: fault.drop_at]
    try:
        if fault.stall_s:
            for at in range(0, len(meant), 16):
                time.sleep(fault.stall_s)
                handler.wfile.write(meant[at : at + 16])
        handler.wfile.write(b"" if fault.stall_s else meant)
    except OSError:
        pass
    if fault.drop_at >= 0 or fault.no_body_length or fault.announce >= 0:
        handler.close_connection = True
