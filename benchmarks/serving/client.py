"""What an OpenAI endpoint does under one client's eyes: time to first token, decoding, throughput at several streams.

It knows the wire, not who answers. Prompts are ids drawn at random, the same for every peer and never the same twice,
so that no prefix cache helps.
"""

import asyncio
import json
import random
import time
from dataclasses import asdict, dataclass

import httpx

LOW, HIGH = 300, 40_000
"""Ids that every vocabulary here has and none treats as special."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How much to measure."""

    repeats: int = 3
    prompt: int = 512
    decode: tuple[int, int] = (64, 128)
    """Tokens in and out of the measurement of decoding."""
    load: tuple[int, int] = (64, 64)
    """The same of each stream under load."""
    streams: tuple[int, ...] = (1, 4, 8, 16)
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Speeds:
    """Medians over the repeats. Seconds, and output tokens a second."""

    first_token_s: float
    decode: float
    throughput: dict[str, float]

    def as_json(self) -> str:
        """One line."""
        return json.dumps(asdict(self))


def prompts(plan: Plan, num: int, length: int, salt: int) -> list[list[int]]:
    """So many prompts of so many ids."""
    chance = random.Random(f"{plan.seed} {length} {salt}")
    return [[chance.randrange(LOW, HIGH) for _ in range(length)] for _ in range(num)]


def middle(values: list[float]) -> float:
    """The median, the lower of two."""
    return sorted(values)[(len(values) - 1) // 2]


async def measure(base: str, plan: Plan) -> Speeds:
    """Measure an endpoint. base: with /v1."""
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=base, timeout=600, limits=limits, trust_env=False) as client:
        for warm in prompts(plan, 2, 16, 99):
            await reply(client, warm, 8)
        firsts = [(await reply(client, ids, 1))[0] for ids in prompts(plan, plan.repeats, plan.prompt, 0)]
        num_in, num_out = plan.decode
        rates = []
        for ids in prompts(plan, plan.repeats, num_in, 1):
            first, whole = await reply(client, ids, num_out)
            rates.append((num_out - 1) / (whole - first))
        throughput = {str(streams): await load(client, plan, streams) for streams in plan.streams}
    return Speeds(middle(firsts), middle(rates), throughput)


async def load(client: httpx.AsyncClient, plan: Plan, streams: int) -> float:
    """Output tokens a second of so many streams at once."""
    num_in, num_out = plan.load
    rates = []
    for repeat in range(plan.repeats):
        start = time.perf_counter()
        asked = prompts(plan, streams, num_in, 1000 * streams + repeat)
        await asyncio.gather(*(reply(client, ids, num_out) for ids in asked))
        rates.append(streams * num_out / (time.perf_counter() - start))
    return middle(rates)


async def reply(client: httpx.AsyncClient, ids: list[int], tokens: int) -> tuple[float, float]:
    """Stream one reply; seconds until its first token, and until its end. It has exactly so many tokens."""
    body = {
        "model": "mantus",
        "prompt": ids,
        "max_tokens": tokens,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    body |= {"stream_options": {"include_usage": True}}
    start, first = time.perf_counter(), 0.0
    parts = []
    async with client.stream("POST", "completions", json=body) as answer:
        if answer.status_code != 200:
            raise RuntimeError(f"{answer.status_code}: {(await answer.aread()).decode()[:300]}")
        async for part in answer.aiter_raw():  # read below: what the client works meanwhile, the server waits for
            first = first or time.perf_counter() - start
            parts.append(part)
    whole = time.perf_counter() - start
    chunks = [json.loads(line[6:]) for line in b"".join(parts).splitlines() if line.startswith(b"data: {")]
    counted = max(((chunk.get("usage") or {}).get("completion_tokens", 0) for chunk in chunks), default=0)
    if counted != tokens:
        raise RuntimeError(f"{counted} tokens came, {tokens} were asked for")
    return first, whole
