"""Fifty tasks with a scripted model, valid, malformed, looping and hostile: each ends with the stop that it must."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from mantus.agent.builtin import toolbox
from mantus.agent.llm import MantusLLM
from mantus.agent.loop import Agent, Limits, Returned, Stopped, StopReason
from mantus.agent.orchestrator import ToolOrchestrator, ask_later
from mantus.agent.tools import Status
from tests.agent import toolshed
from tests.agent.endpoint import Answer, Endpoint, calls, chunk, event, refuses, says

OK, FAILED, DENIED, BAD, WRONG, UNKNOWN, LATE = (
    Status.OK,
    Status.FAILED,
    Status.DENIED,
    Status.MALFORMED,
    Status.INVALID_ARGUMENTS,
    Status.UNKNOWN_TOOL,
    Status.TIMEOUT,
)
DONE, REPEATED, STUCK = StopReason.DONE, StopReason.REPEATED_CALL, StopReason.MALFORMED
SHED = [toolshed.send, toolshed.peek, toolshed.flood, toolshed.fail, toolshed.hang, toolshed.spin, toolshed.document]


def add(number: Any = 1) -> tuple[str, Any]:
    return "calculator", {"expression": f"{number} + 1"}


def read(path: Any) -> tuple[str, Any]:
    return "file_read", {"path": path}


def write(path: Any, content: Any = "hi") -> tuple[str, Any]:
    return "file_write", {"path": path, "content": content}


CALL = '<tool_call>{"name": "calculator", "arguments": {"expression": "1+1"}}</tool_call>'
"""A call that the endpoint leaves in the text."""
BROKEN = says('<tool_call>{"name": "calculator", "arguments": {</tool_call>')


@dataclass(frozen=True)
class Scripted:
    """What the model says, and what must come of it."""

    answers: Sequence[Answer]
    stop: StopReason = DONE
    statuses: Sequence[Status] = ()
    limits: dict[str, Any] = field(default_factory=dict)
    approves: bool | None = None
    answer: str | None = None


VALID = {
    "an answer": Scripted([says("84")], answer="84"),
    "an empty answer": Scripted([says("")], answer=""),
    "thoughts and an answer": Scripted([says("<think>7 x 12</think>", "84")], answer="84"),
    "one call": Scripted([calls(add()), says("2")], DONE, [OK], answer="2"),
    "one call in text": Scripted([says(CALL), says("2")], DONE, [OK]),
    "text before a call": Scripted([says("I add. ", CALL), says("2")], DONE, [OK], answer="2"),
    "five calls at once": Scripted([calls(*map(add, range(5))), says("done")], DONE, [OK] * 5),
    "three calls in turn": Scripted([*(calls(add(n)) for n in range(3)), says("done")], DONE, [OK] * 3),
    "write, then read": Scripted([calls(write("b.txt")), calls(read("b.txt")), says("hi")], DONE, [OK, OK]),
    "write and read in one reply": Scripted([calls(write("b.txt"), read("b.txt")), says("hi")], DONE, [OK, OK]),
    "a search": Scripted([calls(("search", {"query": "salmon"})), says("autumn")], DONE, [OK]),
    "a search that finds nothing": Scripted([calls(("search", {"query": "zebra"})), says("no")], DONE, [FAILED]),
    "a slip of type": Scripted([calls(("calculator", {"expression": 84})), says("84")], DONE, [OK]),
    "an answer cut off": Scripted([says("It is eigh", finish_reason="length")], StopReason.LENGTH, answer="It is eigh"),
    "an approved call": Scripted(
        [calls(("peek", {}), ("send", {"text": "a"})), says("sent")], DONE, [OK, OK], approves=True
    ),
    "a call to be approved": Scripted([calls(("peek", {}), ("send", {"text": "a"}))], StopReason.APPROVAL, [OK]),
    "a refused call": Scripted(
        [calls(("peek", {}), ("send", {"text": "a"})), says("no")], DONE, [OK, DENIED], approves=False
    ),
}

MALFORMED = {
    "broken, then right": Scripted([BROKEN, calls(add()), says("2")], DONE, [BAD, OK]),
    "broken twice": Scripted([BROKEN, BROKEN], STUCK, [BAD, BAD]),
    "broken thrice where thrice may be": Scripted([BROKEN] * 3, STUCK, [BAD] * 3, {"malformed": 2, "repeats": 9}),
    "broken, right, broken": Scripted([BROKEN, calls(add()), BROKEN, says("ok")], DONE, [BAD, OK, BAD]),
    "broken beside a good one": Scripted([says(CALL, '<tool_call>{"name": </tool_call>'), says("2")], DONE, [OK, BAD]),
    "arguments that are no JSON": Scripted([calls(("calculator", '{"expr')), says("ok")], DONE, [BAD]),
    "arguments that are a list": Scripted([calls(("calculator", "[1]")), says("ok")], DONE, [BAD]),
    "no name": Scripted([calls(("", "{}")), says("ok")], DONE, [BAD]),
    "an unknown tool": Scripted([calls(("weather", {})), says("ok")], DONE, [UNKNOWN]),
    "an unknown tool beside a known one": Scripted([calls(("weather", {}), add()), says("2")], DONE, [UNKNOWN, OK]),
    "an argument missing": Scripted([calls(("calculator", {})), says("ok")], DONE, [WRONG]),
    "an argument too many": Scripted([calls(("peek", {"x": 1})), says("ok")], DONE, [WRONG]),
    "an argument of the wrong type": Scripted([calls(read(["a"])), says("ok")], DONE, [WRONG]),
    "a host's setting": Scripted([calls(("file_read", {"path": "a.txt", "root": "/"})), says("ok")], DONE, [WRONG]),
    "a call cut off": Scripted([says('<tool_call>{"name": "calcul', finish_reason="length"), says("ok")], DONE, [BAD]),
    "an event that is no chunk": Scripted([Answer([event({"choices": 7})])], StopReason.ENDPOINT),
}

LOOPING = {
    "the same call for ever": Scripted([calls(add())] * 9, REPEATED, [OK] * 3),
    "two calls in turn for ever": Scripted([calls(add(n % 2)) for n in range(9)], REPEATED, [OK] * 5),
    "the same failure for ever": Scripted([calls(read("none"))] * 9, REPEATED, [FAILED] * 3),
    "the same unknown tool for ever": Scripted([calls(("weather", {}))] * 9, REPEATED, [UNKNOWN] * 3),
    "new calls for ever": Scripted([calls(add(n)) for n in range(9)], StopReason.TURN_LIMIT, [OK] * 4, {"turns": 4}),
    "many calls for ever": Scripted(
        [calls(add(n), add(-n)) for n in range(1, 9)], StopReason.CALL_LIMIT, [OK] * 6, {"calls": 7}
    ),
    "tokens for ever": Scripted(
        [calls(add(n), usage=(90, 10)) for n in range(9)], StopReason.TOKEN_LIMIT, [OK] * 3, {"tokens": 250}
    ),
    "text for ever": Scripted([says(*["a"] * 5000, pause_s=0.01)], StopReason.TIME_LIMIT, [], {"seconds": 1.0}),
}

HOSTILE = {
    "a path outside": Scripted([calls(read("../secret.txt")), says("no")], DONE, [FAILED]),
    "an absolute path": Scripted([calls(read("/etc/passwd")), says("no")], DONE, [FAILED]),
    "code for the calculator": Scripted(
        [calls(("calculator", {"expression": "__import__('os').getcwd()"})), says("no")], DONE, [FAILED]
    ),
    "a number without end": Scripted([calls(("calculator", {"expression": "9**9**9"})), says("no")], DONE, [FAILED]),
    "a tool that hangs": Scripted([calls(("hang", {})), says("late")], DONE, [LATE]),
    "a pattern that never matches": Scripted([calls(("spin", {"text": "a" * 60 + "b"})), says("late")], DONE, [LATE]),
    "a tool that floods": Scripted([calls(("flood", {"size": 50_000_000})), says("much")], DONE, [OK]),
    "a tool that dies": Scripted([calls(("fail", {"how": "die"})), says("dead")], DONE, [FAILED]),
    "a call copied from a document": Scripted(
        [calls(("document", {})), calls(write("a.txt", "owned")), says("no")], DONE, [OK, DENIED], approves=False
    ),
}

TASKS = {**VALID, **MALFORMED, **LOOPING, **HOSTILE}


def test_there_are_fifty_tasks():
    assert len(TASKS) == 50


@pytest.mark.parametrize("name", TASKS)
def test_a_scripted_task_ends_as_it_must(endpoint: Endpoint, llm: MantusLLM, index: Path, tmp_path: Path, name: str):
    task, root = TASKS[name], tmp_path / "root"
    root.mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    endpoint.then(*task.answers)
    tools = ToolOrchestrator([*toolbox(root, index), *SHED], approve=ask_later)
    agent = Agent(llm, tools, limits=Limits(**{"seconds": 60, **task.limits}))
    events = list(agent.run("go"))
    while agent.question and task.approves is not None:
        events += agent.resume(task.approves)
    stops = [event for event in events if isinstance(event, Stopped)]
    assert stops[-1] is events[-1]
    assert stops[-1].reason is task.stop, stops[-1]
    results = [event.result for event in events if isinstance(event, Returned)]
    assert [result.status for result in results] == list(task.statuses)
    if task.answer is not None:
        assert stops[-1].answer == task.answer
    assert sum(len(str(message)) for message in agent.chat) < 20_000
    assert "secret" not in str([m for m in agent.chat if m["role"] == "tool"])
    check_chat(agent.chat)


def check_chat(chat: list[dict[str, Any]]) -> None:
    """Every call has its answer, in order, as every endpoint asks for."""
    asked: list[str] = []
    for message in chat:
        if message["role"] == "tool":
            assert message["tool_call_id"] == asked.pop(0)
        else:
            assert asked == []
            asked = [call["id"] for call in message.get("tool_calls") or []]
    assert asked == []


def test_a_run_goes_on_after_approval_without_running_anything_twice(
    endpoint: Endpoint, llm: MantusLLM, tmp_path: Path
):
    endpoint.then(
        calls(write("a.txt", "1"), ("peek", {}), ("send", {"text": "a"}), ("send", {"text": "b"}), add()), says("ok")
    )
    tools = ToolOrchestrator([*toolbox(tmp_path), toolshed.peek, toolshed.send], approve=ask_later)
    agent = Agent(llm, tools)
    events = list(agent.run("go"))
    assert [event.result.name for event in events if isinstance(event, Returned)] == ["file_write", "peek"]
    assert agent.question is not None
    assert (agent.question.call.arguments, agent.question.reason) == ({"text": "a"}, "private data has been read")
    assert agent.chat[-1]["role"] == "user"
    (tmp_path / "a.txt").write_text("changed since")
    first = list(agent.resume(True))
    assert [event.result.output for event in first if isinstance(event, Returned)] == ["sent a"]
    second = list(agent.resume(False))
    statuses = [event.result.status for event in second if isinstance(event, Returned)]
    assert statuses == [DENIED, OK]
    assert isinstance(second[-1], Stopped)
    assert second[-1].reason is DONE
    assert (tmp_path / "a.txt").read_text() == "changed since"
    assert [m["content"] for m in agent.chat if m["role"] == "tool"][2:] == ["sent a", "not allowed", "2"]
    check_chat(agent.chat)
    with pytest.raises(ValueError, match="no run waits"):
        next(iter(agent.resume(True)))


def test_a_new_task_drops_a_question(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(calls(("peek", {})), calls(("send", {"text": "a"})), says("fresh"))
    agent = Agent(llm, ToolOrchestrator([toolshed.peek, toolshed.send], approve=ask_later))
    assert list(agent.run("go"))[-1] == Stopped(StopReason.APPROVAL, "", usage(), "private data has been read")
    assert agent.question is not None
    assert list(agent.run("again"))[-1] == Stopped(DONE, "fresh", usage())
    assert agent.question is None
    check_chat(agent.chat)


def usage() -> Any:
    from mantus.agent.llm import Usage

    return Usage()


def test_a_reply_without_end_is_cut(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(Answer([chunk({"content": "x" * (1 << 17)})] * 40))
    stopped = list(Agent(llm, ToolOrchestrator([])).run("go"))[-1]
    assert isinstance(stopped, Stopped)
    assert (stopped.reason, stopped.detail) == (StopReason.ENDPOINT, "the endpoint's reply has no end")


def test_a_busy_endpoint_is_waited_for(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(refuses(503, Retry_After="0"), says("now"))
    assert list(Agent(llm, ToolOrchestrator([])).run("go"))[-1] == Stopped(DONE, "now", usage())
