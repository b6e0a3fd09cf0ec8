"""The loop against a scripted model: results go back, mistakes become messages, every limit ends the run."""

import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from mantus.agent.builtin import toolbox
from mantus.agent.llm import MantusLLM, Usage
from mantus.agent.loop import REPEATED, Agent, Called, Event, Limits, Returned, Stopped, StopReason, Text
from mantus.agent.orchestrator import ToolOrchestrator
from mantus.agent.tools import Status, Tool, tool
from tests.agent.endpoint import Answer, Endpoint, calls, refuses, says

ADD = ("calculator", {"expression": "12 * 7"})
BROKEN = "<tool_call>{oops</tool_call>"
BROKEN_ADD = '<tool_call>{"name": "calculator", "arguments": {"expression": </tool_call>'


def agent(llm: MantusLLM, tools: Sequence[Tool] = (), system: str = "", **limits: Any) -> Agent:
    return Agent(llm, ToolOrchestrator(tools or toolbox(Path("unused"))), system=system, limits=Limits(**limits))


def ending(events: list[Event]) -> Stopped:
    """The last event, which alone is a Stopped."""
    *before, last = events
    assert isinstance(last, Stopped)
    assert not any(isinstance(event, Stopped) for event in before)
    return last


def test_an_answer_without_tools(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says("It ", "is 84.", usage=(9, 4)))
    talker = agent(llm, system="Be brief.")
    events = list(talker.run("12 x 7?"))
    assert ending(events) == Stopped(StopReason.DONE, "It is 84.", Usage(9, 4))
    assert "".join(event.text for event in events if isinstance(event, Text)) == "It is 84."
    assert talker.chat == [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "12 x 7?"},
        {"role": "assistant", "content": "It is 84."},
    ]


def test_results_go_back_to_the_model(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(calls(ADD, ("calculator", {"expression": "1+1"}), usage=(10, 5)), says("Done.", usage=(20, 2)))
    events = list(agent(llm).run("add"))
    assert ending(events) == Stopped(StopReason.DONE, "Done.", Usage(30, 7))
    kinds = [type(event) for event in events]
    assert kinds == [Called, Called, Returned, Returned, Text, Stopped]
    request, first, second = endpoint.requests[1]["messages"][1:]
    assert [json.loads(call["function"]["arguments"])["expression"] for call in request["tool_calls"]] == [
        "12 * 7",
        "1+1",
    ]
    assert [call["id"] for call in request["tool_calls"]] == [first["tool_call_id"], second["tool_call_id"]]
    assert (first["role"], first["content"], second["content"]) == ("tool", "84", "2")
    assert first["tool_call_id"] != second["tool_call_id"]
    assert [shown["function"]["name"] for shown in endpoint.requests[0]["tools"]] == [
        "calculator",
        "file_read",
        "file_write",
    ]


@pytest.mark.parametrize(
    ("answer", "status", "said"),
    [
        (calls(("weather", {})), Status.UNKNOWN_TOOL, "no such tool. Tools: calculator, file_read, file_write"),
        (calls(("calculator", {})), Status.INVALID_ARGUMENTS, "'expression' is a required property"),
        (calls(("calculator", {"expression": "1", "x": 1})), Status.INVALID_ARGUMENTS, "Needs {expression: string}"),
        (calls(("calculator", {"expression": "1/0"})), Status.FAILED, "division by zero"),
        (calls(("calculator", '{"expression')), Status.MALFORMED, "not a valid call"),
        (says(BROKEN), Status.MALFORMED, "not a valid call"),
    ],
)
def test_mistakes_become_messages_to_the_model(endpoint: Endpoint, llm: MantusLLM, answer, status, said):
    endpoint.then(answer, says("Sorry."))
    events = list(agent(llm).run("go"))
    assert ending(events).reason is StopReason.DONE
    (result,) = [event.result for event in events if isinstance(event, Returned)]
    assert result.status is status
    request, message = endpoint.requests[1]["messages"][1:]
    assert said in message["content"]
    (call,) = request["tool_calls"]
    assert call["id"] == message["tool_call_id"]


@pytest.mark.parametrize(
    ("answer", "choice"),
    [
        (says(BROKEN), "required"),
        (says(BROKEN_ADD), {"type": "function", "function": {"name": "calculator"}}),
    ],
)
def test_after_a_malformed_call_one_reply_is_forced(endpoint: Endpoint, llm: MantusLLM, answer: Answer, choice: Any):
    endpoint.then(answer, calls(ADD), says("84"))
    assert ending(list(agent(llm).run("go"))).reason is StopReason.DONE
    assert [request["tool_choice"] for request in endpoint.requests] == ["auto", choice, "auto"]


def test_malformed_calls_in_a_row_end_the_run_and_a_good_one_between_forgives(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says(BROKEN), calls(ADD), says(BROKEN), says(BROKEN), says("never"))
    assert ending(list(agent(llm).run("go"))).reason is StopReason.MALFORMED
    assert len(endpoint.requests) == 4


def test_the_same_call_with_the_same_result_is_marked_and_then_ends_the_run(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(calls(ADD), calls(ADD), calls(ADD), says("never"))
    events = list(agent(llm).run("go"))
    assert ending(events).reason is StopReason.REPEATED_CALL
    outputs = [event.result.output for event in events if isinstance(event, Returned)]
    assert outputs == ["84", REPEATED + "84", REPEATED + "84"]
    assert endpoint.requests[2]["messages"][-1]["content"] == REPEATED + "84"


def test_the_same_call_with_new_results_goes_on(endpoint: Endpoint, llm: MantusLLM):
    numbers = iter(range(9))

    @tool(bounded=True)
    def count() -> str:
        """Count."""
        return str(next(numbers))

    endpoint.then(*[calls(("count", {}))] * 4, says("4"))
    assert ending(list(agent(llm, [count]).run("go"))).reason is StopReason.DONE


def other(number: int) -> tuple[str, Any]:
    return "calculator", {"expression": str(number)}


@pytest.mark.parametrize(
    ("limits", "reason", "num_requests", "num_results"),
    [
        ({"turns": 2}, StopReason.TURN_LIMIT, 2, 2),
        ({"calls": 2}, StopReason.CALL_LIMIT, 3, 2),
        ({"tokens": 30}, StopReason.TOKEN_LIMIT, 3, 3),
    ],
)
def test_limits_end_the_run(endpoint: Endpoint, llm: MantusLLM, limits, reason, num_requests, num_results):
    endpoint.then(*(calls(other(number), usage=(8, 2)) for number in range(9)))
    events = list(agent(llm, **limits).run("go"))
    assert ending(events).reason is reason
    assert ending(events).usage.total == 10 * num_requests
    assert len(endpoint.requests) == num_requests
    assert len([event for event in events if isinstance(event, Returned)]) == num_results


def test_a_reply_with_too_many_calls_runs_none(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(calls(*(other(number) for number in range(4))))
    events = list(agent(llm, calls=3).run("go"))
    assert [type(event) for event in events] == [Stopped]
    assert ending(events).reason is StopReason.CALL_LIMIT


def test_time_ends_a_silent_endpoint(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says("so far", end="silent"))
    assert ending(list(agent(llm, seconds=0.5).run("go"))).reason is StopReason.TIME_LIMIT


def test_time_ends_a_slow_tool(endpoint: Endpoint, llm: MantusLLM):
    over = threading.Event()

    @tool(timeout_s=60, bounded=True)
    def wait() -> str:
        """Wait."""
        return str(over.wait(60))

    endpoint.then(calls(("wait", {})), says("never"))
    events = list(agent(llm, [wait], seconds=3.0).run("go"))
    over.set()
    assert ending(events).reason is StopReason.TIME_LIMIT
    (result,) = [event.result for event in events if isinstance(event, Returned)]
    assert (result.status, result.output) == (Status.TIMEOUT, "took too long")


def test_an_answer_cut_at_its_limit_is_told_from_a_whole_one(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says("It is eigh", finish_reason="length"))
    assert ending(list(agent(llm).run("go"))) == Stopped(StopReason.LENGTH, "It is eigh", Usage())


def test_trouble_with_the_endpoint_ends_the_run_with_its_message(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(calls(ADD, usage=(5, 5)), refuses(400, "too long"))
    stopped = ending(list(agent(llm).run("go")))
    assert (stopped.reason, stopped.usage.total) == (StopReason.ENDPOINT, 10)
    assert "too long" in stopped.detail


def test_cancelling_ends_a_stream_and_the_next_run_is_a_fresh_one(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says(*["word "] * 2000, pause_s=0.01))
    talker = agent(llm)
    events: list[Event] = []
    for event in talker.run("go"):
        events.append(event)
        canceller = threading.Thread(target=talker.cancel)
        canceller.start()
        canceller.join()
    assert ending(events).reason is StopReason.CANCELLED
    assert endpoint.hung_up.wait(10)
    endpoint.then(says("Here."))
    assert ending(list(talker.run("again"))) == Stopped(StopReason.DONE, "Here.", Usage())


def test_cancelling_before_the_calls_run_keeps_them_from_running(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(calls(ADD))
    talker = agent(llm)
    events = []
    for event in talker.run("go"):
        events.append(event)
        talker.cancel()
    assert [type(event) for event in events] == [Called, Stopped]
    assert ending(events).reason is StopReason.CANCELLED


NASTY = [
    says("<tool_call>{'name': 'calculator', 'arguments': {'expression': {1}}}</tool_call>"),
    says("<tool_call>{'name': 'calculator', 'arguments': {1: 2, 'a': 3}}</tool_call>"),
    says(f"<tool_call>{{'name': 'calculator', 'arguments': {{'expression': 0x{'f' * 9999}}}}}</tool_call>"),
    *(calls(("calculator", f'{{"expression": {"[" * depth}{"]" * depth}}}')) for depth in (300, 900, 960, 5000)),
    calls(("calculator", '{"expression": "\\ud800"}'), ("\ud800", {})),
    calls(("calculator", '{"expression": NaN}'), ("calculator", '{"expression": 1e999}')),
    says("\ud83d", BROKEN),
]


@pytest.mark.parametrize("number", range(len(NASTY)))
def test_nothing_that_the_model_writes_raises(endpoint: Endpoint, llm: MantusLLM, number: int):
    endpoint.then(NASTY[number], says("Fine."))
    assert ending(list(agent(llm).run("go"))).reason is StopReason.DONE
