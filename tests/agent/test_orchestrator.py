"""How calls are settled: order, side by side, validation, policy, deadlines, and what the model gets to read."""

import threading
import time
from pathlib import Path
from typing import Literal

import pytest

from mantus.agent.orchestrator import ToolOrchestrator
from mantus.agent.tools import Effect, Status, Tool, ToolError, coerce, tool
from mantus.text.calls import Call, Malformed
from tests.agent import toolshed


@tool(bounded=True)
def repeat(text: str, times: int = 1) -> str:
    """Repeat a text.

    Not for the model.
    """
    return text * times


def test_neighbours_run_side_by_side_and_keep_their_order():
    barrier = threading.Barrier(4, timeout=20)

    @tool(timeout_s=30, bounded=True)
    def meet(number: int) -> str:
        """Wait for the others."""
        barrier.wait()
        time.sleep(0.05 * (4 - number))
        return str(number)

    results = ToolOrchestrator([meet]).execute([Call("meet", {"number": number}) for number in range(4)])
    assert [(result.status, result.output) for result in results] == [(Status.OK, str(n)) for n in range(4)]


def test_calls_that_write_run_alone(tmp_path: Path):
    tools = ToolOrchestrator([toolshed.alone.bind(path=str(tmp_path / "mine"))])
    assert [result.output for result in tools.execute([Call("alone", {})] * 3)] == ["done"] * 3


def test_good_and_bad_calls_come_back_in_their_order_with_ids_of_their_own():
    tools = ToolOrchestrator([repeat])
    batch = [Call("repeat", {"text": "a"}), Call("nothing", {}), Malformed("{", "broken"), Call("repeat", {})]
    results = tools.execute(batch) + tools.execute(batch)
    kinds = [Status.OK, Status.UNKNOWN_TOOL, Status.MALFORMED, Status.INVALID_ARGUMENTS]
    assert [result.status for result in results] == kinds * 2
    assert len({result.call_id for result in results}) == 8
    assert [result.name for result in results[:4]] == ["repeat", "nothing", "unknown", "repeat"]
    assert tools.execute([]) == []


def test_a_child_that_takes_too_long_is_killed_with_its_children(tmp_path: Path):
    lock = tmp_path / "lock"
    (result,) = ToolOrchestrator([toolshed.hold.bind(path=str(lock))]).execute([Call("hold", {})])
    assert (result.status, result.output) == (Status.TIMEOUT, "took too long")
    assert lock.read_text() == "held"
    assert toolshed.is_soon(lambda: toolshed.is_free(lock))


def test_a_thread_that_takes_too_long_is_left_behind():
    over = threading.Event()

    @tool(timeout_s=0.2, bounded=True)
    def wait() -> str:
        """Wait."""
        return str(over.wait(60))

    (result,) = ToolOrchestrator([wait]).execute([Call("wait", {})])
    over.set()
    assert result.status is Status.TIMEOUT


def test_the_deadline_cuts_a_tools_own_time():
    tools = ToolOrchestrator([toolshed.peek])
    (early,) = tools.execute([Call("peek", {})], time.monotonic() + 60)
    (late,) = tools.execute([Call("peek", {})], time.monotonic() - 5)
    assert (early.status, late.status) == (Status.OK, Status.TIMEOUT)


@pytest.mark.parametrize(
    ("how", "output", "detail"),
    [
        ("refuse", "there is no such thing", ""),
        ("raise", "the tool failed", "RuntimeError"),
        ("leave", "the tool failed", "died"),
        ("die", "the tool failed", "died"),
    ],
)
def test_a_failed_child_says_only_what_it_means_to_say(how: str, output: str, detail: str):
    (result,) = ToolOrchestrator([toolshed.fail]).execute([Call("fail", {"how": how})])
    assert (result.status, result.output) == (Status.FAILED, output)
    assert detail in result.detail
    assert "1234" not in result.output + str(result.message())


@pytest.mark.parametrize(
    ("error", "output"),
    [(ToolError("no"), "no"), (KeyError("secret"), "the tool failed"), (SystemExit(3), "the tool ended early")],
)
def test_a_failed_thread_says_only_what_it_means_to_say(error: BaseException, output: str):
    @tool(bounded=True)
    def burst() -> str:
        """Burst."""
        raise error

    (result,) = ToolOrchestrator([burst]).execute([Call("burst", {})])
    assert (result.status, result.output) == (Status.FAILED, output)


@pytest.mark.parametrize("length", [100, 101, 5000])
def test_long_output_keeps_its_head_and_tail(length: int):
    text = "".join(chr(ord("a") + n % 26) for n in range(length))
    (result,) = ToolOrchestrator([repeat], max_output_chars=100).execute([Call("repeat", {"text": text})])
    if length == 100:
        assert result.output == text
    else:
        head, _, tail = result.output.partition(f" ... {length - 100} more characters ... ")
        assert len(result.output) == 100
        assert text.startswith(head)
        assert text.endswith(tail)
        assert len(head) > len(tail) > 10


def test_a_cap_below_the_mark_cuts():
    (result,) = ToolOrchestrator([repeat], max_output_chars=7).execute([Call("repeat", {"text": "0123456789"})])
    assert result.output == "0123456"


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ({"text": 84, "times": "2"}, {"text": "84", "times": 2}),
        ({"text": 1.5, "times": "1.5"}, {"text": "1.5", "times": 1.5}),
        ({"text": True, "times": "two"}, {"text": True, "times": "two"}),
        ({"text": None, "times": "true"}, {"text": None, "times": "true"}),
        ({"other": "1"}, {"other": "1"}),
    ],
)
def test_harmless_slips_of_type_are_put_right_and_others_are_not(given, kept):
    coerced = coerce(given, repeat.parameters)
    assert coerced == kept
    assert [type(value) for value in coerced.values()] == [type(value) for value in kept.values()]


@pytest.mark.parametrize(
    "arguments", [{}, {"text": "a", "times": "x"}, {"text": ["a"]}, {"text": "a", "max_output_chars": 1}]
)
def test_wrong_arguments_do_not_run_and_the_model_reads_what_is_needed(arguments):
    (result,) = ToolOrchestrator([repeat]).execute([Call("repeat", arguments)])
    assert result.status is Status.INVALID_ARGUMENTS
    assert result.output.endswith("Needs {text: string, times: integer}")


def test_settings_are_the_hosts_alone(tmp_path: Path):
    tools = ToolOrchestrator([toolshed.fill.bind(path=str(tmp_path / "a"))])
    (result,) = tools.execute([Call("fill", {"size": 1, "path": str(tmp_path / "b")})])
    assert result.status is Status.INVALID_ARGUMENTS
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(ValueError, match="no setting 'size'"):
        toolshed.fill.bind(size=3)


def test_after_something_private_is_read_nothing_is_sent_unasked():
    peek, send = Call("peek", {}), Call("send", {"text": "a"})
    asked: list[tuple[str, Call]] = []

    def approve(tool: Tool, call: Call, reason: str) -> bool:
        assert reason == "private data has been read"
        asked.append((tool.name, call))
        return call.arguments["text"] == "b"

    def statuses(tools: ToolOrchestrator, *wanted: Call) -> list[Status]:
        return [result.status for result in tools.execute(wanted)]

    shed = [toolshed.peek, toolshed.send]
    assert statuses(ToolOrchestrator(shed), send, peek, send) == [Status.OK, Status.OK, Status.DENIED]
    tools = ToolOrchestrator(shed, approve=approve)
    assert statuses(tools, peek, send, Call("send", {"text": "b"})) == [Status.OK, Status.DENIED, Status.OK]
    assert [name for name, _ in asked] == ["send", "send"]


def test_effects_that_need_approval_are_asked_for_each_time():
    careful = ToolOrchestrator([toolshed.peek, repeat], ask_for=frozenset({Effect.READS}))
    results = careful.execute([Call("peek", {}), Call("repeat", {"text": "a"})])
    assert [(result.status, result.output) for result in results] == [(Status.DENIED, "not allowed"), (Status.OK, "a")]


def test_two_tools_of_one_name_are_refused():
    with pytest.raises(AssertionError, match="two tools have one name"):
        ToolOrchestrator([repeat, repeat])


def test_a_tool_is_described_by_its_signature_and_first_paragraph():
    @tool(bounded=True)
    def all_kinds(a: str, b: int, c: float, d: bool, e: dict, f: list[str], g: Literal["x", "y"] = "x") -> str:
        """Take
        all kinds."""
        return ""

    kinds = ["string", "integer", "number", "boolean", "object"]
    schema = all_kinds.schema()["function"]
    assert (schema["name"], schema["description"]) == ("all_kinds", "Take all kinds.")
    assert [schema["parameters"]["properties"][name] for name in "abcde"] == [{"type": kind} for kind in kinds]
    assert schema["parameters"]["properties"]["f"] == {"type": "array", "items": {"type": "string"}}
    assert schema["parameters"]["properties"]["g"] == {"enum": ["x", "y"]}
    assert schema["parameters"]["required"] == list("abcdef")
    assert repeat.description == "Repeat a text."


def undocumented(a: str) -> str:
    return a


def untyped(a) -> str:
    """No type."""


def strange(a: set[str]) -> str:
    """No JSON type."""


def greedy(*a: str) -> str:
    """No fixed number."""


@pytest.mark.parametrize(
    ("function", "said"),
    [(undocumented, "docstring"), (untyped, "needs a type"), (strange, "no JSON type"), (greedy, "needs a type")],
)
def test_what_cannot_be_described_is_refused(function, said: str):
    with pytest.raises(ValueError, match=f"tool {function.__name__}: .*{said}"):
        tool()(function)


def test_a_tool_must_be_found_by_a_child_process_and_bounded_ones_have_no_effects():
    def hidden() -> str:
        """Hide."""
        return ""

    for effects in (["reads"], []):
        with pytest.raises(ValueError, match="at the top of a module"):
            tool(effects=effects)(hidden)
    with pytest.raises(ValueError, match="cannot be bounded"):
        tool(effects=["reads"], bounded=True)(hidden)
