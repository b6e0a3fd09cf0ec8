"""The routes: OpenAI's under /v1 and /openai/v1, tokenizing beside them, errors in OpenAI's shape.

It knows HTTP; what a request means is in chat.py and completions.py, who may ask in guard.py.
"""

import asyncio
import json
import logging
import os
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import ExitStack, aclosing, suppress
from pathlib import Path
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, ProcessCollector, generate_latest
from pydantic import BaseModel, ValidationError
from starlette.types import Receive, Scope, Send

from mantus.serving import chat, completions, embeddings
from mantus.serving.generate import Busy, EngineFailed, Generator
from mantus.serving.metrics import CACHE, HTTP, RUNNING, WAITING
from mantus.serving.schemas import (
    ChatRequest,
    CompletionRequest,
    DetokenizeRequest,
    EmbeddingRequest,
    ErrorBody,
    TokenizeRequest,
    inlined,
)
from mantus.text.chat import CHAT_TEMPLATE, render

PREFIXES = ("/v1", "/openai/v1")
LEFT = 499
"""The code that proxies count a client's leaving with."""
SEPARATORS = {mark.encode(): f"\\u{ord(mark):04x}".encode() for mark in "\u0085\u2028\u2029"}
"""Ends of lines that JSON does not escape."""
router = APIRouter()
state: dict[str, Any] = {}
"""`generator` and `max_body_bytes`, set by server.py before the first request."""

Body = TypeVar("Body", bound=BaseModel)
Result = TypeVar("Result")


class NotServed(LookupError):
    """A model of another name was asked for."""


class Left(Exception):
    """The client has gone."""


async def read(request: Request, kind: type[Body]) -> Body:
    """The checked body. ValueError names the field; OverflowError when it is too large, before all of it is read."""
    raw = bytearray()
    async for part in request.stream():
        raw += part
        if len(raw) > state["max_body_bytes"]:
            raise OverflowError(f"the body is larger than the limit of {state['max_body_bytes']} bytes")
    try:
        given = json.loads(raw)
        json.dumps(given, ensure_ascii=False).encode()  # half a surrogate pair is JSON, but no text
        body = kind.model_validate(given)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "body"
        raise ValueError(f"{place}: {first['msg'].lower()} (got {_short(first['input'])})") from None
    except (ValueError, RecursionError):
        raise ValueError("body: not valid JSON") from None
    asked = getattr(body, "model", "")
    if asked and asked != state["generator"].name:
        raise NotServed(f"model {asked!r} is not served here; {state['generator'].name!r} is")
    return body


def _short(value: Any) -> str:
    shown = repr(value)
    return shown if len(shown) <= 60 else shown[:57] + "..."


def generator() -> Generator:
    """The running generator."""
    found: Generator = state["generator"]
    return found


async def chat_completions(request: Request) -> Response:
    """POST chat/completions."""
    body = await read(request, ChatRequest)
    asked = chat.prepare(generator(), body)
    if body.stream:
        return Events(chat.stream(asked), body.n)
    with generator().places(body.n):
        return JSONResponse(await unless_left(request, chat.complete(asked)))


async def plain_completions(request: Request) -> Response:
    """POST completions."""
    body = await read(request, CompletionRequest)
    asked = completions.prepare(generator(), body)
    if body.stream:
        return Events(completions.stream(asked), asked.num_choices)
    with generator().places(asked.num_choices):
        return JSONResponse(await unless_left(request, completions.complete(asked)))


async def embed(request: Request) -> Response:
    """POST embeddings."""
    body = await read(request, EmbeddingRequest)
    texts = generator().encode("input", body.input)
    with generator().places(len(texts)):
        return JSONResponse(await unless_left(request, embeddings.embed(generator(), body, texts)))


async def unless_left(request: Request, work: Coroutine[Any, Any, Result]) -> Result:
    """The result of `work`, which is cancelled when the client goes. Left when it has."""

    async def leaving() -> None:
        while (await request.receive())["type"] != "http.disconnect":
            pass

    tasks = asyncio.ensure_future(work), asyncio.ensure_future(leaving())
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        if tasks[0].done():
            return tasks[0].result()
        raise Left
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError, Exception):
                await task


class Events(StreamingResponse):
    """Server-sent events, with places in the queue for as long as they flow. Busy when there are none."""

    def __init__(self, chunks: AsyncGenerator[dict[str, Any], None], places: int) -> None:
        self._held = ExitStack()
        self._held.enter_context(generator().places(places))
        super().__init__(_lines(chunks), media_type="text/event-stream", headers={"Cache-Control": "no-store"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send them; the places are free again however that ends."""
        with self._held:
            await super().__call__(scope, receive, send)


async def _lines(chunks: AsyncGenerator[dict[str, Any], None]) -> AsyncIterator[bytes]:
    async with aclosing(chunks):
        try:
            async for chunk in chunks:
                yield event(chunk)
        except (EngineFailed, ValueError) as error:
            yield event({"error": describe(error)})
    yield b"data: [DONE]\n\n"


def event(data: dict[str, Any]) -> bytes:
    """One server-sent event. It ends at a newline; clients that split lines as Python does end it at SEPARATORS too."""
    line = orjson.dumps(data)
    for mark, escaped in SEPARATORS.items():
        line = line.replace(mark, escaped)
    return b"data: %b\n\n" % line


async def models(_: Request) -> Response:
    """GET models, in OpenAI's and in KServe v1's shape at once."""
    name = generator().name
    entry = {
        "id": name,
        "object": "model",
        "created": 0,
        "owned_by": "mantus",
        "max_model_len": generator().engine.max_context,
    }
    return JSONResponse({"object": "list", "data": [entry], "models": [name]})


async def tokenize(request: Request) -> Response:
    """POST tokenize: text, or messages as the model sees them.

    A text that is wholly the name of a special token is that token: lm-eval asks so for the end token's id.
    """
    body = await read(request, TokenizeRequest)
    tokenizer = generator().tokenizer
    if body.messages:
        messages, tools = [m.plain() for m in body.messages], [t.model_dump(exclude_none=True) for t in body.tools]
        ids = render(tokenizer, messages, tools, open_reply=body.add_generation_prompt).ids
    else:
        special = tokenizer.special.get(body.prompt)
        ids = tokenizer.encode(body.prompt) if special is None else [special]
    return JSONResponse({"tokens": ids, "count": len(ids), "max_model_len": generator().engine.max_context})


async def detokenize(request: Request) -> Response:
    """POST detokenize."""
    body = await read(request, DetokenizeRequest)
    return JSONResponse({"prompt": generator().tokenizer.decode(body.tokens)})


async def tokenizer_info(_: Request) -> Response:
    """GET tokenizer_info: what lm-eval's remote tokenizer asks for."""
    info = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": CHAT_TEMPLATE}
    return JSONResponse({**info, "eos_token": "<|endoftext|>", "bos_token": None, "pad_token": "<|endoftext|>"})


async def metrics(_: Request) -> Response:
    """GET metrics, in Prometheus' text format whatever is asked for.

    In OpenMetrics' the client library writes vllm_ for vllm: to all who do not ask for UTF-8 names, such as
    Prometheus 2, and no query finds anything.
    """
    return Response(generate_latest(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


async def health(_: Request) -> Response:
    """GET health: 200 while the engine can work, for probes. It asks for no key."""
    failure = generator().engine.failure
    return JSONResponse({"status": failure or "ok"}, status_code=503 if failure else 200)


async def playground(_: Request) -> Response:
    """GET /: a page to try the model with."""
    return HTMLResponse((Path(__file__).parent / "playground.html").read_text(encoding="utf-8"))


KINDS: tuple[tuple[type[Exception], int, str], ...] = (
    (Busy, 429, "rate_limit_error"),
    (NotServed, 404, "not_found_error"),
    (OverflowError, 413, "invalid_request_error"),
    (Left, LEFT, "invalid_request_error"),
    (EngineFailed, 500, "server_error"),
    (ValueError, 400, "invalid_request_error"),
)


def describe(error: Exception) -> dict[str, Any]:
    """OpenAI's error object for what went wrong."""
    code, kind = next((code, kind) for cause, code, kind in KINDS if isinstance(error, cause))
    place = str(error).partition(":")[0]
    named = code == 400 and ":" in str(error) and " " not in place
    field = "model" if code == 404 else place if named else None
    return ErrorBody.model_validate({"message": str(error), "type": kind, "param": field, "code": code}).model_dump()


Handler = Callable[[Request], Awaitable[Response]]


def _guarded(path: str, handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            response = await handler(request)
        except (Busy, NotServed, OverflowError, Left, EngineFailed, ValueError) as error:
            body = describe(error)
            headers = {"Retry-After": "1"} if body["code"] == 429 else None
            response = JSONResponse({"error": body}, status_code=body["code"], headers=headers)
        except Exception:
            logging.getLogger("mantus").exception("%s failed", path)
            body = {"message": "the server failed; its log says why", "type": "server_error", "code": 500}
            response = JSONResponse({"error": body}, status_code=500)
        HTTP.labels(path, str(response.status_code)).inc()
        return response

    answer.__doc__ = handler.__doc__
    return answer


def _add(method: str, path: str, handler: Handler, *, at: tuple[str, ...] = PREFIXES, body: Any = None) -> None:
    named = {200: {"description": "as OpenAI's"}, 400: {"description": "a field is wrong"}}
    asks = (
        {"requestBody": {"required": True, "content": {"application/json": {"schema": inlined(body)}}}} if body else {}
    )
    for prefix in at:
        router.add_api_route(
            prefix + path,
            _guarded(path, handler),
            methods=[method],
            response_model=None,
            name=f"{handler.__name__}{prefix.replace('/', '_')}",
            responses=named if body else None,  # type: ignore[arg-type]
            openapi_extra=asks or None,
        )


_add("POST", "/chat/completions", chat_completions, body=ChatRequest)
_add("POST", "/completions", plain_completions, body=CompletionRequest)
_add("POST", "/embeddings", embed, body=EmbeddingRequest)
_add("GET", "/models", models)
_add("POST", "/tokenize", tokenize, at=("", *PREFIXES), body=TokenizeRequest)
_add("POST", "/detokenize", detokenize, at=("", *PREFIXES), body=DetokenizeRequest)
_add("GET", "/tokenizer_info", tokenizer_info, at=("", *PREFIXES))
router.add_api_route("/metrics", metrics, methods=["GET"], response_model=None)
router.add_api_route("/health", health, methods=["GET"], response_model=None)
router.add_api_route("/", playground, methods=["GET"], response_model=None, include_in_schema=False)


def install(app: FastAPI, running: Generator, max_body_bytes: int) -> None:
    """Put the routes before the app's own and let gauges read the engine when they are scraped."""
    state.update(generator=running, max_body_bytes=max_body_bytes)
    app.include_router(router)
    labels = (running.name, "0")
    RUNNING.labels(*labels).set_function(lambda: running.engine.stats().running)
    WAITING.labels(*labels).set_function(lambda: running.engine.stats().waiting)
    CACHE.labels(*labels).set_function(lambda: running.engine.stats().cache_usage)
    ProcessCollector("mantus_engine", pid=lambda: running.engine.pid or os.getpid())
