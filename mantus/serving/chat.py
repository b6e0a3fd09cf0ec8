"""Chat completions: messages and tools in, OpenAI's JSON out, whole or streamed.

It knows OpenAI's shapes and the dialect, not routes.
"""

import json
import time
import uuid
from collections.abc import AsyncIterator
from typing import Any

from mantus.inference.engine import Sampling
from mantus.serving.generate import DEFAULT_TOKENS, Generator
from mantus.serving.metrics import TOOL_CALLS
from mantus.serving.schemas import ChatRequest
from mantus.text.calls import Call, Event, Malformed, StreamParser, TextDelta, check_call
from mantus.text.chat import render
from mantus.text.grammar import Constraint, schema_constraint, tool_constraint


def prepare(generator: Generator, request: ChatRequest) -> tuple[list[int], Sampling]:
    """The prompt's ids and how to sample. ValueError names the wrong field."""
    choice = request.choice
    for index, tool in enumerate(request.tools):
        if not isinstance(tool.get("function"), dict) or not isinstance(tool["function"].get("name"), str):
            raise ValueError(f"tools[{index}]: expected {{'type': 'function', 'function': {{'name': ...}}}}")
    if choice not in ("none", "auto") and not request.tools:
        raise ValueError("tool_choice: no tools are offered")
    tools = request.tools if choice != "none" else []
    try:
        prompt = render(generator.tokenizer, request.messages, tools, open_reply=True).ids
    except (KeyError, TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"messages: a tool call is malformed ({error})") from None
    limit = request.max_completion_tokens or request.max_tokens or DEFAULT_TOKENS
    room = min(limit, generator.engine.max_context - len(prompt))
    sampling = generator.sampling(request, len(prompt), limit, _constraint(request, choice, room))
    return prompt, sampling


def _constraint(request: ChatRequest, choice: str, room: int) -> Constraint | None:
    """What the reply must look like; `room` is its limit of tokens, and a token has at least one character."""
    wanted = request.response_format or {}
    if wanted.get("type") == "json_schema":
        return schema_constraint((wanted.get("json_schema") or {}).get("schema") or {})
    if wanted.get("type") not in (None, "text"):
        raise ValueError(f"response_format.type: {wanted['type']!r} is not text or json_schema")
    if choice == "none" or (choice == "auto" and _lax(request.tools)):
        return None
    return tool_constraint(request.tools, choice, request.parallel_tool_calls, max_chars=max(1, room))


def _lax(tools: list[dict[str, Any]]) -> bool:
    """Every tool says `strict: false`: OpenAI's word for calls that no grammar holds to the schema."""
    return all(tool["function"].get("strict") is False for tool in tools)


async def complete(generator: Generator, request: ChatRequest) -> dict[str, Any]:
    """A whole chat completion."""
    prompt, sampling = prepare(generator, request)
    choices, generated = [], 0
    for index in range(request.n):
        parser, events, finish, logprobs = StreamParser(), [], "", []
        one = sampling if not index else _reseeded(sampling, index)
        async for piece in generator.stream(prompt, one, request.stops):
            events += parser.push(piece.text)
            finish = piece.finish
            if piece.token.id >= 0:
                generated += 1
                logprobs.append(_logprob(generator, piece.token.id, piece.token.logprob))
        events += parser.finish()
        choice = _choice(index, events, finish, request)
        choice["logprobs"] = {"content": logprobs} if request.logprobs else None
        choices.append(choice)
    return {**_head(generator, "chat.completion"), "choices": choices, "usage": usage(len(prompt), generated)}


def _choice(index: int, events: list[Event], finish: str, request: ChatRequest) -> dict[str, Any]:
    text = "".join(event.text for event in events if isinstance(event, TextDelta | Malformed))
    calls = [_call(number, event, request) for number, event in enumerate(e for e in events if isinstance(e, Call))]
    message: dict[str, Any] = {"role": "assistant", "content": text.strip() or None if calls else text}
    if calls:
        message["tool_calls"] = [{name: value for name, value in call.items() if name != "index"} for call in calls]
    return {"index": index, "message": message, "finish_reason": _finish(finish, bool(calls))}


async def stream(generator: Generator, request: ChatRequest) -> AsyncIterator[dict[str, Any]]:
    """The chunks of a streamed chat completion (first choice only; n is 1 for streams)."""
    prompt, sampling = prepare(generator, request)
    head = _head(generator, "chat.completion.chunk")
    parser, num_calls, generated, finish = StreamParser(), 0, 0, ""
    yield _chunk(head, {"role": "assistant", "content": ""})
    async for piece in generator.stream(prompt, sampling, request.stops):
        generated += piece.token.id >= 0
        finish = piece.finish
        for event in [*parser.push(piece.text), *(parser.finish() if piece.finish else [])]:
            if isinstance(event, Call):
                yield _chunk(head, {"tool_calls": [_call(num_calls, event, request)]})
                num_calls += 1
            elif event.text:
                yield _chunk(head, {"content": event.text})
    yield _chunk(head, {}, _finish(finish, num_calls > 0))
    if request.wants_usage:
        yield {**head, "choices": [], "usage": usage(len(prompt), generated)}


def _call(index: int, call: Call, request: ChatRequest) -> dict[str, Any]:
    problem = check_call(call, request.tools)
    offered = {tool["function"]["name"] for tool in request.tools}
    outcome = "ok" if not problem else "schema_error" if call.name in offered else "unknown_tool"
    TOOL_CALLS.labels(call.name if call.name in offered else "unknown", outcome).inc()
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"index": index, "id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _finish(finish: str, called: bool) -> str:
    return "tool_calls" if called and finish == "stop" else {"cancelled": "stop", "error": "stop"}.get(finish, finish)


def _reseeded(sampling: Sampling, index: int) -> Sampling:
    from dataclasses import replace

    return replace(sampling, seed=sampling.seed + index)


def _logprob(generator: Generator, token: int, logprob: float) -> dict[str, Any]:
    raw = generator.tokenizer.token_bytes(token)
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw), "top_logprobs": []}


def _head(generator: Generator, kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": generator.name}


def _chunk(head: dict[str, Any], delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def usage(prompt: int, generated: int) -> dict[str, int]:
    """OpenAI's token counts."""
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}
