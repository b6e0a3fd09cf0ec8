"""A foreign OpenAI-compatible endpoint that answers from a script and records what it is asked."""

import json
import threading
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from mantus.agent.llm import Reply

LONGEST_SILENCE_S = 30


@dataclass(frozen=True)
class Answer:
    """One answer to a chat request.

    end: 'done' with the [DONE] mark, 'early' without it, 'cut' breaks the connection, 'silent' keeps it open.
    """

    lines: Sequence[str] = ()
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    pause_s: float = 0.0
    end: str = "done"


def event(value: Any) -> str:
    return "data: " + json.dumps(value)


def chunk(delta: dict[str, Any], finish_reason: str | None = None) -> str:
    choice = {"index": 0, "delta": delta, "finish_reason": finish_reason}
    return event({"object": "chat.completion.chunk", "choices": [choice]})


def counted(prompt: int, completion: int) -> str:
    return event({"choices": [], "usage": {"prompt_tokens": prompt, "completion_tokens": completion}})


def says(*pieces: str, finish_reason: str = "stop", usage: tuple[int, int] = (0, 0), **how: Any) -> Answer:
    """A reply of text, in these pieces."""
    lines = [chunk({"role": "assistant"}), *(chunk({"content": piece}) for piece in pieces)]
    return Answer([*lines, chunk({}, finish_reason), counted(*usage)], **how)


def calls(*wanted: tuple[str, Any], usage: tuple[int, int] = (0, 0)) -> Answer:
    """A reply of calls in `tool_calls`; arguments that are text go out as they are, so they may be broken."""
    lines = []
    for index, (name, arguments) in enumerate(wanted):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        start = {"index": index, "id": f"x{index}", "type": "function", "function": {"name": name, "arguments": ""}}
        lines.append(chunk({"tool_calls": [start]}))
        lines += [chunk({"tool_calls": [{"index": index, "function": {"arguments": part}}]}) for part in text]
    return Answer([*lines, chunk({}, "tool_calls"), counted(*usage)])


def refuses(status: int, message: str = "busy", **headers: str) -> Answer:
    lines = [json.dumps({"error": {"message": message}})]
    return Answer(lines, status, {name.replace("_", "-"): value for name, value in headers.items()})


def whole(stream: Generator[str, None, Reply]) -> tuple[list[str], Reply]:
    """The pieces of text and the reply."""
    pieces = []
    while True:
        try:
            pieces.append(next(stream))
        except StopIteration as ended:
            return pieces, ended.value


class Endpoint(ThreadingHTTPServer):
    """The server. script: the answers still to give.  requests: the bodies seen.  hung_up: a client left a stream."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"
        self.script: deque[Answer] = deque()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.listed: Any = {"object": "list", "data": [{"id": "scripted"}, {"id": "other"}]}
        self.listing_is_silent = False
        self.hung_up, self.closing = threading.Event(), threading.Event()

    @classmethod
    @contextmanager
    def running(cls) -> Iterator["Endpoint"]:
        """A fresh endpoint that answers until the end of the block."""
        with cls() as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
            thread.start()
            yield server
            server.closing.set()
            server.shutdown()
            thread.join()

    def then(self, *answers: Answer) -> None:
        """Go on with these answers."""
        self.script.extend(answers)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Endpoint

    def do_GET(self) -> None:
        if self.server.listing_is_silent:
            self.server.closing.wait(LONGEST_SILENCE_S)
        with suppress(ConnectionError):
            self._whole(200, json.dumps(self.server.listed), {})

    def do_POST(self) -> None:
        self.server.requests.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        self.server.headers.append(dict(self.headers))
        answer = self.server.script.popleft() if self.server.script else refuses(500, "the script is over")
        try:
            if answer.status == 200:
                self._stream(answer)
            else:
                self._whole(answer.status, "\n".join(answer.lines), answer.headers)
        except ConnectionError:
            self.server.hung_up.set()
            self.close_connection = True

    def _whole(self, status: int, text: str, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "Content-Length": str(len(text.encode()))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(text.encode())

    def _stream(self, answer: Answer) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in answer.lines:
            self._write(f"{line}\n\n".encode())
            self.server.closing.wait(answer.pause_s)
        if answer.end == "cut":
            self.close_connection = True
            return
        if answer.end == "silent":
            self.server.closing.wait(LONGEST_SILENCE_S)
        if answer.end == "done":
            self._write(b"data: [DONE]\n\n")
        self.wfile.write(b"0\r\n\r\n")

    def _write(self, data: bytes) -> None:
        self.wfile.write(b"%x\r\n%b\r\n" % (len(data), data))

    def log_message(self, *_: Any) -> None:
        """Nothing: a test's output is its own."""
