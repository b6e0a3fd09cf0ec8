"""The agent's loop: ask the model, run the calls it makes, hand back the results, until it answers or a limit ends it.

It knows neither transport (llm.py) nor how tools run (orchestrator.py).
"""

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from mantus.agent.llm import EndpointError, MantusLLM, Message, OutOfTime, Reply, Usage
from mantus.agent.orchestrator import Question, Result, ToolOrchestrator
from mantus.agent.tools import Status
from mantus.text.calls import Call, Malformed

REPEAT_WINDOW = 10
REPEATED = "(same call, same result as before) "


class StopReason(StrEnum):
    """Why a run ended."""

    DONE = "done"
    LENGTH = "length"
    """The answer was cut at the reply's own limit of tokens."""
    TURN_LIMIT = "turn_limit"
    CALL_LIMIT = "call_limit"
    TIME_LIMIT = "time_limit"
    TOKEN_LIMIT = "token_limit"
    REPEATED_CALL = "repeated_call"
    MALFORMED = "malformed"
    ENDPOINT = "endpoint"
    CANCELLED = "cancelled"
    APPROVAL = "approval"
    """A call waits for approval: `Agent.question` says which, `Agent.resume` goes on with the answer."""


@dataclass(frozen=True, slots=True)
class Text:
    """Some more of the model's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Called:
    """The model asks for this call."""

    call: Call | Malformed


@dataclass(frozen=True, slots=True)
class Returned:
    """A call has been settled."""

    result: Result


@dataclass(frozen=True, slots=True)
class Stopped:
    """The run is over; always the last event. answer: the model's last text.  detail: for people."""

    reason: StopReason
    answer: str
    usage: Usage
    detail: str = ""


Event = Text | Called | Returned | Stopped


@dataclass(frozen=True, slots=True)
class Limits:
    """Where a run ends at the latest."""

    turns: int = 8
    """Replies of the model."""
    calls: int = 16
    seconds: float = 120.0
    tokens: int = 50_000
    """Read and written, over all turns; needs an endpoint that counts."""
    repeats: int = 3
    """The same call with the same result, so many times within the last ten calls."""
    malformed: int = 1
    """Replies in a row with a malformed call that may be tried again, under the endpoint's grammar."""


@dataclass
class _Run:
    """What a run has used so far."""

    deadline: float
    usage: Usage = field(default_factory=Usage)
    seconds_left: float = 0.0
    num_calls: int = 0
    num_repeats: int = 0
    malformed: int = 0
    tool_choice: str = "auto"
    answer: str = ""
    turns: int = 0
    recent: deque[str] = field(default_factory=lambda: deque(maxlen=REPEAT_WINDOW))
    calls: list[Call | Malformed] = field(default_factory=list)
    """The calls of the last reply."""
    results: list[Result] = field(default_factory=list)
    """Those that are settled already, in the order of the calls."""

    def repeats(self, result: Result) -> int:
        """How often this call with this result has been seen lately, this time included."""
        self.recent.append(json.dumps([result.name, result.arguments, result.output], sort_keys=True))
        return Counter(self.recent)[self.recent[-1]]


class Agent:
    """A conversation with a model that may use tools. `chat` holds its messages in OpenAI's shape."""

    def __init__(
        self, llm: MantusLLM, tools: ToolOrchestrator, *, system: str = "", limits: Limits | None = None
    ) -> None:
        self.llm, self.tools = llm, tools
        self.limits = limits or Limits()
        self.chat: list[Message] = [{"role": "system", "content": system}] if system else []
        self._cancelled = threading.Event()
        self._waiting: _Run | None = None

    def cancel(self) -> None:
        """End the run at its next event; may be called from any thread."""
        self._cancelled.set()

    def run(self, task: str) -> Iterator[Event]:
        """Work on a task: events as they happen, a Stopped last. Nothing that model, tools or endpoint do raises."""
        self._cancelled.clear()
        self.chat.append({"role": "user", "content": task})
        self._waiting, run = None, _Run(time.monotonic() + self.limits.seconds)
        yield from self._until_stopped(run, self._turns(run))

    @property
    def question(self) -> Question | None:
        """The call that a run which stopped for approval waits with."""
        return self.tools.question if self._waiting else None

    def resume(self, approved: bool) -> Iterator[Event]:
        """Go on with a run that stopped for approval; what has run already does not run again.

        ValueError when no run waits.
        """
        run = self._waiting
        if run is None:
            raise ValueError("no run waits for approval")
        self._cancelled.clear()
        self._waiting, run.deadline = None, time.monotonic() + run.seconds_left
        yield from self._until_stopped(run, self._resumed(run, approved))

    def _until_stopped(self, run: _Run, work: Generator[Event, None, StopReason]) -> Iterator[Event]:
        detail = ""
        try:
            reason = yield from work
        except EndpointError as error:
            reason, detail = StopReason.ENDPOINT, str(error)
        except OutOfTime:
            reason = StopReason.TIME_LIMIT
        if reason is StopReason.APPROVAL and self.tools.question:
            run.seconds_left = max(run.deadline - time.monotonic(), 0.0)  # the clock stops while people think
            self._waiting, detail = run, self.tools.question.reason
        yield Stopped(reason, run.answer, run.usage, detail)

    def _resumed(self, run: _Run, approved: bool) -> Generator[Event, None, StopReason]:
        stop = yield from self._settle(run, approved)
        return stop if stop else (yield from self._turns(run))

    def _turns(self, run: _Run) -> Generator[Event, None, StopReason]:
        schemas = self.tools.schemas()
        while run.turns < self.limits.turns:
            run.turns += 1
            reply = yield from self._ask(run, schemas)
            if reply is None:
                return StopReason.CANCELLED
            if not reply.calls:
                self.chat.append({"role": "assistant", "content": reply.text})
                return StopReason.LENGTH if reply.finish_reason == "length" else StopReason.DONE
            stop = yield from self._perform(run, reply)
            if stop:
                return stop
        return StopReason.TURN_LIMIT

    def _ask(self, run: _Run, schemas: list[dict[str, Any]]) -> Generator[Event, None, Reply | None]:
        """One reply of the model; None when the run was cancelled meanwhile. A forced choice holds for one reply."""
        stream = self.llm.stream(self.chat, schemas, run.tool_choice, run.deadline)
        run.tool_choice = "auto"
        try:
            while not self._cancelled.is_set():
                yield Text(next(stream))
        except StopIteration as ended:
            reply: Reply = ended.value
            run.answer = reply.text.strip()
            run.usage = Usage(run.usage.prompt + reply.usage.prompt, run.usage.completion + reply.usage.completion)
            return reply
        finally:
            stream.close()
        return None

    def _perform(self, run: _Run, reply: Reply) -> Generator[Event, None, StopReason | None]:
        """Run a reply's calls and put them and their results into the chat; why to stop, or None."""
        run.num_calls += len(reply.calls)
        if run.num_calls > self.limits.calls:
            return StopReason.CALL_LIMIT
        for call in reply.calls:
            yield Called(call)
        if self._cancelled.is_set():
            return StopReason.CANCELLED
        run.calls, run.results = reply.calls, []
        return (yield from self._settle(run, None))

    def _settle(self, run: _Run, approved: bool | None) -> Generator[Event, None, StopReason | None]:
        """Run what has not run of the last reply's calls; all of them and their results go into the chat at once."""
        settled = self.tools.execute(run.calls[len(run.results) :], run.deadline, approved)
        counts = [run.repeats(result) for result in settled]
        run.num_repeats = max([run.num_repeats, *counts])
        marked = [
            replace(result, output=REPEATED + result.output) if count > 1 else result
            for result, count in zip(settled, counts, strict=True)
        ]
        run.results += marked
        if not self.tools.question:
            # A malformed call stands in the chat as a call without arguments, so that its tool message answers
            # something: every endpoint accepts that, and none has to read the broken text.
            requests = [result.request() for result in run.results]
            self.chat.append({"role": "assistant", "content": run.answer, "tool_calls": requests})
            self.chat += [result.message() for result in run.results]
        for result in marked:
            yield Returned(result)
        return StopReason.APPROVAL if self.tools.question else self._verdict(run, run.results, run.num_repeats)

    def _verdict(self, run: _Run, results: list[Result], repeats: int) -> StopReason | None:
        """Whether to go on after these results, and under which choice of tools."""
        broken = [result.name for result in results if result.status is Status.MALFORMED]
        run.malformed = run.malformed + 1 if broken else 0
        if run.malformed > self.limits.malformed:
            return StopReason.MALFORMED
        if broken:
            run.tool_choice = broken[0] if broken[0] in self.tools.tools else "required"
        if repeats >= self.limits.repeats:
            return StopReason.REPEATED_CALL
        if run.usage.total >= self.limits.tokens:
            return StopReason.TOKEN_LIMIT
        if time.monotonic() >= run.deadline:
            return StopReason.TIME_LIMIT
        return StopReason.CANCELLED if self._cancelled.is_set() else None
