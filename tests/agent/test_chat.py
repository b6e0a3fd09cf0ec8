"""The terminal: what is printed, and `mantus agent` as a program against a real server and against none."""

import io
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest

from mantus.agent.chat import SHOWN_CHARS, TalkConfig, brief, printable, show, talk
from mantus.agent.llm import EndpointError, Usage
from mantus.agent.loop import Called, Event, Returned, Stopped, StopReason, Text
from mantus.agent.orchestrator import Result
from mantus.agent.tools import Status
from mantus.text.calls import Call, Malformed
from tests.agent.endpoint import Answer, Endpoint, calls, refuses, says
from tests.agent.mcp_shed import ECHO, Open

ADD = Call("calculator", {"expression": "12 * 7"})
DONE = Stopped(StopReason.DONE, "84", Usage())


def result(output: str, status: Status = Status.OK) -> Result:
    return Result("call_1", "calculator", {}, status, output)


def shown(*events: Event) -> str:
    out = io.StringIO()
    assert show(iter(events), out) is events[-1]
    return out.getvalue()


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("a\tb\nc", "a\tb\nc"),
        ("\x1b[31mred\x1b[0m", "[31mred[0m"),
        ("\x1b]0;title\x07", "]0;title"),
        ("a\rb\bc\x00d\x7fe", "abcde"),
        ("\x9b31m", "31m"),
        ("\u202eabc\u2066", "abc"),
        ("\ud83d", ""),
        ("caf\u00e9 \u4f60 \U0001f405", "caf\u00e9 \u4f60 \U0001f405"),
    ],
)
def test_control_characters_do_not_reach_the_terminal(text: str, left: str):
    assert printable(text) == left
    assert shown(Text(text), DONE).rstrip("\n") == left
    assert left.strip() in shown(Stopped(StopReason.ENDPOINT, "", Usage(), text))
    assert "\x1b" not in brief(Call(text, {text: text})) + shown(Returned(result(text)), DONE)


def test_events_are_printed_as_they_happen():
    events = [Text("I add."), Called(ADD), Returned(result("84")), Text(" It"), Text(" is 84."), DONE]
    assert shown(*events) == "I add.\n  calculator(expression='12 * 7')\n  -> 84\nIt is 84.\n"


@pytest.mark.parametrize(
    ("events", "printed"),
    [
        ([DONE], ""),
        ([Text("84\n"), DONE], "84\n"),
        ([Text("\n "), Text(" 84"), DONE], "84\n"),
        ([Stopped(StopReason.DONE, "", Usage())], "(no answer)\n"),
        ([Text("so"), Stopped(StopReason.TURN_LIMIT, "so", Usage())], "so\n(turn limit)\n"),
        ([Stopped(StopReason.ENDPOINT, "", Usage(), "gone")], "(gone)\n"),
        ([Called(Malformed("{", "broken")), DONE], "  malformed call (broken)\n"),
        ([Returned(result("a\n b", Status.FAILED)), DONE], "  -> failed: a b\n"),
    ],
)
def test_each_event_has_its_line(events: list[Event], printed: str):
    assert shown(*events) == printed


def test_lines_keep_their_indentation_however_the_text_is_cut():
    code = "def f():\n    return 1\n\n\n    # end"
    for size in (1, 3, 9, 99):
        pieces = [Text(code[start : start + size]) for start in range(0, len(code), size)]
        assert shown(*pieces, DONE) == code + "\n"


def test_long_calls_and_results_are_cut():
    long = "x" * 1000
    assert len(brief(Call("f", {"a": long}))) == SHOWN_CHARS
    assert shown(Returned(result(long)), DONE) == f"  {('-> ' + long)[: SHOWN_CHARS - 3]}...\n"


def mantus(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """`mantus agent`, as a program in a folder of its own."""
    command = [sys.executable, "-m", "mantus.cli", "agent", *words]
    environment = {**os.environ, "MANTUS_CACHE": str(folder / "cache"), **environment}
    standard = {"stdin": subprocess.DEVNULL, "capture_output": True, "text": True}
    return subprocess.run(command, cwd=folder, env=environment, timeout=60, **standard)


def test_one_question_is_answered_with_tools(endpoint: Endpoint, index: Path, tmp_path: Path):
    endpoint.then(
        calls(("search", {"query": "blue stars"}), ("file_write", {"path": "a.txt", "content": "hot"})),
        says("Blue stars are hot."),
    )
    done = mantus(
        tmp_path, "--endpoint", endpoint.url, "--index", str(index), "--transcript", "t.jsonl", "which", "stars?"
    )
    assert (done.returncode, done.stderr) == (0, "")
    first, second, found, written, answer = done.stdout.splitlines()
    assert first == "  search(query='blue stars')"
    assert second == "  file_write(path='a.txt', content='hot')"
    assert "Blue stars are hotter" in found
    assert written == "  -> wrote 3 characters to a.txt"
    assert answer == "Blue stars are hot."
    assert (tmp_path / ".mantus" / "agent" / "a.txt").read_text() == "hot"
    (row,) = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert (row["stop"], row["answer"], row["messages"]) == (
        "done",
        "Blue stars are hot.",
        [*endpoint.requests[1]["messages"], {"role": "assistant", "content": "Blue stars are hot."}],
    )
    assert row["messages"][0] == {"role": "user", "content": "which stars?"}


def test_nobody_there_is_one_line_and_exit_1(closed: str, tmp_path: Path):
    done = mantus(tmp_path, "--endpoint", closed, "hello")
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("mantus: no server at ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--model missing", "--model missing: the endpoint has scripted, other"),
        ("--index .", "--index .: no search index"),
        ("--endpoint http://127.0.0.1:8a/v1", "endpoint 'http://127.0.0.1:8a/v1': expected a URL"),
        ("--endpoint localhost", "endpoint 'localhost': expected a URL"),
    ],
)
def test_wrong_input_is_one_line_and_exit_2(endpoint: Endpoint, tmp_path: Path, words: str, said: str):
    done = mantus(tmp_path, "--endpoint", endpoint.url, *words.split(), "hello")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"mantus: {said}")


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (refuses(400, "no \x1b[31m room"), "(the endpoint refused (400): no [31m room)\n"),
        (says("It is eigh", finish_reason="length"), "It is eigh\n(length)\n"),
        (Answer(["data: {"]), "(the endpoint sent an event that is not JSON)\n"),
    ],
)
def test_without_an_answer_the_exit_code_is_1(endpoint: Endpoint, tmp_path: Path, capsys, answer: Answer, printed: str):
    endpoint.then(answer)
    assert talk(TalkConfig(endpoint=endpoint.url, folder=str(tmp_path), question="hello")) == 1
    assert capsys.readouterr().out == printed


def test_an_endpoint_without_models_is_refused(endpoint: Endpoint, tmp_path: Path):
    endpoint.listed = {"data": []}
    with pytest.raises(EndpointError, match="lists no model"):
        talk(TalkConfig(endpoint=endpoint.url, folder=str(tmp_path)))


@pytest.mark.parametrize("remember", [False, True])
def test_a_conversation_at_a_terminal_ends_with_ctrl_d(endpoint: Endpoint, tmp_path: Path, remember: bool):
    endpoint.then(says("First."), says("Second \ud83d."))
    command = [sys.executable, "-m", "mantus.cli", "agent", "--endpoint", endpoint.url, "--transcript", "t.jsonl"]
    ours, theirs = pty.openpty()
    standard = {"stdin": theirs, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([*command, *["--remember"] * remember], cwd=tmp_path, **standard) as program:
        os.write(ours, b"one\n\ntwo\n\x04")
        printed, _ = program.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert program.returncode == 0
    assert printed.startswith(f"mantus agent: scripted at {endpoint.url}")
    assert printed.index("First.") < printed.index("Second .")
    asked = [[message["content"] for message in request["messages"]] for request in endpoint.requests]
    assert asked == [["one"], ["one", "First.", "two"] if remember else ["two"]]
    answers = [json.loads(line)["answer"] for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    assert answers == ["First.", "Second ?."]


def test_a_person_at_the_terminal_is_asked_and_only_yes_is_yes(endpoint: Endpoint, shed: Open, tmp_path: Path):
    shed(ECHO)
    echo = ("shed__echo", {"text": "a"})
    endpoint.then(calls(echo), calls(("shed__echo", {"text": "b"}), ("shed__echo", {"text": "c"})), says("Done."))
    words = ["--endpoint", endpoint.url, "--mcp", "servers.json", "--transcript", "t.jsonl"]
    ours, theirs = pty.openpty()
    standard = {"stdin": theirs, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    command = [sys.executable, "-m", "mantus.cli", "agent", *words]
    with subprocess.Popen(command, cwd=tmp_path, **standard) as program:
        os.write(ours, b"go\nmaybe\ny\n\x04")
        printed, _ = program.communicate(timeout=60)
    os.close(ours)
    os.close(theirs)
    assert program.returncode == 0, printed
    assert "allow shed__echo(text='b')? text from the network has been read [y/N]" in printed
    (row,) = [json.loads(line) for line in (tmp_path / "t.jsonl").read_text().splitlines()]
    told = [message["content"] for message in row["messages"] if message["role"] == "tool"]
    assert told == ["a\n[image]", "not allowed", "c\n[image]"]
    assert (row["stop"], row["answer"]) == ("done", "Done.")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("--tools calculator,fly", "--tools calculator,fly: no tool 'fly'; there are calculator, search"),
        ("--tools web_search", "--tools web_search: tool 'web_search' needs the address of a search service"),
        ("--pin", "--pin: give the servers' file with --mcp"),
        ("--mcp none.json", "none.json: expected JSON such as"),
    ],
)
def test_wrong_tools_are_named(endpoint: Endpoint, tmp_path: Path, words: str, said: str):
    done = mantus(tmp_path, "--endpoint", endpoint.url, *words.split(), "hello")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith(f"mantus: {said}")
