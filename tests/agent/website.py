"""A site on this machine with pages that behave and pages that do not."""

import gzip
import json
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mantus.agent.builtin.web import MAX_BYTES

PAGE = (
    "<html><head><title>T</title></head><body><h1>Big &amp; bold</h1><script>x</script><p>One\n two</p></body></html>"
)
RESULTS = {"results": [{"title": "A", "url": "http://a/", "content": "about a"}, {"title": "B", "url": "http://b/"}]}


class Site(BaseHTTPRequestHandler):
    """Pages that behave and pages that do not."""

    def do_GET(self) -> None:
        path, _, query = self.path.partition("?")
        self.server.seen.append((self.path, dict(self.headers)))  # type: ignore[attr-defined]
        if path == "/hop":
            self.answer(302, "", Location=query)
        elif path == "/loop":
            self.answer(302, "", Location="/loop")
        elif path == "/search":
            self.answer(200, json.dumps(RESULTS), Content_Type="application/json")
        elif path == "/none":
            self.answer(200, json.dumps({"results": []}), Content_Type="application/json")
        elif path == "/image":
            self.answer(200, "x", Content_Type="image/png")
        elif path == "/bomb":
            self.answer(200, gzip.compress(b"0" * 50_000_000), Content_Encoding="gzip")
        elif path == "/long":
            self.answer(200, "x" * (MAX_BYTES + 5))
        elif path == "/gone":
            self.answer(404, "gone")
        else:
            self.answer(200, PAGE, Content_Type="text/html; charset=utf-8")

    def answer(self, status: int, body: str | bytes, **headers: str) -> None:
        data = body.encode() if isinstance(body, str) else body
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        try:
            self.wfile.write(data)
        except ConnectionError:
            self.close_connection = True

    def log_message(self, *_: Any) -> None:
        """Nothing."""


class Web(ThreadingHTTPServer):
    """A site at `localhost`, and what was asked of it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Site)
        self.seen: list[tuple[str, dict[str, str]]] = []
        self.place = f"localhost:{self.server_address[1]}"
