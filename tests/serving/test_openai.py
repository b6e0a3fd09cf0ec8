"""Every field of the API through OpenAI's own client, whole and streamed."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from mantus.serving.local import served
from mantus.storage import fetch
from mantus.text.calls import Call, check_call
from tests.serving.test_serving import HELLO, TOOL

OTHER: dict[str, Any] = {
    "type": "function",
    "function": {"name": "now", "parameters": {"type": "object", "properties": {"zone": {"enum": ["UTC", "CET"]}}}},
}
SCHEMA = {
    "type": "object",
    "properties": {"mood": {"enum": ["good", "bad"]}, "count": {"type": "integer"}},
    "required": ["mood", "count"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def chat(client: openai.OpenAI, stream: bool, **fields: Any) -> list[dict[str, Any]]:
    """The choices of a reply, put together from its chunks when streamed: content, calls, tokens, finish, usage."""
    asked = {"model": "mantus", "messages": HELLO, "max_tokens": 12, "temperature": 0, **fields}
    if not stream:
        done = client.chat.completions.create(**asked)
        return [
            {
                "content": one.message.content or "",
                "calls": [(call.function.name, call.function.arguments) for call in one.message.tool_calls or ()],
                "tokens": list(one.logprobs.content) if one.logprobs else None,
                "finish": one.finish_reason,
                "usage": done.usage,
            }
            for one in done.choices
        ]
    found: dict[int, dict[str, Any]] = {}
    chunks = list(client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        for one in chunk.choices:
            part = found.setdefault(one.index, {"content": "", "calls": [], "tokens": None, "finish": None})
            part["content"] += one.delta.content or ""
            part["calls"] += [(call.function.name, call.function.arguments) for call in one.delta.tool_calls or ()]
            if one.logprobs:
                part["tokens"] = [*(part["tokens"] or []), *one.logprobs.content]
            part["finish"] = one.finish_reason or part["finish"]
    return [{**found[index], "usage": chunks[-1].usage} for index in sorted(found)]


both = pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])


@both
def test_stop_cuts_and_is_not_shown(client: openai.OpenAI, stream: bool):
    (free,) = chat(client, stream, max_tokens=40)
    word = free["content"][6:9]
    (cut,) = chat(client, stream, max_tokens=40, stop=word)
    assert (cut["content"], cut["finish"]) == (free["content"][: free["content"].index(word)], "stop")
    (listed,) = chat(client, stream, max_tokens=40, stop=["never said", word])
    assert listed["content"] == cut["content"]


@both
def test_seeds_and_n(client: openai.OpenAI, stream: bool):
    def sampled(seed: int, n: int = 1) -> list[str]:
        return [one["content"] for one in chat(client, stream, temperature=1.5, seed=seed, n=n, max_tokens=16)]

    assert sampled(1) == sampled(1)
    assert sampled(1) != sampled(2)
    three = sampled(1, n=3)
    assert three[0] == sampled(1)[0]
    assert len(set(three)) > 1


@both
def test_n_counts_all_tokens(client: openai.OpenAI, stream: bool):
    choices = chat(client, stream, n=3, max_tokens=5)
    assert len(choices) == 3
    assert choices[0]["usage"].completion_tokens == 15
    assert {one["finish"] for one in choices} == {"length"}


@both
@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
def test_limits_of_tokens(client: openai.OpenAI, stream: bool, name: str):
    (one,) = chat(client, stream, **{"max_tokens": None, name: 3})
    assert (one["usage"].completion_tokens, one["finish"]) == (3, "length")
    assert one["usage"].total_tokens == one["usage"].prompt_tokens + 3


@both
def test_logprobs_spell_the_reply(client: openai.OpenAI, stream: bool):
    (one,) = chat(client, stream, logprobs=True)
    spelt = b"".join(bytes(token.bytes) for token in one["tokens"])
    assert spelt.decode() == one["content"]
    assert all(token.logprob <= 0.001 for token in one["tokens"])
    (without,) = chat(client, stream)
    assert without["tokens"] is None


@both
@pytest.mark.parametrize("fields", [{"top_p": 1e-6, "temperature": 1}, {"extra_body": {"top_k": 1}, "temperature": 1}])
def test_narrow_sampling(client: openai.OpenAI, stream: bool, fields: dict[str, Any]):
    assert chat(client, stream, **fields)[0]["content"] == chat(client, stream)[0]["content"]


@both
def test_penalties_change_a_repetitive_reply(client: openai.OpenAI, stream: bool):
    plain = chat(client, stream, max_tokens=60)[0]["content"]
    assert chat(client, stream, max_tokens=60, frequency_penalty=2, presence_penalty=2)[0]["content"] != plain


@both
def test_a_schema_is_kept(client: openai.OpenAI, stream: bool):
    wanted = {"type": "json_schema", "json_schema": {"name": "mood", "schema": SCHEMA, "strict": True}}
    for seed in range(3):
        (one,) = chat(client, stream, response_format=wanted, temperature=1.5, seed=seed, max_tokens=80)
        assert set(json.loads(one["content"])) == {"mood", "count"}


@both
def test_any_object_is_json(client: openai.OpenAI, stream: bool):
    (one,) = chat(client, stream, response_format={"type": "json_object"}, max_tokens=400, temperature=1.2, seed=5)
    if one["finish"] == "stop":
        assert isinstance(json.loads(one["content"]), dict)
    else:
        assert one["content"].startswith("{")
    assert chat(client, stream, response_format={"type": "text"})[0]["content"] == chat(client, stream)[0]["content"]


@both
@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "now"}}])
def test_calls_that_must_be(client: openai.OpenAI, stream: bool, choice: Any):
    for seed in range(3):
        (one,) = chat(
            client, stream, tools=[TOOL, OTHER], tool_choice=choice, temperature=1.5, seed=seed, max_tokens=300
        )
        assert one["calls"]
        for name, arguments in one["calls"]:
            assert check_call(Call(name, json.loads(arguments)), [TOOL, OTHER]) == ""
            assert choice == "required" or name == "now"
        assert one["finish"] in ("tool_calls", "length")


@both
def test_parallel_calls_are_allowed_or_not(client: openai.OpenAI, stream: bool):
    def counts(parallel: bool) -> set[int]:
        return {
            len(
                chat(
                    client,
                    stream,
                    tools=[OTHER],
                    tool_choice="required",
                    parallel_tool_calls=parallel,
                    temperature=2,
                    seed=seed,
                    max_tokens=200,
                )[0]["calls"]
            )
            for seed in range(6)
        }

    assert counts(False) == {1}
    assert max(counts(True)) > 1


@both
def test_calls_that_must_not_be(client: openai.OpenAI, stream: bool):
    (none,) = chat(client, stream, tools=[TOOL], tool_choice="none")
    assert none["content"] == chat(client, stream)[0]["content"]  # not even shown to the model
    (auto,) = chat(client, stream, tools=[TOOL], tool_choice="auto", max_tokens=20)
    assert all(check_call(Call(name, json.loads(arguments)), [TOOL]) == "" for name, arguments in auto["calls"])


@both
def test_a_history_of_calls_is_read(client: openai.OpenAI, stream: bool):
    history = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "What is 1 + 2?"}]},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1, "b": 2}'}}
            ],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "3"},
    ]
    (one,) = chat(client, stream, messages=history, tools=[TOOL])
    assert one["usage"].prompt_tokens > chat(client, stream)[0]["usage"].prompt_tokens


def complete(client: openai.OpenAI, stream: bool, **fields: Any) -> list[dict[str, Any]]:
    """The choices of a plain completion: text, logprobs' lists, finish, usage."""
    asked = {"model": "mantus", "prompt": "It was a bright", "max_tokens": 8, "temperature": 0, **fields}
    if not stream:
        done = client.completions.create(**asked)
        return [
            {
                "text": one.text,
                "logprobs": one.logprobs.model_dump() if one.logprobs else None,
                "finish": one.finish_reason,
                "usage": done.usage,
            }
            for one in sorted(done.choices, key=lambda one: one.index)
        ]
    found: dict[int, dict[str, Any]] = {}
    chunks = list(client.completions.create(**asked, stream=True, stream_options={"include_usage": True}))
    for chunk in chunks:
        for one in chunk.choices:
            part = found.setdefault(one.index, {"text": "", "logprobs": None, "finish": None})
            part["text"] += one.text
            if one.logprobs:
                new = one.logprobs.model_dump()
                old = part["logprobs"] or {name: [] for name in new}
                part["logprobs"] = {name: old[name] + new[name] for name in new}
            part["finish"] = one.finish_reason or part["finish"]
    return [{**found[index], "usage": chunks[-1].usage} for index in sorted(found)]


@both
def test_prompts_of_every_kind(client: openai.OpenAI, url: str, stream: bool):
    text = "It was a bright"
    ids = httpx.post(f"{url}/tokenize", json={"prompt": text}).json()["tokens"]
    (expected,) = complete(client, stream)
    for prompt in (ids, [text], [ids]):
        assert complete(client, stream, prompt=prompt)[0]["text"] == expected["text"]
    several = complete(client, stream, prompt=[text, "The man went", text], n=2)
    assert [one["text"] for one in several[:2]] == [expected["text"]] * 2
    assert several[4]["text"] == expected["text"] != several[2]["text"]
    assert several[0]["usage"].completion_tokens == 6 * 8


@both
def test_echo_and_logprobs_of_completions(client: openai.OpenAI, stream: bool):
    (one,) = complete(client, stream, echo=True, logprobs=3)
    lists = one["logprobs"]
    assert one["text"].startswith("It was a bright")
    assert "".join(lists["tokens"]).startswith(one["text"])
    assert lists["token_logprobs"][0] is None
    assert lists["top_logprobs"][0] is None
    for at, (name, value) in enumerate(zip(lists["tokens"][1:], lists["token_logprobs"][1:], strict=True), 1):
        assert lists["top_logprobs"][at][name] == value
        assert one["text"][lists["text_offset"][at] :].startswith(name)
    (plain,) = complete(client, stream, echo=True)
    assert (plain["text"], plain["logprobs"]) == (one["text"], None)


@both
def test_echo_alone(client: openai.OpenAI, stream: bool):
    (one,) = complete(client, stream, echo=True, max_tokens=0, logprobs=1)
    assert (one["text"], one["finish"]) == ("It was a bright", "length")
    assert one["usage"].completion_tokens == 0


@both
def test_stop_and_seed_of_completions(client: openai.OpenAI, stream: bool):
    (free,) = complete(client, stream, max_tokens=40)
    word = free["text"][8:11]
    (cut,) = complete(client, stream, max_tokens=40, stop=[word])
    assert (cut["text"], cut["finish"]) == (free["text"][: free["text"].index(word)], "stop")
    warm = [complete(client, stream, temperature=1.5, seed=7, n=2)[index]["text"] for index in (0, 1, 0)]
    assert warm[0] == warm[2] != warm[1]


def test_embeddings(client: openai.OpenAI, url: str):
    text = "It was a bright"
    ids = httpx.post(f"{url}/tokenize", json={"prompt": text}).json()["tokens"]
    found = client.embeddings.create(model="mantus", input=[text, "The man went", text])  # the client asks for base64
    first, other, again = [one.embedding for one in found.data]
    assert first == again != other
    assert sum(value * value for value in first) == pytest.approx(1, abs=1e-4)
    assert [one.index for one in found.data] == [0, 1, 2]
    for given in (text, ids, [ids]):
        asked = client.embeddings.create(model="mantus", input=given, encoding_format="float", dimensions=len(first))
        assert asked.data[0].embedding == pytest.approx(first, abs=1e-6)
        assert asked.usage.model_dump() == {"prompt_tokens": len(ids), "total_tokens": len(ids)}


def test_models_and_health(client: openai.OpenAI, url: str):
    (model,) = client.models.list().data
    assert (model.id, model.model_extra["max_model_len"]) == ("mantus", 2048)
    root = url.removesuffix("/v1")
    assert httpx.get(f"{root}/health").json() == {"status": "ok"}
    for prefix in ("", "/v1", "/openai/v1"):
        assert httpx.get(f"{root}{prefix}/tokenizer_info").json()["eos_token"] == "<|endoftext|>"


def test_messages_are_tokenized_as_the_model_sees_them(client: openai.OpenAI, url: str):
    counted = httpx.post(f"{url}/tokenize", json={"messages": HELLO, "tools": [TOOL]}).json()
    text = httpx.post(f"{url}/detokenize", json={"tokens": counted["tokens"]}).json()["prompt"]
    assert text.endswith("<|im_start|>assistant\n")
    assert '"name": "add"' in text
    assert chat(client, False, tools=[TOOL])[0]["usage"].prompt_tokens == counted["count"]


@pytest.mark.parametrize(
    ("path", "body", "field"),
    [
        ("chat/completions", {"messages": HELLO, "n": 17}, "n"),
        ("embeddings", {"input": "x", "dimensions": 7}, "dimensions"),
        ("embeddings", {"input": [1, 2, 1 << 30]}, "input"),
        ("embeddings", {"input": "word " * 4000}, "input"),
        ("embeddings", {"input": ""}, "input"),
        ("chat/completions", {"messages": HELLO, "logit_bias": {"1": 2}}, "logit_bias"),
        ("chat/completions", {"messages": HELLO, "top_logprobs": 3}, "top_logprobs"),
        ("chat/completions", {"messages": [{"role": "user", "content": 7}]}, "messages.0.content.str"),
        ("chat/completions", {"messages": HELLO, "tool_choice": "required"}, "tool_choice"),
        ("chat/completions", {"messages": HELLO, "tools": [{"function": {}}]}, "tools.0.function.name"),
        (
            "chat/completions",
            {"messages": HELLO, "response_format": {"type": "json_schema"}},
            "response_format.json_schema",
        ),
        ("completions", {"prompt": ""}, "prompt"),
        ("completions", {"prompt": [1, 99999]}, "prompt"),
        ("completions", {"prompt": "x", "suffix": "y"}, "suffix"),
        ("completions", {"prompt": ["x"] * 100, "n": 2}, "n"),
        ("tokenize", {"prompt": 3}, "prompt"),
        ("detokenize", {"tokens": [-1]}, "tokens.0"),
    ],
)
def test_a_wrong_field_is_named(url: str, path: str, body: Any, field: str):
    answer = httpx.post(f"{url}/{path}", json=body)
    assert answer.status_code == 400
    error = answer.json()["error"]
    assert (error["type"], error["param"], error["code"]) == ("invalid_request_error", field, 400)


@pytest.mark.parametrize("raw", [b"", b"{", b"[1]", b"\xff", b'"\\ud800"', b'{"prompt": "\\ud800"}', b"[" * 100_000])
def test_what_is_no_request_at_all(url: str, raw: bytes):
    answer = httpx.post(f"{url}/completions", content=raw)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "pattern": "a+"},
        {"type": "wizard"},
        {"type": "object", "properties": {"a": {"$ref": "#/$defs/a"}}, "$defs": {"a": {"$ref": "#/$defs/a"}}},
        {"type": "object", "properties": {"a": {}}, "required": ["b"]},
        {"type": "array", "minItems": 10**9},
        {"type": "string", "minLength": 10**9},
        {"anyOf": [True]},
    ],
    ids=str,
)
def test_a_schema_that_cannot_be_kept_is_refused(client: openai.OpenAI, schema: dict[str, Any]):
    with pytest.raises(openai.BadRequestError, match="response_format"):
        chat(client, False, response_format={"type": "json_schema", "json_schema": {"name": "x", "schema": schema}})


@pytest.fixture
def guarded(released, tmp_path: Path) -> Iterator[str]:
    """A server with keys, a queue of three, and a limit to replies."""
    keys = tmp_path / "keys"
    keys.write_text("first\nsecond\n")
    with served(fetch(released.uri), api_keys_file=str(keys), max_waiting=3, max_tokens=1900) as address:
        yield address


def test_keys_and_a_full_queue(guarded: str):
    root = guarded.removesuffix("/v1")
    for path in ("/v1/models", "/openai/v1/models", "/v2/models/mantus", "/openapi.json"):
        assert httpx.get(root + path).status_code == 401
    for path in ("/health", "/metrics", "/v2/health/ready", "/"):
        assert httpx.get(root + path).status_code == 200
    with pytest.raises(openai.AuthenticationError, match="missing or wrong"):
        openai.OpenAI(base_url=guarded, api_key="third", max_retries=0).models.list()
    client = openai.OpenAI(base_url=guarded, api_key="second", max_retries=0)
    long = {"model": "mantus", "messages": HELLO, "max_tokens": 2000, "extra_body": {"ignore_eos": True}}
    streams = [client.chat.completions.create(**long, stream=True) for _ in range(3)]
    for stream in streams:
        next(iter(stream))
    with pytest.raises(openai.RateLimitError) as refused:
        client.chat.completions.create(**long)
    assert refused.value.response.headers["Retry-After"] == "1"
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(**long, stream=True)
    for stream in streams:
        stream.close()
    assert eventually(lambda: idle(root))
    done = client.chat.completions.create(**long)
    assert done.usage.completion_tokens == 1900


def idle(root: str) -> bool:
    """Whether the engine has nothing to do."""
    text = httpx.get(f"{root}/metrics").text
    return all(
        f'vllm:num_requests_{kind}{{engine="0",model_name="mantus"}} 0.0' in text for kind in ("running", "waiting")
    )


def eventually(holds: Any, seconds: float = 20) -> bool:
    """Whether it holds within so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.05)
    return bool(holds())


def test_leaving_before_the_answer_frees_the_slot(url: str):
    root = url.removesuffix("/v1")
    body = {"messages": HELLO, "max_tokens": 1900, "temperature": 1, "ignore_eos": True}

    def aborted() -> float:
        lines = httpx.get(f"{root}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if "request_success_total{" in line and '"abort"' in line)

    before = aborted()
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{url}/chat/completions", json=body, timeout=0.3)
    assert eventually(lambda: aborted() > before and idle(root))
