"""Clients that behave badly: they send requests of all kinds, broken ones too, and leave when they like.

It knows the API as a client does; `run` returns what was seen.
"""

import asyncio
import json
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.serving.schemas import tool

TEXTS = ("It was a bright cold day", "Call it", "The man went up", "x", "Say \u00e9t\u00e9 " * 30)
TOOLS = [tool(random.Random(number), number) for number in range(20)]
BROKEN: tuple[bytes, ...] = (
    b"",
    b"{",
    b'{"messages": 3}',
    b'{"messages": []}',
    b'{"messages": [{"role": "user", "content": "x"}], "temperature": 99}',
    b'{"messages": [{"role": "user", "content": "x"}], "model": "other"}',
    b'{"messages": [{"role": "user", "content": "x"}], "tool_choice": "required"}',
    b'{"messages": [{"role": "user", "content": "' + b"word " * 4000 + b'"}]}',
    b"\xff\xfe",
)


@dataclass
class Seen:
    """What the clients saw."""

    codes: Counter[int] = field(default_factory=Counter)
    streams: int = 0
    left: int = 0
    cut: list[str] = field(default_factory=list)
    memory: list[float] = field(default_factory=list)


async def run(url: str, seconds: float, clients: int) -> Seen:
    """So many clients for so long. url: with /v1."""
    seen, end = Seen(), time.monotonic() + seconds
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits, trust_env=False) as client:
        watch = asyncio.create_task(_watch(client, seen))
        await asyncio.gather(*(_behave(client, random.Random(number), end, seen) for number in range(clients)))
        watch.cancel()
    return seen


async def _watch(client: httpx.AsyncClient, seen: Seen) -> None:
    """The resident memory of the server and its engine in bytes, every half second."""
    while True:
        text = await metrics(client)
        seen.memory.append(sum(value(text, f"{of}process_resident_memory_bytes") for of in ("", "mantus_engine_")))
        await asyncio.sleep(0.5)


async def metrics(client: httpx.AsyncClient) -> str:
    """The server's metrics."""
    return (await client.get(str(client.base_url).replace("/v1/", "/metrics"))).text


def value(text: str, name: str) -> float:
    """The sum of a metric's series."""
    lines = [line for line in text.splitlines() if line.startswith((name + " ", name + "{"))]
    assert lines, name
    return sum(float(line.rpartition(" ")[2]) for line in lines)


async def _behave(client: httpx.AsyncClient, chance: random.Random, end: float, seen: Seen) -> None:
    while time.monotonic() < end:
        kind = chance.random()
        if kind < 0.1:
            answer = await client.post("chat/completions", content=chance.choice(BROKEN))
            seen.codes[answer.status_code] += 1
            assert answer.json()["error"]["message"]
        elif kind < 0.3:
            await _whole(client, chance, seen)
        else:
            await _stream(client, chance, seen)


def body(chance: random.Random) -> tuple[str, dict[str, Any]]:
    """A path and a right request for it."""
    shared = {
        "temperature": chance.choice((0, 1, 2)),
        "max_tokens": chance.choice((1, 8, 40, 200)),
        "n": chance.choice((1, 1, 1, 3)),
        "stop": chance.choice((None, "e", ["the", "zz"])),
    }
    if chance.random() < 0.3:
        asked = {"prompt": chance.choice((chance.choice(TEXTS), [chance.randrange(300) for _ in range(20)]))}
        return "completions", {**shared, **asked, "echo": chance.random() < 0.3, "logprobs": chance.choice((None, 2))}
    asked = {"messages": [{"role": "user", "content": chance.choice(TEXTS)}], "logprobs": chance.random() < 0.3}
    if chance.random() < 0.3:
        asked |= {"tools": [chance.choice(TOOLS)], "tool_choice": chance.choice(("auto", "required", "none"))}
    return "chat/completions", {**shared, **asked}


async def _whole(client: httpx.AsyncClient, chance: random.Random, seen: Seen) -> None:
    path, asked = body(chance)
    leaves = chance.random() < 0.3
    try:
        answer = await client.post(path, json=asked, timeout=chance.uniform(0.01, 0.5) if leaves else 120)
    except httpx.TimeoutException:
        seen.left += 1
        assert leaves, asked
        return
    seen.codes[answer.status_code] += 1
    if answer.status_code == 200:
        assert all(choice["finish_reason"] for choice in answer.json()["choices"])


async def _stream(client: httpx.AsyncClient, chance: random.Random, seen: Seen) -> None:
    path, asked = body(chance)
    leaves_after = chance.randrange(20) if chance.random() < 0.4 else 1 << 30
    async with client.stream("POST", path, json={**asked, "stream": True}) as answer:
        seen.codes[answer.status_code] += 1
        if answer.status_code != 200:
            return
        problem = await read(answer, leaves_after)
    if problem is None:
        seen.left += 1
        return
    seen.streams += 1
    if problem:
        seen.cut.append(problem)


async def read(answer: httpx.Response, leaves_after: int = 1 << 30) -> str | None:
    """'' when a stream ended as it should, else what was wrong with its end; None when it was left early."""
    finished: dict[int, bool] = {}
    count = 0
    async for line in answer.aiter_lines():
        if not line:
            continue
        if line == "data: [DONE]":
            return "" if finished and all(finished.values()) else f"no finish_reason: {finished}"
        chunk = json.loads(line.removeprefix("data: "))
        if "error" in chunk:
            return str(chunk["error"])
        for choice in chunk["choices"]:
            finished[choice["index"]] = bool(choice["finish_reason"]) or finished.get(choice["index"], False)
        count += 1
        if count > leaves_after:
            return None
    return "no [DONE]"
