"""The endpoint as OpenAI's client and lm-eval's wire contract see it, over a real server and a real tiny model."""

import concurrent.futures
import subprocess
import sys
from pathlib import Path

import httpx
import openai
import pytest
import torch

from mantus.model.hf import load_model
from mantus.serving.chat import _held
from mantus.serving.config import ServeConfig
from mantus.serving.schemas import ChatRequest
from mantus.serving.server import UNUSED, find_variant
from mantus.storage import fetch

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
HELLO = [{"role": "user", "content": "It was a bright"}]


@pytest.fixture(scope="module")
def client(url: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=url, api_key="none", max_retries=0)


def test_chat_and_usage(client: openai.OpenAI):
    done = client.chat.completions.create(model="mantus", messages=HELLO, max_tokens=8, temperature=0)
    assert done.usage.completion_tokens <= 8
    assert done.choices[0].message.content is not None
    again = client.chat.completions.create(model="mantus", messages=HELLO, max_tokens=8, temperature=0)
    assert again.choices[0].message.content == done.choices[0].message.content


def test_a_stream_says_what_the_whole_says(client: openai.OpenAI):
    whole = client.chat.completions.create(model="mantus", messages=HELLO, max_tokens=12, temperature=0)
    chunks = client.chat.completions.create(
        model="mantus",
        messages=HELLO,
        max_tokens=12,
        temperature=0,
        stream=True,
        stream_options={"include_usage": True},
    )
    received = list(chunks)
    text = "".join(chunk.choices[0].delta.content or "" for chunk in received if chunk.choices)
    assert text == whole.choices[0].message.content
    assert received[-1].usage.completion_tokens == whole.usage.completion_tokens


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "add"}}])
def test_a_forced_call_is_always_valid(client: openai.OpenAI, choice):
    for seed in range(5):
        done = client.chat.completions.create(
            model="mantus",
            messages=HELLO,
            tools=[TOOL],
            tool_choice=choice,
            temperature=1.5,
            seed=seed,
            parallel_tool_calls=False,
        )
        (call,) = done.choices[0].message.tool_calls
        assert call.function.name == "add"
        assert done.choices[0].finish_reason == "tool_calls"


def test_a_call_that_is_cut_counts_as_invalid(client: openai.OpenAI, url: str):
    def counted() -> float:
        lines = httpx.get(url.replace("/v1", "/metrics")).text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if 'outcome="invalid_json"' in line and "_total" in line)

    before = counted()
    asked = {"messages": HELLO, "tools": [TOOL], "tool_choice": "required", "max_tokens": 16, "temperature": 0}
    done = client.chat.completions.create(model="mantus", **asked)
    assert done.choices[0].message.tool_calls is None
    assert counted() == before + 1


def test_echo_gives_the_models_own_log_probabilities(url: str, released):
    prompt = "It was a bright cold day"
    done = httpx.post(
        f"{url}/completions", json={"prompt": prompt, "max_tokens": 1, "echo": True, "logprobs": 1, "temperature": 0}
    ).json()
    shown = done["choices"][0]["logprobs"]["token_logprobs"]
    ids = httpx.post(f"{url}/tokenize", json={"prompt": prompt}).json()["tokens"]
    with torch.no_grad():
        logits = load_model(fetch(released.uri) / "hf")(torch.tensor([ids]))[0].log_softmax(-1)
    expected = [float(logits[i, ids[i + 1]]) for i in range(len(ids) - 1)]
    assert shown[0] is None
    assert len(shown) == len(ids) + 1
    assert shown[1:-1] == pytest.approx(expected, abs=0.1)
    assert httpx.post(f"{url}/detokenize", json={"tokens": ids}).json()["prompt"] == prompt


@pytest.mark.parametrize(
    ("body", "code", "named"),
    [
        ({"messages": []}, 400, "messages"),
        ({"messages": [{"role": "wizard", "content": "x"}]}, 400, "wizard"),
        ({"messages": HELLO, "temperature": 9}, 400, "temperature"),
        ({"messages": HELLO, "tool_choice": "required"}, 400, "tool_choice"),
        ({"messages": HELLO, "model": "gpt"}, 404, "gpt"),
        ({"messages": [{"role": "user", "content": "word " * 9000}]}, 400, "context"),
        ({"messages": [{"role": "user", "content": "x" * (5 << 20)}]}, 413, "limit"),
    ],
)
def test_mistakes_are_named(url: str, body, code: int, named: str):
    answer = httpx.post(f"{url}/chat/completions", json=body)
    assert answer.status_code == code
    assert named in answer.json()["error"]["message"]


def test_many_at_once_and_what_the_metrics_say(url: str):
    def one(number: int) -> int:
        body = {"messages": HELLO, "max_tokens": 16, "temperature": 1, "seed": number}
        return httpx.post(f"{url}/chat/completions", json=body, timeout=60).status_code

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert set(pool.map(one, range(32))) == {200}
    text = httpx.get(url.replace("/v1", "/metrics")).text
    for name in (
        "vllm:time_to_first_token_seconds_bucket",
        "vllm:generation_tokens_total",
        "mantus_http_requests_total",
    ):
        assert name in text
    assert 'vllm:num_requests_running{engine="0",model_name="mantus"} 0.0' in text


def test_both_prefixes_and_kserves_own_routes(url: str):
    base = url.removesuffix("/v1")
    assert httpx.get(f"{base}/openai/v1/models").json()["models"] == ["mantus"]
    assert httpx.get(f"{base}/v2/health/ready").status_code == 200
    answer = httpx.post(f"{base}/v1/models/mantus:predict", json={"instances": ["It was"]})
    assert isinstance(answer.json()["predictions"][0], str)


def test_nobody_is_answered_at_another_address(url: str):
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url.replace('127.0.0.1', '127.0.0.2')}/models", trust_env=False)


def test_leaving_a_stream_frees_its_slot(url: str):
    body = {"messages": HELLO, "max_tokens": 1500, "temperature": 1, "stream": True}
    with httpx.stream("POST", f"{url}/chat/completions", json=body) as answer:
        next(answer.iter_lines())
    for _ in range(100):
        text = httpx.get(url.replace("/v1", "/metrics")).text
        if 'num_requests_running{engine="0",model_name="mantus"} 0.0' in text:
            return
    raise AssertionError("the request still runs")


def test_a_refused_release_is_not_served(tmp_path: Path):
    (tmp_path / "release.json").write_text('{"served": "openvino-int8", "gate": {"verdict": "refused"}}')
    with pytest.raises(ValueError, match="the gate refused"):
        find_variant(ServeConfig(release=str(tmp_path)))
    with pytest.raises(ValueError, match="holds no release"):
        find_variant(ServeConfig(release=str(tmp_path / "nothing")))


KSERVE = """import sys
from mantus.serving.server import _import_kserve
_import_kserve()
print(*sorted({name.split('.')[0] for name in sys.modules}))
import kubernetes.client, pandas
print(pandas.DataFrame({'a': [1]}).shape, kubernetes.client.V1Pod().api_version)"""


def test_kserve_is_loaded_without_what_serves_nothing():
    done = subprocess.run([sys.executable, "-c", KSERVE], capture_output=True, text=True, check=True)
    loaded, later = done.stdout.splitlines()
    assert "kserve" in loaded.split()
    assert not {*UNUSED, "pyarrow"} & {*loaded.split()}
    assert later == "(1, 1) None", "whoever imports them later gets them whole"


def test_tools_that_say_strict_false_are_not_held_to_a_grammar():
    """OpenAI's word for it; a forced call, or one tool that does not say so, is held all the same."""
    lax = {"type": "function", "function": {**TOOL["function"], "strict": False}}
    for tools, choice, held in (([lax], "auto", False), ([lax, TOOL], "auto", True), ([lax], "required", True)):
        request = ChatRequest(messages=HELLO, tools=tools, tool_choice=choice)
        assert (_held(request, request.offered, request.choice)[0] is not None) == held
