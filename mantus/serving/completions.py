"""Plain completions, with echo and log probabilities as lm-eval's `local-completions` reads them.

It knows OpenAI's shapes, not routes.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncIterator, Sequence
from typing import Any

from mantus.serving.chat import usage
from mantus.serving.generate import Generator
from mantus.serving.schemas import CompletionRequest


def prompts(generator: Generator, request: CompletionRequest) -> list[list[int]]:
    """The prompts as ids. ValueError when one is empty or has ids beyond the vocabulary."""
    given = request.prompt
    if isinstance(given, str):
        found = [generator.tokenizer.encode(given)]
    elif given and isinstance(given[0], int):
        found = [list(given)]
    else:
        found = [generator.tokenizer.encode(item) if isinstance(item, str) else list(item) for item in given]  # type: ignore[arg-type]
    for ids in found:
        if not ids:
            raise ValueError("prompt: it has no tokens")
        if not all(0 <= index < generator.engine.vocab_size for index in ids):
            raise ValueError(f"prompt: ids must be from 0 to {generator.engine.vocab_size - 1}")
    return found


async def complete(generator: Generator, request: CompletionRequest) -> dict[str, Any]:
    """A whole completion for every prompt."""
    given = prompts(generator, request)
    limit = 16 if request.max_tokens is None else request.max_tokens
    scores = (
        await asyncio.to_thread(generator.engine.score, given) if request.echo and request.logprobs is not None else []
    )
    choices, generated = [], 0
    for number, ids in enumerate(given):
        for copy in range(request.n):
            text, tokens, logprobs, finish = "", [], [], "length"
            sampling = generator.sampling(request, len(ids), limit, None)
            async for piece in generator.stream(ids, sampling, request.stops) if limit else _nothing():
                text, finish = text + piece.text, piece.finish
                if piece.token.id >= 0:
                    tokens.append(piece.token.id)
                    logprobs.append(piece.token.logprob)
            generated += len(tokens)
            values: list[float | None] = list(logprobs)
            if request.echo:
                text = generator.tokenizer.decode(ids) + text
                tokens = [*ids, *tokens]
                values = [None, *(scores[number] if scores else [None] * (len(ids) - 1)), *logprobs]
            shown = _logprobs(generator, tokens, values) if request.logprobs is not None else None
            index = number * request.n + copy
            choices.append({"index": index, "text": text, "logprobs": shown, "finish_reason": finish})
    return {**_head(generator), "choices": choices, "usage": usage(sum(map(len, given)), generated)}


async def stream(generator: Generator, request: CompletionRequest) -> AsyncIterator[dict[str, Any]]:
    """Chunks of the completion of the first prompt."""
    ids = prompts(generator, request)[0]
    limit = 16 if request.max_tokens is None else request.max_tokens
    head, generated = _head(generator), 0
    async for piece in generator.stream(ids, generator.sampling(request, len(ids), limit, None), request.stops):
        generated += piece.token.id >= 0
        choice = {"index": 0, "text": piece.text, "logprobs": None, "finish_reason": piece.finish or None}
        yield {**head, "choices": [choice]}
    if request.wants_usage:
        yield {**head, "choices": [], "usage": usage(len(ids), generated)}


async def _nothing() -> AsyncIterator[Any]:
    none: tuple[Any, ...] = ()
    for piece in none:
        yield piece


def _logprobs(generator: Generator, ids: Sequence[int], values: Sequence[float | None]) -> dict[str, Any]:
    names = [generator.tokenizer.decode([index]) for index in ids]
    offsets, at = [], 0
    for name in names:
        offsets.append(at)
        at += len(name)
    top = [None if value is None else {name: value} for name, value in zip(names, values, strict=True)]
    return {"tokens": names, "token_logprobs": list(values), "top_logprobs": top, "text_offset": offsets}


def _head(generator: Generator) -> dict[str, Any]:
    name = f"cmpl-{uuid.uuid4().hex}"
    return {"id": name, "object": "text_completion", "created": int(time.time()), "model": generator.name}
