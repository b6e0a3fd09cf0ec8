"""From checked requests to pieces of text: places in the queue, sampling, stop strings, cancelling, counting.

It knows the engine and the tokenizer, not HTTP or OpenAI's JSON.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from mantus.inference.engine import Engine, Handle, OnToken, Sampling, Token
from mantus.serving.metrics import Watch
from mantus.serving.schemas import Generation
from mantus.text.calls import overlap
from mantus.text.grammar import Constraint
from mantus.text.tokenizer import Tokenizer

DEFAULT_TOKENS = 512
SEEDS = (1 << 63) - 1


class Busy(RuntimeError):
    """Too many requests in flight."""


class EngineFailed(RuntimeError):
    """The engine broke; nothing that the client asked for is wrong."""


@dataclass(frozen=True, slots=True)
class Piece:
    """A step of a reply: text (often ''), the token behind it, and `finish` on the last."""

    text: str
    token: Token
    finish: str = ""


@dataclass(frozen=True, slots=True)
class Job:
    """One reply to make."""

    prompt: Sequence[int]
    sampling: Sampling


@dataclass
class Generator:
    """Runs requests on one engine."""

    engine: Engine
    tokenizer: Tokenizer
    name: str
    max_waiting: int
    max_tokens: int = 0
    """Longest reply; 0: as long as the context."""
    in_flight: int = 0
    _post: "_Post | None" = None

    @property
    def stop_ids(self) -> frozenset[int]:
        """Ids that end a reply."""
        return frozenset((self.tokenizer.im_end_id, self.tokenizer.eot_id))

    @contextmanager
    def places(self, num: int) -> Iterator[None]:
        """Take places in the queue for as long as the block lasts. Busy when there are too few."""
        if self.in_flight + num > self.max_waiting:
            raise Busy(f"{self.in_flight} replies are under way and {num} more do not fit; try again in a second")
        self.in_flight += num
        try:
            yield
        finally:
            self.in_flight -= num

    def encode(self, field: str, given: Any) -> list[list[int]]:
        """The ids of `Prompts`. ValueError, which names the field, when one has none, or ids that the model lacks."""
        several = given if isinstance(given, list) and not isinstance(next(iter(given), None), int) else [given]
        found = [self.tokenizer.encode(item) if isinstance(item, str) else list(item) for item in several]
        if not found or not all(found):
            raise ValueError(f"{field}: it has no tokens")
        if not all(0 <= index < self.engine.vocab_size for ids in found for index in ids):
            raise ValueError(f"{field}: ids must be from 0 to {self.engine.vocab_size - 1}")
        return found

    def jobs(
        self, request: Generation, prompt: Sequence[int], limit: int | None, constraint: Constraint | None, top: int
    ) -> list[Job]:
        """The `n` replies to one prompt. ValueError when it does not fit into the context."""
        room = self.engine.max_context - len(prompt)
        if room < 1:
            raise ValueError(f"prompt: {len(prompt)} tokens do not fit into a context of {self.engine.max_context}")
        seed = random.getrandbits(62) if request.seed is None else request.seed & SEEDS
        sampling = Sampling(
            max_tokens=min(limit if limit is not None else DEFAULT_TOKENS, room, self.max_tokens or room),
            temperature=request.temperature,
            top_p=request.top_p,
            top_k=request.top_k,
            presence_penalty=request.presence_penalty,
            frequency_penalty=request.frequency_penalty,
            stop_ids=self.stop_ids,
            constraint=constraint,
            ignore_stop=request.ignore_eos,
            top=top,
        )
        return [Job(prompt, replace(sampling, seed=(seed + copy) & SEEDS)) for copy in range(request.n)]

    async def run(self, jobs: Sequence[Job], stops: Sequence[str]) -> AsyncGenerator[tuple[int, Piece], None]:
        """Pieces of several replies as they come, each with its job's number; leaving early cancels what is left.

        ValueError when the engine refuses a job, EngineFailed when it breaks.
        """
        arrived: asyncio.Queue[tuple[int, Token]] = asyncio.Queue()
        running = self._submit(jobs, stops, arrived)
        try:
            while running:
                number, token = await arrived.get()
                if number not in running:  # cut by a stop string; its cancelling is under way
                    continue
                handle, text, watch = running[number]
                if token.id >= 0:
                    watch.token()
                shown, stopped = text.push(token)
                finish = "stop" if stopped else token.finish
                if finish:
                    if not token.finish:
                        handle.cancel()
                    watch.finish(finish)
                    del running[number]
                _raise(token)
                yield number, Piece(shown, token, finish)
        finally:
            for handle, _, watch in running.values():
                handle.cancel()
                watch.finish("cancelled")

    def _submit(
        self, jobs: Sequence[Job], stops: Sequence[str], arrived: "asyncio.Queue[tuple[int, Token]]"
    ) -> dict[int, tuple[Handle, "_Text", Watch]]:
        """Start all jobs; their tokens go to `arrived`, whose loop is the running one."""
        loop = asyncio.get_running_loop()
        if self._post is None or self._post.loop is not loop:
            self._post = _Post(loop)
        send = self._post.send

        def deliverer(number: int) -> OnToken:
            return lambda token: send(arrived, (number, token))

        return {
            number: (
                self.engine.submit(job.prompt, job.sampling, deliverer(number)),
                _Text(self.tokenizer, job.sampling.stop_ids, stops),
                Watch(self.name, len(job.prompt)),
            )
            for number, job in enumerate(jobs)
        }


def _raise(token: Token) -> None:
    if token.finish == "refused":
        raise ValueError(f"the engine refuses the request: {token.note}")
    if token.finish in ("error", "cancelled"):
        raise EngineFailed(token.note or "the server is shutting down")


class _Post:
    """From the engine's thread to the loop, which is woken once for all tokens of a step.

    Woken for each, it takes the interpreter's lock from the engine between them, and the next step waits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self._waking = loop, False
        self._sent: deque[tuple[asyncio.Queue[tuple[int, Token]], tuple[int, Token]]] = deque()

    def send(self, to: "asyncio.Queue[tuple[int, Token]]", token: tuple[int, Token]) -> None:
        """Put a token into a queue of the loop's; called on the engine's thread."""
        self._sent.append((to, token))
        if not self._waking:
            self._waking = True
            self.loop.call_soon_threadsafe(self._deliver)

    def _deliver(self) -> None:
        self._waking = False  # first: what is sent from here on wakes again
        while self._sent:
            to, token = self._sent.popleft()
            to.put_nowait(token)


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
