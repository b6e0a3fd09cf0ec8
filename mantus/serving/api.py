"""The routes: OpenAI's under /v1 and /openai/v1, tokenizing beside them, errors in OpenAI's shape.

It knows HTTP; what a request means is in chat.py and completions.py.
"""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from pydantic import BaseModel, ValidationError

from mantus.serving import chat, completions
from mantus.serving.generate import Busy, Generator
from mantus.serving.metrics import CACHE, HTTP, RUNNING, WAITING
from mantus.serving.schemas import ChatRequest, CompletionRequest, DetokenizeRequest, ErrorBody, TokenizeRequest
from mantus.text.chat import CHAT_TEMPLATE, render

PREFIXES = ("/v1", "/openai/v1")
router = APIRouter()
state: dict[str, Any] = {}
"""`generator` and `max_body_bytes`, set by server.py before the first request."""

Body = TypeVar("Body", bound=BaseModel)


class NotServed(LookupError):
    """A model of another name was asked for."""


async def read(request: Request, kind: type[Body]) -> Body:
    """The checked body. ValueError names the field."""
    raw = await request.body()
    if len(raw) > state["max_body_bytes"]:
        raise OverflowError(f"the body has {len(raw)} bytes; the limit is {state['max_body_bytes']}")
    try:
        body = kind.model_validate(json.loads(raw))
    except ValidationError as error:
        first = error.errors()[0]
        raise ValueError(f"{'.'.join(map(str, first['loc']))}: {first['msg'].lower()}") from None
    except (ValueError, RecursionError):
        raise ValueError("body: not valid JSON") from None
    asked = getattr(body, "model", "")
    if asked and asked != state["generator"].name:
        raise NotServed(f"model {asked!r} is not served here; {state['generator'].name!r} is")
    return body


def generator() -> Generator:
    """The running generator."""
    found: Generator = state["generator"]
    return found


async def chat_completions(request: Request) -> Response:
    """POST chat/completions."""
    body = await read(request, ChatRequest)
    if body.stream:
        chat.prepare(generator(), body)  # a wrong request is a 400, not a broken stream
        return _events(chat.stream(generator(), body))
    return JSONResponse(await chat.complete(generator(), body))


async def plain_completions(request: Request) -> Response:
    """POST completions."""
    body = await read(request, CompletionRequest)
    if body.stream:
        completions.prompts(generator(), body)
        return _events(completions.stream(generator(), body))
    return JSONResponse(await completions.complete(generator(), body))


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
    """POST tokenize: text, or messages as the model sees them."""
    body = await read(request, TokenizeRequest)
    tokenizer = generator().tokenizer
    if body.messages:
        ids = render(tokenizer, body.messages, body.tools, open_reply=body.add_generation_prompt).ids
    else:
        ids = tokenizer.encode(body.prompt)
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


def _events(chunks: AsyncIterator[dict[str, Any]]) -> StreamingResponse:
    async def lines() -> AsyncIterator[str]:
        try:
            async for chunk in chunks:
                yield f"data: {json.dumps(chunk, ensure_ascii=False)}\n\n"
        except (Busy, ValueError) as error:
            yield f"data: {json.dumps({'error': _error(error)[1]})}\n\n"
        yield "data: [DONE]\n\n"

    return StreamingResponse(lines(), media_type="text/event-stream")


def _error(error: Exception) -> tuple[int, dict[str, Any]]:
    text = str(error)
    if isinstance(error, Busy):
        return 429, ErrorBody(message=text, type="rate_limit_error", code=429).model_dump()
    if isinstance(error, NotServed):
        return 404, ErrorBody(message=text, type="not_found_error", param="model", code=404).model_dump()
    code = 413 if isinstance(error, OverflowError) else 400
    field = text.partition(":")[0] if ":" in text else None
    return code, ErrorBody(message=text, type="invalid_request_error", param=field, code=code).model_dump()


Handler = Callable[[Request], Awaitable[Response]]


def _guarded(path: str, handler: Handler) -> Handler:
    async def answer(request: Request) -> Response:
        try:
            response = await handler(request)
        except (Busy, NotServed, OverflowError, ValueError) as error:
            code, body = _error(error)
            headers = {"Retry-After": "1"} if code == 429 else None
            response = JSONResponse({"error": body}, status_code=code, headers=headers)
        HTTP.labels(path, str(response.status_code)).inc()
        return response

    return answer


def _add(methods: list[str], path: str, handler: Handler, prefixes: tuple[str, ...] = PREFIXES) -> None:
    for prefix in prefixes:
        router.add_api_route(prefix + path, _guarded(path, handler), methods=methods, response_model=None)


_add(["POST"], "/chat/completions", chat_completions)
_add(["POST"], "/completions", plain_completions)
_add(["GET"], "/models", models)
router.add_api_route("/metrics", metrics, methods=["GET"], response_model=None)
for _path, _method, _handler in (
    ("/tokenize", "POST", tokenize),
    ("/detokenize", "POST", detokenize),
    ("/tokenizer_info", "GET", tokenizer_info),
):
    _add([_method], _path, _handler, ("", *PREFIXES))


def install(app: FastAPI, running: Generator, max_body_bytes: int) -> None:
    """Put the routes before the app's own and let gauges read the engine when they are scraped."""
    state.update(generator=running, max_body_bytes=max_body_bytes)
    app.include_router(router)
    labels = (running.name, "0")
    RUNNING.labels(*labels).set_function(lambda: running.engine.stats().running)
    WAITING.labels(*labels).set_function(lambda: running.engine.stats().waiting)
    CACHE.labels(*labels).set_function(lambda: running.engine.stats().cache_usage)
