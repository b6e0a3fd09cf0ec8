"""An endpoint that is busy, gone, silent or wrong: retries, deadlines, and one clear line for whatever is left."""

import json
import math
import time
from typing import Any

import pytest

from mantus.agent.llm import EndpointError, MantusLLM, OutOfTime
from tests.agent.endpoint import Answer, Endpoint, chunk, event, refuses, says, whole

HELLO = [{"role": "user", "content": "hello"}]


def is_one_line(error: BaseException) -> bool:
    return bool(str(error)) and len(str(error).splitlines()) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_busy_endpoint_is_asked_again(endpoint: Endpoint, llm: MantusLLM, status: int):
    endpoint.then(refuses(status, Retry_After="0"), says("now"))
    assert whole(llm.stream(HELLO))[1].text == "now"
    assert len(endpoint.requests) == 2


def test_the_wait_is_what_the_endpoint_asks_for(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(refuses(429, Retry_After="1"), says("now"))
    start = time.monotonic()
    whole(llm.stream(HELLO))
    assert time.monotonic() - start >= 1


def test_an_endpoint_that_stays_busy_is_given_up(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(*[refuses(503, "all slots\nare taken")] * 3)
    with pytest.raises(EndpointError, match=r"refused \(503\): all slots are taken"):
        whole(llm.stream(HELLO))
    assert len(endpoint.requests) == 2


def test_a_wait_beyond_the_deadline_is_not_begun(endpoint: Endpoint, llm: MantusLLM):
    endpoint.then(refuses(429, Retry_After="60"), says("too late"))
    start = time.monotonic()
    with pytest.raises(OutOfTime):
        whole(llm.stream(HELLO, deadline=start + 2))
    assert time.monotonic() - start < 50
    assert len(endpoint.requests) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (refuses(400, "messages: too\nlong"), "refused (400): messages: too long"),
        (Answer(["<html>\n", "gone"], 404), "refused (404): <html> gone"),
        (Answer(["[1]"], 500), "refused (500): [1]"),
        (Answer([chunk({"content": "a"})], end="early"), "broke off"),
        (Answer([chunk({"content": "a"})], end="cut"), "broke off"),
        (Answer([event({"error": {"message": "out of\nmemory"}})]), "failed: out of memory"),
        (Answer([event({"error": "bad"})]), "failed: bad"),
        (Answer(["data: {not json"]), "not JSON"),
        (Answer(["data: " + "[" * 5000]), "not JSON"),
        (Answer([event([1])]), "not an object"),
        *((Answer([event({"choices": wrong})]), "no chunk") for wrong in ([None], [1], 7, [{"delta": "x"}])),
        (Answer([chunk({"content": ["x"]})]), "no chunk"),
        (Answer([chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}]})]), "no chunk"),
        (Answer([event({"usage": {"prompt_tokens": "many"}})]), "no chunk"),
    ],
)
def test_what_the_endpoint_does_wrong_is_one_line(endpoint: Endpoint, llm: MantusLLM, answer: Answer, said: str):
    endpoint.then(answer, says("not asked again"))
    with pytest.raises(EndpointError) as caught:
        whole(llm.stream(HELLO))
    assert said in str(caught.value)
    assert is_one_line(caught.value)
    assert len(endpoint.requests) == 1


def test_nobody_there_is_one_line(closed: str):
    client = MantusLLM(closed, attempts=2)
    for ask in (client.models, lambda: whole(client.stream(HELLO))):
        with pytest.raises(EndpointError, match="no server at") as caught:
            ask()
        assert is_one_line(caught.value)
    client.close()


SILENT = {
    "after some text": says("a", end="silent"),
    "at once": Answer(end="silent"),
    "but for lines that keep alive": Answer([": ping"] * 5000, pause_s=0.02),
    "but for text without end": says(*["a"] * 5000, pause_s=0.02),
}


@pytest.mark.parametrize("how", SILENT)
def test_the_deadline_ends_a_reply_that_does_not(endpoint: Endpoint, llm: MantusLLM, how: str):
    endpoint.then(SILENT[how])
    start = time.monotonic()
    with pytest.raises(OutOfTime):
        whole(llm.stream(HELLO, deadline=start + 0.5))
    assert 0.5 <= time.monotonic() - start < 50


def test_the_deadline_holds_while_the_models_are_listed(endpoint: Endpoint, llm: MantusLLM):
    endpoint.listing_is_silent = True
    with pytest.raises(OutOfTime):
        whole(llm.stream(HELLO, deadline=time.monotonic() + 0.3))


def test_long_silence_without_a_deadline_is_said(endpoint: Endpoint):
    client = MantusLLM(endpoint.url, timeout_s=1.5)
    endpoint.then(says("a", end="silent"))
    with pytest.raises(EndpointError, match="gone silent"):
        whole(client.stream(HELLO, deadline=math.inf))
    client.close()


@pytest.mark.parametrize("listed", [{}, [], "hello", {"data": None}, {"data": ["a"]}, {"data": 3}], ids=json.dumps)
def test_what_is_no_list_of_models_is_said(endpoint: Endpoint, llm: MantusLLM, listed: Any):
    endpoint.listed = listed
    with pytest.raises(EndpointError, match="no OpenAI-compatible endpoint"):
        llm.models()


@pytest.mark.parametrize(
    "url", ["", "127.0.0.1:8080", "ftp://127.0.0.1/v1", "http:///v1", "http://127.0.0.1:8a/v1", "http://[::1"]
)
def test_what_is_no_url_is_refused_at_once(url: str):
    with pytest.raises(ValueError, match="expected a URL such as"):
        MantusLLM(url)
