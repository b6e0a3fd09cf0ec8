"""Chat completions: messages and tools in, OpenAI's JSON out, whole or streamed.

It knows OpenAI's shapes and the dialect, not routes.
"""

import json
import time
import uuid
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from mantus.inference.engine import Token
from mantus.serving.generate import DEFAULT_TOKENS, Generator, Job, Piece, Strictly
from mantus.serving.metrics import TOOL_CALLS, label
from mantus.serving.schemas import ChatRequest
from mantus.text.calls import Call, Event, Malformed, StreamParser, check_call
from mantus.text.chat import render
from mantus.text.grammar import JSON_OBJECT, Constraint, schema_constraint, tool_constraint


@dataclass
class Chat:
    """A checked request on its way: what to run, and what its replies are judged by."""

    generator: Generator
    request: ChatRequest
    jobs: list[Job]
    tools: list[dict[str, Any]]

    @property
    def num_prompt(self) -> int:
        """Tokens of the prompt."""
        return len(self.jobs[0].prompt)


def prepare(generator: Generator, request: ChatRequest) -> Chat:
    """Check a request against the model. ValueError names the wrong field."""
    choice, tools = request.choice, request.offered
    if choice not in ("none", "auto") and not tools:
        raise ValueError("tool_choice: no tools are offered")
    if request.top_logprobs and not request.logprobs:
        raise ValueError("top_logprobs: needs logprobs")
    try:
        messages = [message.plain() for message in request.messages]
        prompt = render(generator.tokenizer, messages, tools if choice != "none" else [], open_reply=True).ids
    except json.JSONDecodeError as error:
        raise ValueError(f"messages: the arguments of a tool call are not JSON ({error})") from None
    limit = request.max_completion_tokens or request.max_tokens or DEFAULT_TOKENS
    constraint, strictly = _form(request, choice), None
    if constraint is None:
        constraint, strictly = _held(request, tools, choice)
    jobs = generator.jobs(request, prompt, limit, constraint, request.top_logprobs, strictly)
    return Chat(generator, request, jobs, tools)


def _form(request: ChatRequest, choice: str) -> Constraint | None:
    """What a reply must look like by `response_format`, which forced calls come before."""
    wanted = request.response_format
    if wanted is not None and wanted.type != "text" and choice in ("auto", "none"):
        if wanted.type == "json_object":
            return JSON_OBJECT
        if wanted.json_schema is None:
            raise ValueError("response_format.json_schema: missing")
        return schema_constraint(wanted.json_schema.schema_)
    return None


def _held(
    request: ChatRequest, tools: list[dict[str, Any]], choice: str
) -> tuple[Constraint, Strictly] | tuple[None, None]:
    """The grammar of calls, and how to make one that must end within so many tokens (of a character at least).

    None where nothing holds them: there are to be none, or every tool says `strict: false`, OpenAI's word for it.
    """
    lax = all(tool.function.strict is False for tool in request.tools)
    if choice == "none" or (choice == "auto" and lax):
        return None, None
    parallel = request.parallel_tool_calls
    strictly = Strictly(
        constraint=lambda room: tool_constraint(tools, choice, parallel, max_chars=max(1, room)),
        fits=lambda call: not check_call(call, tools),
    )
    return tool_constraint(tools, choice, parallel, loose=True), strictly


@dataclass
class _Reply:
    """One choice while it comes."""

    parser: StreamParser = field(default_factory=StreamParser)
    texts: list[str] = field(default_factory=list)
    calls: list[dict[str, Any]] = field(default_factory=list)
    logprobs: list[dict[str, Any]] = field(default_factory=list)
    tokens: int = 0
    finish: str = ""

    def take(self, chat: Chat, piece: Piece) -> Iterator[str | dict[str, Any]]:
        """More of it; texts and calls that are now certain."""
        token = piece.token
        self.tokens += token.id >= 0
        if chat.request.logprobs and token.id >= 0 and token.id not in chat.generator.stop_ids:
            self.logprobs.append(_logprob(chat.generator, token))
        for event in [*self.parser.push(piece.text), *(self.parser.finish() if piece.finish else [])]:
            if (shown := self._shown(chat, event)) != "":
                yield shown
        if piece.finish:
            self.finish = "tool_calls" if self.calls and piece.finish == "stop" else piece.finish

    def _shown(self, chat: Chat, event: Event) -> str | dict[str, Any]:
        if not isinstance(event, Call):
            if isinstance(event, Malformed):
                TOOL_CALLS.labels("unknown", "invalid_json").inc()
            self.texts.append(event.text)
            return event.text
        self.calls.append(_call(event, chat.tools))
        return self.calls[-1]

    def message(self) -> dict[str, Any]:
        """The whole message."""
        text = "".join(self.texts)
        if not self.calls:
            return {"role": "assistant", "content": text}
        return {"role": "assistant", "content": text.strip() or None, "tool_calls": self.calls}


async def complete(chat: Chat) -> dict[str, Any]:
    """A whole chat completion."""
    replies = [_Reply() for _ in chat.jobs]
    async with aclosing(chat.generator.run(chat.jobs, chat.request.stops)) as pieces:
        async for index, piece in pieces:
            for _ in replies[index].take(chat, piece):
                pass
    choices = [
        {
            "index": index,
            "message": reply.message(),
            "logprobs": {"content": reply.logprobs} if chat.request.logprobs else None,
            "finish_reason": reply.finish,
        }
        for index, reply in enumerate(replies)
    ]
    counted = usage(chat.num_prompt, sum(reply.tokens for reply in replies))
    return {**_head(chat.generator, "chat.completion"), "choices": choices, "usage": counted}


async def stream(chat: Chat) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a streamed chat completion."""
    head, replies = _head(chat.generator, "chat.completion.chunk"), [_Reply() for _ in chat.jobs]
    for index in range(len(replies)):
        yield _chunk(head, index, {"role": "assistant", "content": ""})
    async with aclosing(chat.generator.run(chat.jobs, chat.request.stops)) as pieces:
        async for index, piece in pieces:
            reply = replies[index]
            for shown in reply.take(chat, piece):
                delta = {"content": shown} if isinstance(shown, str) else {"tool_calls": [_numbered(reply, shown)]}
                yield _chunk(head, index, delta, logprobs=_settled(reply))
            if reply.finish:
                yield _chunk(head, index, {}, reply.finish, _settled(reply))
    if chat.request.wants_usage:
        counted = usage(chat.num_prompt, sum(reply.tokens for reply in replies))
        yield {**head, "choices": [], "usage": counted}


def _numbered(reply: _Reply, call: dict[str, Any]) -> dict[str, Any]:
    return {"index": reply.calls.index(call), **call}


def _settled(reply: _Reply) -> list[dict[str, Any]]:
    """Log probabilities that no chunk has carried yet."""
    found, reply.logprobs = reply.logprobs, []
    return found


def _call(call: Call, tools: list[dict[str, Any]]) -> dict[str, Any]:
    problem = check_call(call, tools)
    offered = {tool["function"]["name"] for tool in tools}
    outcome = "ok" if not problem else "schema_error" if call.name in offered else "unknown_tool"
    TOOL_CALLS.labels(label(call.name) if call.name in offered else "unknown", outcome).inc()
    function = {"name": call.name, "arguments": json.dumps(call.arguments, ensure_ascii=False)}
    return {"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": function}


def _logprob(generator: Generator, token: Token) -> dict[str, Any]:
    top = [_one_logprob(generator, index, value) for index, value in token.top]
    return {**_one_logprob(generator, token.id, token.logprob), "top_logprobs": top}


def _one_logprob(generator: Generator, token: int, logprob: float) -> dict[str, Any]:
    raw = generator.tokenizer.token_bytes(token)
    return {"token": raw.decode("utf-8", "replace"), "logprob": logprob, "bytes": list(raw)}


def _head(generator: Generator, kind: str) -> dict[str, Any]:
    name = f"chatcmpl-{uuid.uuid4().hex}"
    return {"id": name, "object": kind, "created": int(time.time()), "model": generator.name}


def _chunk(
    head: dict[str, Any],
    index: int,
    delta: dict[str, Any],
    finish: str | None = None,
    logprobs: list[dict[str, Any]] | None = None,
) -> dict[str, Any]:
    shown = {"content": logprobs} if logprobs else None
    return {**head, "choices": [{"index": index, "delta": delta, "logprobs": shown, "finish_reason": finish}]}


def usage(prompt: int, generated: int) -> dict[str, int]:
    """OpenAI's token counts."""
    return {"prompt_tokens": prompt, "completion_tokens": generated, "total_tokens": prompt + generated}
