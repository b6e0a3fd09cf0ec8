"""Tool calls of a model that has learnt nothing: only the grammar can make them parse and fit."""

import json
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from mantus.model.config import resolve_size
from mantus.model.hf import save_model
from mantus.model.transformer import Transformer, init_weights
from mantus.release.run import ReleaseConfig, run
from mantus.serving.local import served
from mantus.storage import Work, execute, fetch
from mantus.text.calls import Call, check_call
from mantus.text.tokenizer import Tokenizer
from tests.conftest import SHAPE, Made
from tests.serving import schemas

MAX_TOKENS = 1500


@pytest.fixture(scope="module")
def untrained(inputs: dict[str, str]) -> Path:
    """A release of random weights; the gate's verdict on it does not matter here."""
    tokenizer = fetch(inputs["tokenizer"])

    def make(work: Work) -> dict[str, int]:
        shape = {**SHAPE, "intermediate_size": 128, "max_position": 8192}  # tools take many tokens of this vocabulary
        model = Transformer(resolve_size("nano", Tokenizer.load(tokenizer).vocab_size, **shape))
        init_weights(model, 0)
        save_model(model, tokenizer, work.out)
        return {}

    model = execute("model", Made(store=inputs["store"], name="untrained-long"), make)
    settings = {"variants": ["hf", "openvino-int8"], "windows": 2, "window_tokens": 64}
    released = run(ReleaseConfig(store=inputs["store"], model=model.uri, tokens=inputs["tokens"], **settings))
    return fetch(released.uri)


@pytest.fixture(scope="module", params=["openvino-int8", "hf"])
def address(request, untrained: Path) -> Iterator[str]:
    with served(untrained / request.param) as url:
        yield url


def call(url: str, number: int) -> list[str]:
    """What is wrong with the calls that a made-up request got; [] when nothing is."""
    chance = random.Random(number)
    tools = [schemas.tool(chance, index) for index in range(chance.randint(1, 3))]
    named = {"type": "function", "function": {"name": "tool_0"}}
    body = {
        "messages": [{"role": "user", "content": f"Call {number}"}],
        "tools": tools,
        "tool_choice": chance.choice(("required", named)),
        "parallel_tool_calls": False,
        "max_tokens": MAX_TOKENS,
        "temperature": chance.choice((0.7, 1.0, 2.0)),
        "seed": number,
    }
    answer = httpx.post(f"{url}/chat/completions", json=body, timeout=300)
    if answer.status_code != 200:
        return [f"{number}: {answer.text}"]
    (choice,) = answer.json()["choices"]
    made = [one["function"] for one in choice["message"].get("tool_calls") or ()]
    if len(made) != 1 or choice["finish_reason"] != "tool_calls":
        return [f"{number}: {len(made)} calls, {choice['finish_reason']}: {json.dumps(choice)[-300:]}"]
    problem = check_call(Call(made[0]["name"], json.loads(made[0]["arguments"])), tools)
    return [f"{number}: {problem}"] if problem else []


def wrong(url: str, numbers: range) -> list[str]:
    """What is wrong with so many calls, 16 at a time."""
    with ThreadPoolExecutor(16) as pool:
        return [problem for problems in pool.map(lambda number: call(url, number), numbers) for problem in problems]


def test_a_few_calls_on_random_schemas(address: str):
    assert wrong(address, range(24)) == []


def test_a_call_that_breaks_a_bound_is_made_again(address: str):
    three = {"type": "string", "minLength": 3, "maxLength": 3}
    takes = {"type": "object", "properties": {"a": three}, "required": ["a"]}
    tool = {"type": "function", "function": {"name": "f", "parameters": takes}}
    asked = {"messages": [{"role": "user", "content": "?"}], "tools": [tool], "tool_choice": "required"}

    def redone() -> float:
        lines = httpx.get(f"{address.removesuffix('/v1')}/metrics").text.splitlines()
        return next(float(line.split()[1]) for line in lines if line.startswith("mantus_tool_calls_redone_total "))

    before = redone()
    for seed in range(4):
        body = {**asked, "seed": seed, "temperature": 1, "parallel_tool_calls": False}
        answer = httpx.post(f"{address}/chat/completions", json=body, timeout=60).json()
        (made,) = answer["choices"][0]["message"]["tool_calls"]
        assert len(json.loads(made["function"]["arguments"])["a"]) == 3
    assert redone() > before, "hardly a string of a model that knows nothing has three letters"


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_a_thousand_calls_on_random_schemas(untrained: Path):
    with served(untrained / "openvino-int8") as url:
        assert wrong(url, range(1000)) == []
