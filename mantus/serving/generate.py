"""From checked requests to pieces of text: places in the queue, sampling, stop strings, cancelling, counting.

It knows the engine and the tokenizer, not HTTP or OpenAI's JSON.
"""

import asyncio
import random
from collections import deque
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from mantus.inference.engine import Engine, Handle, Sampling, Token
from mantus.serving.metrics import REDONE, Watch
from mantus.serving.schemas import Generation
from mantus.text.calls import Call, Malformed, StreamParser, overlap
from mantus.text.grammar import Constraint
from mantus.text.tokenizer import Tokenizer

DEFAULT_TOKENS = 512
SEEDS = (1 << 63) - 1
REPEATED = 96
"""Tokens of a call that repeats itself, thrice or more often, before it is made again."""


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
class Strictly:
    """How to make a call once more that a loose grammar let grow too long, or out of its schema."""

    constraint: Callable[[int], Constraint]
    """Of so many tokens of room."""
    fits: Callable[[Call], bool]


@dataclass(frozen=True, slots=True)
class Job:
    """One reply to make."""

    prompt: Sequence[int]
    sampling: Sampling
    strictly: Strictly | None = None
    """For replies whose constraint is loose."""


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
        self,
        request: Generation,
        prompt: Sequence[int],
        limit: int | None,
        constraint: Constraint | None,
        top: int,
        strictly: Strictly | None = None,
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
        return [Job(prompt, replace(sampling, seed=(seed + copy) & SEEDS), strictly) for copy in range(request.n)]

    async def run(self, jobs: Sequence[Job], stops: Sequence[str]) -> AsyncGenerator[tuple[int, Piece], None]:
        """Pieces of several replies as they come, each with its job's number; leaving early cancels what is left.

        A job with `strictly` gives the pieces of a call when it is whole; one that comes to no end is made once more.
        ValueError when the engine refuses a job, EngineFailed when it breaks.
        """
        arrived: Arrivals = asyncio.Queue()
        watches = [Watch(self.name, len(job.prompt)) for job in jobs]
        running = {number: self._begin(number, job, stops, watches[number], arrived) for number, job in enumerate(jobs)}
        try:
            while running:
                number, token = await arrived.get()
                if number not in running:  # cut by a stop string, or made once more; its cancelling is under way
                    continue
                reply, index = running[number], number % len(jobs)
                pieces = reply.push(token)
                if pieces is None:
                    del running[number]
                    if again := reply.again():
                        number += len(jobs)
                        running[number] = self._begin(number, again, stops, reply.watch, arrived)
                        continue
                    pieces = [Piece("", Token(-1, 0.0), "stop")]
                if pieces and pieces[-1].finish:
                    reply.watch.finish(pieces[-1].finish)
                    running.pop(number, None)
                _raise(token)
                for piece in pieces:
                    yield index, piece
        finally:
            for reply in running.values():
                reply.handle.cancel()
                reply.watch.finish("cancelled")

    def _begin(self, number: int, job: Job, stops: Sequence[str], watch: Watch, arrived: "Arrivals") -> "_Reply":
        """Start a job; its tokens go to `arrived` with this number, whose loop is the running one."""
        loop = asyncio.get_running_loop()
        if self._post is None or self._post.loop is not loop:
            self._post = _Post(loop)
        send = self._post.send
        handle = self.engine.submit(job.prompt, job.sampling, lambda token: send(arrived, (number, token)))
        return _Reply(job, handle, _Text(self.tokenizer, job.sampling.stop_ids, stops), watch)


@dataclass
class _Reply:
    """One reply while it comes. Of a loose job it holds a call back until that is whole."""

    job: Job
    handle: Handle
    text: "_Text"
    watch: Watch
    given: list[int] = field(default_factory=list)
    """Ids of the pieces that are not held."""
    _held: list[Piece] = field(default_factory=list)
    _parser: StreamParser = field(default_factory=StreamParser)

    def push(self, token: Token) -> list[Piece] | None:
        """What is settled with one more token; None when the call that is held has failed."""
        if token.id >= 0:
            self.watch.token()
        shown, stopped = self.text.push(token)
        finish = "stop" if stopped else token.finish
        piece = Piece(shown, token, finish)
        failed = self.job.strictly is not None and self._fails(piece, self.job.strictly)
        if (finish or failed) and not token.finish:
            self.handle.cancel()
        if failed:
            return None
        self._held.append(piece)
        if self._parser.holds and not finish:
            return []
        pieces, self._held = self._held, []
        if self.job.strictly is not None:
            self.given += [each.token.id for each in pieces]
        return pieces

    def _fails(self, piece: Piece, strictly: Strictly) -> bool:
        """Whether a call does not fit, repeats itself, or has come to the limit instead of its end."""
        found = [*self._parser.push(piece.text), *(self._parser.finish() if piece.finish else [])]
        if piece.finish == "length" and any(isinstance(one, Malformed) for one in found):
            return True
        if any(isinstance(one, Call) and not strictly.fits(one) for one in found):
            return True
        return not piece.finish and _repeats([one.token.id for one in self._held[-REPEATED:]])

    def again(self) -> Job | None:
        """The same from the held call on, under the strict grammar; None where that is a call that nobody needs."""
        assert self.job.strictly is not None
        sampling = self.job.sampling
        if self.given and not (sampling.constraint and sampling.constraint.tags):
            return None
        REDONE.inc()
        room = sampling.max_tokens - len(self.given)
        strict = replace(sampling, max_tokens=room, constraint=self.job.strictly.constraint(room))
        return Job([*self.job.prompt, *self.given], strict)


def _repeats(ids: list[int]) -> bool:
    """Whether so many tokens are one short run of them again and again, which a small model never ends."""
    return len(ids) == REPEATED and any(ids[size:] == ids[:-size] for size in range(1, REPEATED // 3 + 1))


def _raise(token: Token) -> None:
    if token.finish == "refused":
        raise ValueError(f"the engine refuses the request: {token.note}")
    if token.finish in ("error", "cancelled"):
        raise EngineFailed(token.note or "the server is shutting down")


Arrivals = asyncio.Queue[tuple[int, Token]]


class _Post:
    """From the engine's thread to the loop, which is woken once for all tokens of a step.

    Woken for each, it takes the interpreter's lock from the engine between them, and the next step waits.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop, self._waking = loop, False
        self._sent: deque[tuple[Arrivals, tuple[int, Token]]] = deque()

    def send(self, to: Arrivals, token: tuple[int, Token]) -> None:
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
