"""Requests made up from the OpenAPI document: whatever comes, the server has no failure of its own."""

import json
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode

from mantus.serving.api import event, router

CASES = 2000
NO_TIME = {"deadline": None, "suppress_health_check": list(HealthCheck), "phases": [Phase.generate]}


def paths(url: str) -> Any:
    """The document of a running server."""
    root = url.removesuffix("/v1")
    return schemathesis.openapi.from_url(f"{root}/openapi.json")


def fuzz(url: str, cases: int) -> int:
    """Send so many made-up requests, right ones and wrong ones; how many were sent. AssertionError at a 5xx."""
    ours = {route.path for route in router.routes}
    found = [operation.ok() for operation in paths(url).get_all_operations()]
    operations = [operation for operation in found if operation.path in ours]  # the others are KServe's
    assert {operation.path for operation in operations} == ours
    bodied = [operation for operation in operations if operation.body]
    plain = [operation for operation in operations if not operation.body]
    sent = 0
    with httpx.Client(base_url=url.removesuffix("/v1"), timeout=120) as client:
        for operation in [*bodied, *plain]:
            share = max(1, cases // len(bodied)) if operation.body else 2
            modes = (GenerationMode.POSITIVE, GenerationMode.NEGATIVE) if operation.body else (GenerationMode.POSITIVE,)
            sent += sum(_send(client, operation, mode, -(-share // len(modes))) for mode in modes)
    return sent


def _send(client: httpx.Client, operation: Any, mode: GenerationMode, cases: int) -> int:
    sent = 0

    @seed(7)
    @settings(max_examples=cases, database=None, **NO_TIME)
    @given(data=st.data())
    def one(data: st.DataObject) -> None:
        nonlocal sent
        case = data.draw(operation.as_strategy(generation_mode=mode))
        if isinstance(case.body, dict) and isinstance(case.body.get("max_tokens"), int):
            case.body["max_tokens"] = min(case.body["max_tokens"], 8)
        answer = case.call(base_url=str(client.base_url).rstrip("/"))
        sent += 1
        assert answer.status_code < 500, (operation.label, case.body, answer.text)
        if "/v1/" in operation.path and answer.status_code == 400 and operation.body:
            assert b"error" in answer.content

    one()
    return sent


def test_no_character_ends_an_event_before_its_end():
    said = {"content": "".join(map(chr, range(0x3000)))}
    line, *rest = event(said).decode().splitlines()
    assert rest == [""]
    assert json.loads(line.removeprefix("data: ")) == said


def test_a_few_requests(url: str):
    assert fuzz(url, 60) >= 60


@pytest.mark.slow
@pytest.mark.timeout(1500)
def test_two_thousand_requests(url: str):
    assert fuzz(url, CASES) >= CASES
