"""Run the calls of one conversation: allow-list, validation, policy, deadline, cap on output. It never raises.

It does not know the model, nor what becomes of the results.
"""

import json
import math
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mantus.agent.policy import Policy
from mantus.agent.sandbox import DeadlineExceeded, run_child
from mantus.agent.tools import Effect, Status, Tool, ToolError, coerce
from mantus.text.calls import Call, Malformed, check_call

Approve = Callable[[Tool, Call, str], bool | None]
"""Asked, with the reason, before a call that the policy does not allow by itself; False refuses it, None asks later."""

NAME = re.compile(r'"name"\s*:\s*"([\w.-]+)"')
HEAD_SHARE = 0.7
RAN = (Status.OK, Status.FAILED, Status.TIMEOUT)
"""A call with such an end has run, so its tool may have said something, or seen something."""


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one call. `output` is what the model reads; `detail` is for people only."""

    call_id: str
    name: str
    arguments: dict[str, Any]
    status: Status
    output: str
    detail: str = ""

    def message(self) -> dict[str, Any]:
        """The tool message that answers the call: the only place where a tool's output goes."""
        return {"role": "tool", "tool_call_id": self.call_id, "content": self.output}

    def request(self) -> dict[str, Any]:
        """The call as an assistant message carries it."""
        arguments = json.dumps(self.arguments, ensure_ascii=False)
        return {"id": self.call_id, "type": "function", "function": {"name": self.name, "arguments": arguments}}


@dataclass(frozen=True, slots=True)
class Question:
    """A call that waits for approval, and why it needs it."""

    tool: Tool
    call: Call
    reason: str


def ask_later(tool: Tool, call: Call, reason: str) -> None:
    """An `approve` that puts every question off: the run stops, and goes on with the answer (Agent.resume)."""


class ToolOrchestrator:
    """Tools that one conversation may use. Only the tools given can run, and those only as the policy lets them."""

    def __init__(
        self,
        tools: Sequence[Tool],
        *,
        approve: Approve | None = None,
        ask_for: frozenset[Effect] = frozenset(),
        max_output_chars: int = 2000,
    ) -> None:
        """approve: asked where approval is needed; None refuses.

        ask_for: effects that always need approval.  max_output_chars: longest output that the model gets to read.
        """
        self.tools = {tool.name: tool for tool in tools}
        assert len(self.tools) == len(tools), "two tools have one name"
        self.approve, self.max_output_chars = approve, max_output_chars
        self.policy = Policy(ask_for)
        self.question: Question | None = None
        self._strict = [_closed(tool.schema()) for tool in tools]
        self._num_calls = 0

    def schemas(self) -> list[dict[str, Any]]:
        """The tools as OpenAI's `tools` field carries them."""
        return [tool.schema() for tool in self.tools.values()]

    def execute(
        self, calls: Sequence[Call | Malformed], deadline: float = math.inf, answer: bool | None = None
    ) -> list[Result]:
        """Run calls; one result for each, in their order, with ids that are unique in this conversation.

        Neighbours that write nothing run at the same time, a call that writes runs alone.
        deadline: on time.monotonic's clock; it cuts a tool's own time.
        The list is shorter when a call waits for approval: `question` says which, and nothing behind it has run. To go
        on, give the calls that are left, with the `answer` for the first of them.
        """
        results: list[Result] = []
        self.question = None
        while len(results) < len(calls):
            left = calls[len(results) :]
            alone = next((place for place, call in enumerate(left) if self._runs_alone(call)), len(left))
            results += self._run_batch(left[: max(alone, 1)], deadline, None if results else answer)
            if self.question:
                break
        return results

    def _runs_alone(self, call: Call | Malformed) -> bool:
        """Whether neighbours must wait: it changes something, or somebody may have to be asked first."""
        tool = self.tools.get(call.name) if isinstance(call, Call) else None
        if tool is None or not isinstance(call, Call):
            return False
        return bool(tool.effects & {Effect.WRITES, Effect.NETWORK} or self.policy.objection(tool, call))

    def _run_batch(self, calls: Sequence[Call | Malformed], deadline: float, answer: bool | None) -> list[Result]:
        """Settle what needs no running, run the rest side by side; nothing when the only call has to wait."""
        settled: list[Result | tuple[Tool, Call]] = []
        for call in calls:
            checked = self._check(call, answer)
            if checked is None:
                return []
            settled.append(checked)
        threads: list[threading.Thread] = []

        def work(position: int, tool: Tool, call: Call) -> None:
            settled[position] = self._run(tool, call, deadline)

        for position, item in enumerate(settled):
            if isinstance(item, tuple):
                threads.append(threading.Thread(target=work, args=(position, *item), daemon=True))
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        results = [item for item in settled if isinstance(item, Result)]
        assert len(results) == len(calls)
        for result in results:
            if result.status in RAN:
                self.policy.note(self.tools[result.name], result.output)
        return results

    def _check(self, call: Call | Malformed, answer: bool | None) -> Result | tuple[Tool, Call] | None:
        """The tool and the call to run, the result of a call that must not run, or None when it has to wait."""
        call_id = f"call_{self._num_calls + 1}"
        checked: Result | tuple[Tool, Call] | None
        if isinstance(call, Malformed):
            reason = f"not a valid call: {call.reason}. Call again."
            checked = Result(call_id, self.guess_name(call), {}, Status.MALFORMED, reason, call.text)
        elif call.name not in self.tools:
            known = ", ".join(self.tools)
            text = self._cap(f"no such tool. Tools: {known}")
            checked = Result(call_id, call.name, call.arguments, Status.UNKNOWN_TOOL, text)
        else:
            checked = self._check_arguments(self.tools[call.name], call, call_id, answer)
        self._num_calls += checked is not None
        return checked

    def _check_arguments(
        self, tool: Tool, call: Call, call_id: str, answer: bool | None
    ) -> Result | tuple[Tool, Call] | None:
        call = Call(call.name, coerce(call.arguments, tool.parameters), call_id)
        problem = check_call(call, self._strict)
        if problem:
            text = f"wrong arguments: {problem}. Needs {signature(tool)}"
            return Result(call_id, call.name, call.arguments, Status.INVALID_ARGUMENTS, self._cap(text))
        reason = self.policy.objection(tool, call)
        if reason:
            if answer is None and self.approve is not None:
                answer = self.approve(tool, call, reason)
                if answer is None:
                    self.question = Question(tool, call, reason)
                    return None
            if not answer:
                return Result(call_id, call.name, call.arguments, Status.DENIED, "not allowed", reason)
        return tool, call

    def guess_name(self, call: Malformed) -> str:
        """The tool that a malformed call meant, or 'unknown'."""
        match = NAME.search(call.text)
        return match[1] if match and match[1] in self.tools else "unknown"

    def _run(self, tool: Tool, call: Call, deadline: float) -> Result:
        seconds = min(tool.timeout_s, deadline - time.monotonic())
        status, detail = Status.OK, ""
        try:
            output = _perform(tool, call, seconds)
        except ToolError as error:
            status, output = Status.FAILED, str(error)
        except DeadlineExceeded:
            status, output = Status.TIMEOUT, "took too long"
        except Exception as error:  # noqa: BLE001  a tool is foreign code; its words stay away from the model
            status, output, detail = Status.FAILED, "the tool failed", f"{type(error).__name__}: {error}"
        return Result(call.id, call.name, call.arguments, status, self._cap(output), detail)

    def _cap(self, text: str) -> str:
        """Head and tail of a text that is too long for the context."""
        if len(text) <= self.max_output_chars:
            return text
        mark = f" ... {len(text) - self.max_output_chars} more characters ... "
        head = int((self.max_output_chars - len(mark)) * HEAD_SHARE)
        tail = self.max_output_chars - len(mark) - head
        return text[:head] + mark + text[len(text) - tail :] if head > 0 else text[: self.max_output_chars]


def _perform(tool: Tool, call: Call, seconds: float) -> str:
    if tool.remote is not None:
        return tool.remote(call.arguments, seconds)
    if tool.bounded:
        return _run_thread(tool, call.arguments, seconds)
    writes, network = Effect.WRITES in tool.effects, Effect.NETWORK in tool.effects
    return run_child(tool.target, tool.settings, call.arguments, seconds, writes=writes, network=network)


def _run_thread(tool: Tool, arguments: dict[str, Any], seconds: float) -> str:
    """Run a bounded tool in a thread of its own; after the deadline it is left behind, its result unread."""
    done: list[str | BaseException] = []

    def work() -> None:
        try:
            done.append(str(tool.function(**arguments, **tool.settings)))
        except BaseException as error:  # noqa: BLE001  handed to the thread that waits
            done.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(max(seconds, 0))
    if not done:
        raise DeadlineExceeded(tool.name)
    if isinstance(done[0], Exception):
        raise done[0]
    if isinstance(done[0], BaseException):
        raise ToolError("the tool ended early")
    return done[0]


def signature(tool: Tool) -> str:
    """A tool's parameters in few tokens: {path: string, content: string}."""
    fields = (f"{name}: {schema.get('type', 'any')}" for name, schema in tool.parameters["properties"].items())
    return f"{{{', '.join(fields)}}}"


def _closed(schema: dict[str, Any]) -> dict[str, Any]:
    """The same schema, refusing arguments that it does not name."""
    parameters = {"additionalProperties": False, **schema["function"]["parameters"]}
    return {"type": "function", "function": {**schema["function"], "parameters": parameters}}
