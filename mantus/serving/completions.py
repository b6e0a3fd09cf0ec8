"""Plain completions, with echo and log probabilities as lm-eval's `local-completions` reads them.

It knows OpenAI's shapes, not routes.
"""

import asyncio
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from mantus.inference.engine import Scored
from mantus.serving.chat import usage
from mantus.serving.generate import Generator, Job, Piece
from mantus.serving.schemas import MAX_CHOICES, CompletionRequest

DEFAULT_TOKENS = 16


@dataclass
class Completion:
    """A checked request on its way: its prompts, and the replies to make (none when it asks for no tokens)."""

    generator: Generator
    request: CompletionRequest
    prompts: list[list[int]]
    jobs: list[Job]

    @property
    def num_choices(self) -> int:
        """Choices of the answer."""
        return len(self.prompts) * self.request.n

    @property
    def wants_scores(self) -> bool:
        """Whether the prompts' own log probabilities are asked for."""
        return self.request.echo and self.request.logprobs is not None


def prepare(generator: Generator, request: CompletionRequest) -> Completion:
    """Check a request against the model. ValueError names the wrong field."""
    found = generator.encode("prompt", request.prompt)
    if len(found) * request.n > MAX_CHOICES:
        raise ValueError(f"n: {len(found)} prompts x {request.n} are more than {MAX_CHOICES} replies")
    limit = DEFAULT_TOKENS if request.max_tokens is None else request.max_tokens
    top = request.logprobs or 0
    jobs = [job for ids in found for job in generator.jobs(request, ids, max(1, limit), None, top)]
    return Completion(generator, request, found, jobs if limit else [])


@dataclass
class _Reply:
    """One choice while it comes: tokens that no chunk has carried yet, each with what is known of its probability."""

    text: str = ""
    ids: list[int] = field(default_factory=list)
    known: list[Scored | None] = field(default_factory=list)
    finish: str = ""
    tokens: int = 0

    def take(self, piece: Piece) -> None:
        """More of it. A token that ends it is listed too: lm-eval takes the last one for a generated one."""
        self.text, self.finish = self.text + piece.text, piece.finish
        token = piece.token
        self.tokens += token.id >= 0
        if token.id >= 0:
            self.ids.append(token.id)
            self.known.append(Scored(token.logprob, token.top))


async def complete(asked: Completion) -> dict[str, Any]:
    """A whole completion for every prompt."""
    generator, request = asked.generator, asked.request
    replies = await _begun(asked)
    async with aclosing(generator.run(asked.jobs, request.stops)) as pieces:
        async for index, piece in pieces:
            replies[index].take(piece)
    choices = [_choice(asked, index, reply, 0) for index, reply in enumerate(replies)]
    return {**_head(generator), "choices": choices, "usage": _usage(asked, replies)}


async def stream(asked: Completion) -> AsyncGenerator[dict[str, Any], None]:
    """The chunks of a streamed completion of every prompt."""
    generator, request, head = asked.generator, asked.request, _head(asked.generator)
    replies = await _begun(asked)
    offsets = [0] * len(replies)
    for index, reply in enumerate(replies):
        if reply.text or not asked.jobs:
            yield {**head, "choices": [_sent(asked, index, reply, offsets)]}
    async with aclosing(generator.run(asked.jobs, request.stops)) as pieces:
        async for index, piece in pieces:
            replies[index].take(piece)
            if piece.text or piece.finish:
                yield {**head, "choices": [_sent(asked, index, replies[index], offsets)]}
    if request.wants_usage:
        yield {**head, "choices": [], "usage": _usage(asked, replies)}


async def _begun(asked: Completion) -> list[_Reply]:
    """A reply for each choice, with its prompt in it where the request says echo."""
    replies = [_Reply(finish="" if asked.jobs else "length") for _ in range(asked.num_choices)]
    if asked.request.echo:
        engine, top = asked.generator.engine, asked.request.logprobs or 0
        for number, ids in enumerate(asked.prompts):
            scores = await asyncio.to_thread(engine.prompt_scores, ids, max(1, top)) if asked.wants_scores else []
            for reply in replies[number * asked.request.n : (number + 1) * asked.request.n]:
                reply.text, reply.ids = asked.generator.tokenizer.decode(ids), list(ids)
                unknown: list[Scored | None] = [None] * (len(ids) - 1)
                reply.known = [None, *(scores or unknown)]
    return replies


def _sent(asked: Completion, index: int, reply: _Reply, offsets: list[int]) -> dict[str, Any]:
    """What a chunk carries of a reply; it is gone from there."""
    choice = _choice(asked, index, reply, offsets[index])
    offsets[index] += len(reply.text)
    reply.text, reply.ids, reply.known = "", [], []
    return choice


def _choice(asked: Completion, index: int, reply: _Reply, offset: int) -> dict[str, Any]:
    wanted = asked.request.logprobs is not None
    shown = _logprobs(asked.generator, reply.ids, reply.known, offset) if wanted else None
    return {"index": index, "text": reply.text, "logprobs": shown, "finish_reason": reply.finish or None}


def _logprobs(
    generator: Generator, ids: Sequence[int], known: Sequence[Scored | None], offset: int
) -> dict[str, list[Any]]:
    """OpenAI's lists; of alternatives that are spelt alike (parts of characters) `top_logprobs` has the likeliest."""
    names, offsets, tops = [generator.tokenizer.decode([index]) for index in ids], [], []
    for name, scored in zip(names, known, strict=True):
        offsets.append(offset)
        offset += len(name)
        others = {generator.tokenizer.decode([other]): value for other, value in reversed(scored.top)} if scored else {}
        tops.append({**others, name: max(scored.logprob, others.get(name, scored.logprob))} if scored else None)
    values = [scored.logprob if scored else None for scored in known]
    return {"tokens": names, "token_logprobs": values, "top_logprobs": tops, "text_offset": offsets}


def _usage(asked: Completion, replies: Sequence[_Reply]) -> dict[str, int]:
    return usage(sum(map(len, asked.prompts)), sum(reply.tokens for reply in replies))


def _head(generator: Generator) -> dict[str, Any]:
    name = f"cmpl-{uuid.uuid4().hex}"
    return {"id": name, "object": "text_completion", "created": int(time.time()), "model": generator.name}
