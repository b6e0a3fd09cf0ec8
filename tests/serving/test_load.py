"""Load, leaving, ending and being killed: nothing leaks, nothing is cut, nothing is a failure of the server's."""

import asyncio
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from mantus.processes import start_child, stop_child
from mantus.serving.local import free_port, served
from mantus.storage import fetch
from tests.serving import load
from tests.serving.load import Seen, value
from tests.serving.test_openai import eventually, idle

STREAMS, TOKENS = 32, 300


def check(url: str, seen: Seen, clients: int) -> None:
    """No failure, no stream cut, no slot leaked."""
    print(dict(seen.codes), f"{seen.streams} streams, {seen.left} left early")
    assert {code for code in seen.codes if code >= 500} == set()
    assert {200, 400, 404} <= set(seen.codes) <= {200, 400, 404, 413, 429}
    assert seen.cut == []
    assert seen.streams > clients / 2
    assert seen.left > clients / 4
    assert eventually(lambda: idle(url.removesuffix("/v1")))
    text = httpx.get(url.replace("/v1", "/metrics")).text
    assert value(text, "vllm:num_requests_running") + value(text, "vllm:num_requests_waiting") == 0


def test_a_short_load(released):
    with served(fetch(released.uri)) as url:
        check(url, asyncio.run(load.run(url, 12, 24)), 24)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_five_minutes_of_sixty_four_clients(released):
    with served(fetch(released.uri), cache_gib=0.02) as url:  # full, and so touched as a whole, after a few requests
        seen = asyncio.run(load.run(url, float(os.environ.get("MANTUS_LOAD_SECONDS", "300")), 64))
        check(url, seen, 64)
    third = len(seen.memory) // 3
    before, after = statistics.median(seen.memory[third : 2 * third]), statistics.median(seen.memory[-third:])
    print(f"memory {before / 1e6:.0f} MB, then {after / 1e6:.0f} MB ({after / before - 1:+.2%})")
    assert after / before == pytest.approx(1, abs=0.03)


@contextmanager
def process(release: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A server's process, and where it answers."""
    port = free_port()
    words = ["--model_dir", str(release), "--http_port", str(port), "--host", "127.0.0.1"]
    with log.open("ab") as out:
        serving = [sys.executable, "-m", "mantus.serving.server", *words]
        child = start_child(serving, stdout=out, stderr=out, start_new_session=True)
    try:
        yield child, f"http://127.0.0.1:{port}/v1"
    finally:
        stop_child(child)


def answers(url: str) -> bool:
    try:
        asked = {"prompt": "It was", "max_tokens": 2}
        return httpx.post(f"{url}/completions", json=asked, timeout=30).status_code == 200
    except httpx.TransportError:
        return False


async def streams(url: str, when_all_run: Callable[[], None]) -> list[str | None]:
    """How so many streams ended; `when_all_run` is called when each has begun."""
    begun = asyncio.Barrier(STREAMS + 1)
    body = {"messages": [{"role": "user", "content": "It was"}], "max_tokens": TOKENS, "temperature": 1, "stream": True}
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(timeout=120, trust_env=False, limits=limits) as client:

        async def one(seed: int) -> str | None:
            async with client.stream("POST", f"{url}/chat/completions", json={**body, "seed": seed}) as answer:
                assert answer.status_code == 200
                await begun.wait()
                return await load.read(answer)

        running = [asyncio.create_task(one(seed)) for seed in range(STREAMS)]
        await begun.wait()
        when_all_run()
        return await asyncio.gather(*running)


@pytest.mark.parametrize("send", [os.kill, os.killpg], ids=["to the server", "to its group"])
def test_sigterm_cuts_no_stream(released, tmp_path: Path, send: Callable[[int, int], None]):
    with process(fetch(released.uri), tmp_path / "log") as (child, url):
        assert eventually(lambda: answers(url), 60)
        ends = asyncio.run(streams(url, lambda: send(child.pid, signal.SIGTERM)))
        assert ends == [""] * STREAMS
        assert child.wait(30) == 0, (tmp_path / "log").read_text()
        assert not answers(url)
        assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == ["serving", "try:"]


def test_a_kept_connection_is_closed_by_an_answer_that_says_so(released, tmp_path: Path):
    with process(fetch(released.uri), tmp_path / "log") as (child, url), httpx.Client(trust_env=False) as client:
        assert eventually(lambda: answers(url), 60)
        assert "connection" not in client.get(f"{url}/models").headers
        child.terminate()
        assert eventually(lambda: client.get(f"{url}/models").headers.get("connection") == "close", 1)
        assert child.wait(30) == 0, (tmp_path / "log").read_text()


def test_a_killed_server_begins_again(released, tmp_path: Path):
    release = fetch(released.uri)
    with process(release, tmp_path / "log") as (child, url):
        assert eventually(lambda: answers(url), 60)
        child.send_signal(signal.SIGKILL)
        assert child.wait(30) == -signal.SIGKILL
    start = time.monotonic()
    with process(release, tmp_path / "log") as (child, url):
        assert eventually(lambda: answers(url), 60)
        print(f"answers {time.monotonic() - start:.1f} s after the start")
