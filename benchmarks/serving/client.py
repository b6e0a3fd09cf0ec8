"""What an OpenAI endpoint does under one client's eyes: time to first token, decoding, throughput at several streams.

It knows the wire, not who answers. aiohttp, not httpx, which takes three times the processor for each chunk that it
reads: client and server share the machine.
"""

import asyncio
import json
import time

import aiohttp

from benchmarks.serving.plan import Plan, Speeds, middle, prompts


async def measure(base: str, plan: Plan) -> Speeds:
    """Measure an endpoint. base: with /v1."""
    async with session(base) as client:
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


def session(base: str) -> aiohttp.ClientSession:
    """A client of an endpoint, with a connection for each request: not every server keeps them. base: with /v1."""
    timeout, connector = aiohttp.ClientTimeout(600), aiohttp.TCPConnector(limit=0, force_close=True)
    return aiohttp.ClientSession(f"{base}/", timeout=timeout, connector=connector)


async def load(client: aiohttp.ClientSession, plan: Plan, streams: int) -> float:
    """Output tokens a second of so many streams at once."""
    num_in, num_out = plan.load
    rates = []
    for repeat in range(plan.repeats):
        start = time.perf_counter()
        asked = prompts(plan, streams, num_in, 1000 * streams + repeat)
        await asyncio.gather(*(reply(client, ids, num_out) for ids in asked))
        rates.append(streams * num_out / (time.perf_counter() - start))
    return middle(rates)


async def reply(client: aiohttp.ClientSession, ids: list[int], tokens: int) -> tuple[float, float]:
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
    async with client.post("completions", json=body) as answer:
        if answer.status != 200:
            raise RuntimeError(f"{answer.status}: {(await answer.text())[:300]}")
        async for part in answer.content.iter_any():  # parsed below: the server waits while the client works
            first = first or time.perf_counter() - start
            parts.append(part)
    whole = time.perf_counter() - start
    chunks = [json.loads(line[6:]) for line in b"".join(parts).splitlines() if line.startswith(b"data: {")]
    counted = max(((chunk.get("usage") or {}).get("completion_tokens", 0) for chunk in chunks), default=0)
    if counted != tokens:
        raise RuntimeError(f"{counted} tokens came, {tokens} were asked for")
    return first, whole
