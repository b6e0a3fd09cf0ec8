"""Stream chat completions from any OpenAI-compatible endpoint: text as it comes, then the whole reply.

It knows HTTP and the OpenAI protocol; it does not run tools nor know how the endpoint runs its model.
"""

import json
import math
import os
import random
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import httpx

from mantus.text.calls import Call, Malformed, StreamParser, TextDelta, ThoughtDelta, make_call

Message = dict[str, Any]
RETRIED = (429, 503)
MAX_REPLY_BYTES = 4 << 20
"""Of one reply, with what is around it; each token comes in an event of some 200 bytes."""
FIRST_WAIT_S, LONGEST_WAIT_S = 0.25, 8.0


class EndpointError(OSError):
    """The endpoint cannot be reached, refused, or broke off; the message is one line."""


class OutOfTime(Exception):
    """The caller's deadline passed; the request was given up."""


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written, as the endpoint counts them; 0 where it does not."""

    prompt: int = 0
    completion: int = 0

    @property
    def total(self) -> int:
        """Both together."""
        return self.prompt + self.completion


@dataclass(frozen=True, slots=True)
class Reply:
    """One whole answer of the model. finish_reason: OpenAI's 'stop', 'length', 'tool_calls', ..."""

    text: str
    calls: list[Call | Malformed]
    usage: Usage
    finish_reason: str


@dataclass
class _Partial:
    """A reply that is still coming in."""

    text: list[str] = field(default_factory=list)
    native: dict[int, dict[str, str]] = field(default_factory=dict)
    written: list[Call | Malformed] = field(default_factory=list)
    usage: Usage = field(default_factory=Usage)
    finish_reason: str = ""
    parser: StreamParser = field(default_factory=StreamParser)


class MantusLLM:
    """A model behind an endpoint. Greedy by default, so that the same chat gets the same reply.

    Not for several threads at once.
    """

    def __init__(
        self,
        base_url: str,
        *,
        model: str = "",
        api_key: str = "",
        max_tokens: int = 256,
        temperature: float = 0.0,
        attempts: int = 5,
        timeout_s: float = 60.0,
    ) -> None:
        """base_url: such as 'http://127.0.0.1:8080/v1'.

        model: '' takes the first that the endpoint lists.  api_key: '' reads MANTUS_API_KEY.
        timeout_s: longest silence of the endpoint.  attempts: for a busy (429, 503) or unreachable endpoint.
        """
        address = _address(base_url)
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError(f"endpoint {base_url!r}: expected a URL such as http://127.0.0.1:8080/v1")
        self.base_url = base_url.rstrip("/")
        self.model, self.max_tokens, self.temperature = model, max_tokens, temperature
        self.attempts = attempts
        key = api_key or os.environ.get("MANTUS_API_KEY", "")
        local = address.host in ("127.0.0.1", "localhost", "::1")
        self._client = httpx.Client(
            headers={"Authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(timeout_s, connect=5.0),
            trust_env=not local,  # a proxy for the outside must not be asked for this machine
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def models(self, attempts: int = 0, deadline: float = math.inf) -> list[dict[str, Any]]:
        """What the endpoint lists at /models. EndpointError when it is not there, after `attempts` (0: as always)."""
        with self._open("GET", "/models", None, deadline, attempts) as response:
            try:
                return [dict(entry) for entry in json.loads(response.read())["data"]]
            except (ValueError, KeyError, TypeError, RecursionError):
                raise EndpointError(f"{self.base_url} is no OpenAI-compatible endpoint") from None

    def stream(
        self,
        chat: Sequence[Message],
        tools: Sequence[dict[str, Any]] = (),
        tool_choice: str = "auto",
        deadline: float = math.inf,
    ) -> Generator[str, None, Reply]:
        """Yield the reply's text as it comes; return the whole Reply. Closing the generator cancels the request.

        tool_choice: 'auto', 'none', 'required' or a tool's name.  deadline: on time.monotonic's clock.
        Calls are taken from the reply's `tool_calls`, and from its text when the endpoint left them there.
        EndpointError, OutOfTime.
        """
        if not self.model:
            self.model = _first_id(self.models(deadline=deadline), self.base_url)
        body = self._request(chat, tools, tool_choice)
        partial = _Partial()
        with self._open("POST", "/chat/completions", body, deadline) as response:
            try:
                for chunk in _events(response, deadline):
                    yield from _take(partial, chunk)
            except (AttributeError, TypeError, ValueError):
                raise EndpointError("the endpoint sent an event that is no chunk of a chat completion") from None
        yield from _written(partial, partial.parser.finish())
        native = [_native_call(partial.native[index]) for index in sorted(partial.native)]
        return Reply("".join(partial.text), native or partial.written, partial.usage, partial.finish_reason)

    def _request(self, chat: Sequence[Message], tools: Sequence[dict[str, Any]], tool_choice: str) -> dict[str, Any]:
        body = {
            "model": self.model,
            "messages": list(chat),
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if tools:
            named = {"type": "function", "function": {"name": tool_choice}}
            body["tools"] = list(tools)
            body["tool_choice"] = tool_choice if tool_choice in ("auto", "none", "required") else named
        return body

    @contextmanager
    def _open(self, method: str, path: str, body: Any, deadline: float, attempts: int = 0) -> Iterator[httpx.Response]:
        """An answered request; busy and unreachable endpoints are asked again, with growing waits."""
        try:
            response = self._send(method, path, body, deadline, attempts or self.attempts)
            try:
                yield response
            finally:
                response.close()
        except httpx.ConnectError:
            raise EndpointError(f"no server at {self.base_url}: start one with 'make serve'") from None
        except httpx.TimeoutException:
            if time.monotonic() > deadline:
                raise OutOfTime from None
            raise EndpointError(f"{self.base_url} has gone silent") from None
        except httpx.HTTPError as error:
            raise EndpointError(f"{self.base_url} broke off ({type(error).__name__})") from None

    def _send(self, method: str, path: str, body: Any, deadline: float, attempts: int) -> httpx.Response:
        content = json.dumps(body, ensure_ascii=False).encode("utf-8", errors="replace") if body else None
        headers = {"Content-Type": "application/json"} if body else {}
        for attempt in range(1, attempts + 1):
            asked = ""
            timeout = self._client.timeout
            if deadline < math.inf:
                left = max(deadline - time.monotonic(), 0.01)
                timeout = httpx.Timeout(min(left, timeout.read or left), connect=min(left, 5.0))
            url = self.base_url + path
            request = self._client.build_request(method, url, content=content, headers=headers, timeout=timeout)
            try:
                response = self._client.send(request, stream=True)
            except (httpx.ConnectError, httpx.RemoteProtocolError, httpx.ReadError):
                if attempt == attempts:
                    raise
            else:
                if response.status_code not in RETRIED or attempt == attempts:
                    return _accepted(response)
                asked = response.headers.get("Retry-After", "")
                response.close()
            _wait(attempt, asked, deadline)
        raise AssertionError("the last attempt returns or raises")


def _address(url: str) -> httpx.URL:
    """The URL taken apart; empty when it is none."""
    try:
        return httpx.URL(url)
    except (httpx.InvalidURL, UnicodeError):
        return httpx.URL("")


def _wait(attempt: int, asked: str, deadline: float) -> None:
    """Wait before another attempt: what the endpoint asked for, else twice as long each time, a little at random."""
    seconds = float(asked) if asked.isdecimal() else FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(0.8, 1.2)
    seconds = min(seconds, LONGEST_WAIT_S)
    if time.monotonic() + seconds > deadline:
        raise OutOfTime
    time.sleep(seconds)


def _accepted(response: httpx.Response) -> httpx.Response:
    """The response when it is a success; EndpointError with the endpoint's own message when not."""
    if response.is_success:
        return response
    text = response.read().decode("utf-8", errors="replace")
    response.close()
    with suppress(ValueError, KeyError, TypeError):
        text = json.loads(text)["error"]["message"]
    raise EndpointError(f"the endpoint refused ({response.status_code}): {' '.join(str(text).split())[:300]}")


def _first_id(models: list[dict[str, Any]], where: str) -> str:
    if not models:
        raise EndpointError(f"{where} lists no model")
    return str(models[0].get("id", ""))


def _events(response: httpx.Response, deadline: float) -> Iterator[dict[str, Any]]:
    """The JSON objects of a stream of server-sent events; lines that only keep it alive count as time."""
    for line in response.iter_lines():
        if time.monotonic() > deadline:
            raise OutOfTime
        if response.num_bytes_downloaded > MAX_REPLY_BYTES:
            raise EndpointError("the endpoint's reply has no end")
        data = line.removeprefix("data:").strip()
        if not line.startswith("data:") or not data:
            continue
        if data == "[DONE]":
            return
        try:
            chunk = json.loads(data)
        except (ValueError, RecursionError):
            raise EndpointError("the endpoint sent an event that is not JSON") from None
        if not isinstance(chunk, dict):
            raise EndpointError("the endpoint sent an event that is not an object")
        if chunk.get("error"):
            error = chunk["error"]
            text = error.get("message") if isinstance(error, dict) else error
            raise EndpointError(f"the endpoint failed: {' '.join(str(text).split())[:300]}")
        yield chunk
    raise EndpointError("the endpoint broke off in the middle of a reply")


def _take(partial: _Partial, chunk: dict[str, Any]) -> Iterator[str]:
    """Add one event to the reply; the text that people may see already."""
    if chunk.get("usage"):
        counts = chunk["usage"]
        partial.usage = Usage(int(counts.get("prompt_tokens") or 0), int(counts.get("completion_tokens") or 0))
    for choice in chunk.get("choices") or ():
        delta = choice.get("delta") or {}
        partial.finish_reason = choice.get("finish_reason") or partial.finish_reason
        for piece in delta.get("tool_calls") or ():
            _take_call(partial.native, piece)
        if delta.get("content"):
            yield from _written(partial, partial.parser.push(delta["content"]))


def _take_call(native: dict[int, dict[str, str]], piece: dict[str, Any]) -> None:
    call = native.setdefault(int(piece.get("index") or 0), {"name": "", "arguments": ""})
    function = piece.get("function") or {}
    call["name"] = call["name"] or str(function.get("name") or "")
    call["arguments"] += function.get("arguments") or ""


def _written(partial: _Partial, events: Sequence[TextDelta | Call | Malformed]) -> Iterator[str]:
    for event in events:
        if isinstance(event, ThoughtDelta):
            continue  # a model's thoughts are for itself, and for one turn
        if isinstance(event, TextDelta):
            partial.text.append(event.text)
            yield event.text
        else:
            partial.written.append(event)


def _native_call(call: dict[str, str]) -> Call | Malformed:
    """A call of the `tool_calls` field; its arguments are JSON in a string."""
    return make_call(call["name"], call["arguments"], f'{{"name": "{call["name"]}", "arguments": {call["arguments"]}}}')
