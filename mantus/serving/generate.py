"""From a checked request to pieces of text: prompts, sampling, stop strings, cancelling, counting.

It knows the engine and the tokenizer, not HTTP or OpenAI's JSON.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field

from mantus.inference.engine import Engine, Sampling, Token
from mantus.serving.metrics import Watch
from mantus.serving.schemas import Generation
from mantus.text.calls import overlap
from mantus.text.grammar import Constraint
from mantus.text.tokenizer import Tokenizer

DEFAULT_TOKENS = 512


class Busy(RuntimeError):
    """Too many requests in flight."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A step of a reply: text (often ''), the token behind it, and `finish` on the last."""

    text: str
    token: Token
    finish: str = ""


@dataclass
class Generator:
    """Runs requests on one engine."""

    engine: Engine
    tokenizer: Tokenizer
    name: str
    max_waiting: int
    in_flight: int = 0
    _tasks: set[int] = field(default_factory=set)

    def sampling(
        self, request: Generation, num_prompt: int, limit: int | None, constraint: Constraint | None
    ) -> Sampling:
        """What the engine is asked. ValueError when the prompt does not fit."""
        room = self.engine.max_context - num_prompt
        if room < 1:
            raise ValueError(f"messages: {num_prompt} tokens do not fit into a context of {self.engine.max_context}")
        return Sampling(
            max_tokens=min(limit if limit is not None else DEFAULT_TOKENS, room),
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            seed=request.seed if request.seed is not None else random.getrandbits(31),
            stop_ids=frozenset((self.tokenizer.im_end_id, self.tokenizer.eot_id)),
            constraint=constraint,
        )

    async def stream(self, prompt: Sequence[int], sampling: Sampling, stops: Sequence[str]) -> AsyncIterator[Piece]:
        """Pieces of a reply as they come; leaving early cancels the request. Busy when the queue is full."""
        if self.in_flight >= self.max_waiting:
            raise Busy(f"{self.in_flight} requests are in flight; try again in a second")
        self.in_flight += 1
        loop, tokens = asyncio.get_running_loop(), asyncio.Queue[Token]()
        watch, finish = Watch(self.name, len(prompt)), "cancelled"

        def deliver(token: Token) -> None:
            loop.call_soon_threadsafe(tokens.put_nowait, token)

        handle = self.engine.submit(prompt, sampling, deliver)
        text = _Text(self.tokenizer, sampling.stop_ids, stops)
        try:
            while True:
                token = await tokens.get()
                if token.id >= 0:
                    watch.token()
                shown, stopped = text.push(token)
                finish = "stop" if stopped else token.finish
                yield Piece(shown, token, finish)
                if finish:
                    return
        finally:
            self.in_flight -= 1
            if finish in ("cancelled", "stop"):
                handle.cancel()
            watch.finish(finish)


class _Text:
    """Decodes ids and cuts at stop strings, holding back what may be the start of one."""

    def __init__(self, tokenizer: Tokenizer, stop_ids: frozenset[int], stops: Sequence[str]) -> None:
        self._decoder, self._stop_ids, self._stops = tokenizer.decoder(), stop_ids, [s for s in stops if s]
        self._held = ""

    def push(self, token: Token) -> tuple[str, bool]:
        """(text that is now certain, whether a stop string came)."""
        if token.id >= 0 and token.id not in self._stop_ids:
            self._held += self._decoder.push(token.id)
        if token.finish:
            self._held += self._decoder.finish()
        cuts = [at for stop in self._stops if (at := self._held.find(stop)) >= 0]
        if cuts:
            return self._held[: min(cuts)], True
        keep = 0 if token.finish else max((overlap(self._held, stop) for stop in self._stops), default=0)
        text, self._held = self._held[: len(self._held) - keep], self._held[len(self._held) - keep :]
        return text, False
