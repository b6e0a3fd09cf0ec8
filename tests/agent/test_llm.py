"""The client of an endpoint: what it sends, and how it reads a stream of text, calls and counts."""

from typing import Any

import pytest

from mantus.agent.llm import EndpointError, MantusLLM, Reply, Usage
from mantus.text.calls import Call, Malformed
from tests.agent.endpoint import Answer, Endpoint, calls, chunk, counted, event, says, whole

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "add", "description": "Add.", "parameters": {"type": "object"}}}


def test_text_comes_in_the_pieces_that_the_endpoint_sends(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says("Hel", "lo <", "b>", usage=(7, 3)))
    pieces, reply = whole(llm.stream(HELLO))
    assert "".join(pieces) == reply.text == "Hello <b>"
    assert pieces[0] == "Hel"
    assert (reply.calls, reply.usage, reply.finish_reason) == ([], Usage(7, 3), "stop")
    assert reply.usage.total == 10


def test_text_is_seen_before_the_reply_is_over(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says("early", end="silent"))
    stream = llm.stream(HELLO)
    assert next(stream) == "early"
    stream.close()


def test_closing_the_stream_hangs_up(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says(*["word "] * 2000, pause_s=0.01))
    stream = llm.stream(HELLO)
    next(stream)
    stream.close()
    assert endpoint.hung_up.wait(10)


def test_the_request_is_openais_and_takes_the_first_model(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says("a"), says("b"))
    whole(llm.stream(HELLO))
    assert endpoint.requests[0] == {
        "model": "scripted",
        "messages": HELLO,
        "max_tokens": 256,
        "temperature": 0.0,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    named = MantusLLM(endpoint.url, model="other", max_tokens=5, temperature=0.5)
    whole(named.stream(HELLO))
    named.close()
    assert {"model": "other", "max_tokens": 5, "temperature": 0.5}.items() <= endpoint.requests[1].items()


NAMED = {"type": "function", "function": {"name": "add"}}


@pytest.mark.parametrize(
    ("choice", "sent"), [("auto", "auto"), ("none", "none"), ("required", "required"), ("add", NAMED)]
)
def test_the_choice_of_tools_is_sent(endpoint: Endpoint, llm: MantusLLM, choice: str, sent: Any):
    endpoint.then(says("a"))
    whole(llm.stream(HELLO, [TOOL], choice))
    assert endpoint.requests[0]["tools"] == [TOOL]
    assert endpoint.requests[0]["tool_choice"] == sent


def test_the_key_comes_from_the_environment_and_no_proxy_is_asked_for_this_machine(
    endpoint: Endpoint, closed: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MANTUS_API_KEY", "from-outside")
    monkeypatch.setenv("HTTP_PROXY", closed)
    monkeypatch.setenv("http_proxy", closed)
    endpoint.then(says("a"), says("b"))
    for key in ("", "given"):
        client = MantusLLM(endpoint.url, api_key=key, attempts=1)
        whole(client.stream(HELLO))
        client.close()
    assert [headers["Authorization"] for headers in endpoint.headers] == ["Bearer from-outside", "Bearer given"]


def test_calls_are_put_together_from_deltas(endpoint: Endpoint, llm: MantusLLM):
    def part(index: int, **function: str) -> str:
        return chunk({"tool_calls": [{"index": index, "function": function}]})

    lines = [
        part(1, name="second", arguments='{"b"'),
        part(0, name="first", arguments=""),
        part(1, arguments=": 2}"),
        part(0, arguments='{"a": "<tool_call>"}'),
    ]
    endpoint.then(Answer([*lines, chunk({}, "tool_calls")]))
    pieces, reply = whole(llm.stream(HELLO))
    assert (pieces, reply.text) == ([], "")
    assert reply.calls == [Call("first", {"a": "<tool_call>"}), Call("second", {"b": 2})]
    assert reply.finish_reason == "tool_calls"


@pytest.mark.parametrize(
    ("name", "arguments", "reason"),
    [("add", '{"a": ', "not valid JSON"), ("add", "[1]", "not an object"), ("", "{}", "no name")],
)
def test_a_broken_call_in_deltas_is_malformed(endpoint: Endpoint, llm: MantusLLM, name, arguments, reason):
    endpoint.then(calls((name, arguments)))
    (call,) = whole(llm.stream(HELLO))[1].calls
    assert isinstance(call, Malformed)
    assert reason in call.reason


def test_calls_are_read_from_text_and_are_not_shown(endpoint: Endpoint, llm: MantusLLM):
    text = 'I add. <tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call> Then'
    endpoint.then(says(*text), says("<tool_call>{oops</tool_call>"))
    pieces, reply = whole(llm.stream(HELLO))
    assert "".join(pieces) == reply.text == "I add.  Then"
    assert reply.calls == [Call("add", {"a": 1})]
    (call,) = whole(llm.stream(HELLO))[1].calls
    assert isinstance(call, Malformed)


def test_calls_in_deltas_count_before_those_in_text(endpoint: Endpoint, llm: MantusLLM):
    written = chunk({"content": '<tool_call>{"name": "written", "arguments": {}}</tool_call>'})
    endpoint.then(Answer([written, *calls(("native", {})).lines]))
    assert whole(llm.stream(HELLO))[1].calls == [Call("native", {})]


LITERALS = {
    "set": "{1, 2}",
    "bytes": "b'x'",
    "key of a number": "{1: 2}",
    "key of a tuple": "{(1, 2): 3}",
    "number too long to print": "0x" + "f" * 9999,
    "nested": "[" * 50 + "]" * 50,
}


@pytest.mark.parametrize("kind", LITERALS)
def test_arguments_that_json_lacks_are_malformed(endpoint: Endpoint, llm: MantusLLM, kind: str):
    endpoint.then(says(f"<tool_call>{{'name': 'add', 'arguments': {{'a': {LITERALS[kind]}}}}}</tool_call>"))
    (call,) = whole(llm.stream(HELLO))[1].calls
    assert isinstance(call, Malformed)


def test_what_an_endpoint_may_leave_out_or_add_is_accepted(endpoint: Endpoint, llm: MantusLLM):
    lines = [
        ": keep alive",
        "event: message",
        "data:",
        event({"choices": None, "usage": None}),
        event({"choices": [{}]}),
        chunk({"content": None, "tool_calls": None}),
        chunk({"content": "fine"}, "stop"),
        counted(4, 0),
    ]
    endpoint.then(Answer(lines))
    assert whole(llm.stream(HELLO))[1] == Reply("fine", [], Usage(4, 0), "stop")


def test_half_a_character_is_sent_as_a_question_mark(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(says("a"))
    whole(llm.stream([{"role": "user", "content": "\ud83d caf\u00e9"}]))
    assert endpoint.requests[0]["messages"] == [{"role": "user", "content": "? caf\u00e9"}]


def test_models_are_listed(endpoint: Endpoint, llm: MantusLLM):
    assert [entry["id"] for entry in llm.models()] == ["scripted", "other"]
    endpoint.listed = {"data": []}
    with pytest.raises(EndpointError, match="lists no model"):
        whole(llm.stream(HELLO))
