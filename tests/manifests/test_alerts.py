"""Every alert fires in a live Prometheus over a real server and a real tracker to which its trouble is done.

The rules are the chart's with shorter times. Tests stand in the order of the server's life.
"""

import asyncio
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mantus.processes import start_child, stop_child
from mantus.serving.local import free_port
from mantus.storage import fetch
from tests.manifests import prometheus as debians
from tests.manifests.prometheus import CALL, CHAT, ask, jobs
from tests.manifests.queries import groups
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), debians.needed]

FIRES_S = 90


@dataclass
class Watched:
    """A server and a tracker with their faults, and Prometheus over both."""

    client: httpx.Client
    server: subprocess.Popen[bytes]
    url: str
    faults: dict[str, Path]

    def fires(self, *alerts: str) -> None:
        """Each of them, soon."""
        missing = set(alerts)

        def all_fired() -> bool:
            firing = ask(self.client, 'ALERTS{alertstate="firing"}')
            missing.difference_update(item["metric"]["alertname"] for item in firing)
            return not missing

        began = time.monotonic()
        assert wait_for(all_fired, FIRES_S), missing
        FIRED.update(alerts)
        print(f"{', '.join(alerts)}: fired within {time.monotonic() - began:.0f} s")

    @contextmanager
    def fault(self, whose: str, kind: str) -> Iterator[None]:
        """For a block."""
        self.faults[whose].write_text(kind)
        try:
            yield
        finally:
            self.faults[whose].write_text("")


FIRED: set[str] = set()


def shortened(text: str) -> str:
    """Durations in PromQL: a minute becomes two seconds."""
    return re.sub(r"(\d+)([mh])\b", lambda found: f"{2 * int(found[1]) * (1 if found[2] == 'm' else 60)}s", text)


def rules() -> list[dict[str, Any]]:
    """The chart's, which wait for seconds."""
    found = groups()
    for rule in (rule for group in found for rule in group["rules"]):
        rule["expr"] = re.sub(r"\[\d+[mh]\]", lambda match: shortened(match[0]), rule["expr"])
        if "for" in rule:
            rule["for"] = shortened(rule["for"])
    return found


@pytest.fixture(scope="module")
def watched(released, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Watched]:
    folder = tmp_path_factory.mktemp("alerts")
    faults = {name: folder / name for name in ("serving", "training")}
    faults["serving"].write_text("")
    port, training = free_port(), free_port()
    words = ["-m", "tests.manifests.faulty", str(faults["serving"]), "--model_dir", str(fetch(released.uri))]
    words += ["--host=127.0.0.1", f"--http_port={port}", "--cache_gib=0.001", "--max_waiting=64", "--drain_seconds=1"]
    with (folder / "log").open("wb") as log:
        server = start_child([sys.executable, *words], stdout=log, stderr=log)
        children = [server, start_child(debians.tracker(folder, training))]
    url = f"http://127.0.0.1:{port}"
    try:
        assert wait_for(lambda: debians.answers_at(f"{url}/health"), 120), (folder / "log").read_text()
        with debians.prometheus(folder, jobs(f"127.0.0.1:{port}", training), rules(), "500ms") as client:
            yield Watched(client, server, url, faults)
    finally:
        for child in children:
            stop_child(child)


@contextmanager
def clients(url: str, count: int, body: dict[str, Any]) -> Iterator[None]:
    """So many that ask again and again, whatever they hear."""
    ended = threading.Event()

    async def one(client: httpx.AsyncClient) -> None:
        while not ended.is_set():
            with suppress(httpx.HTTPError):
                await client.post("/v1/chat/completions", json=body)
            await asyncio.sleep(0.05)

    async def every() -> None:
        limits = httpx.Limits(max_connections=None)
        async with httpx.AsyncClient(base_url=url, trust_env=False, timeout=10, limits=limits) as client:
            await asyncio.gather(*(one(client) for _ in range(count)))

    thread = threading.Thread(target=lambda: asyncio.run(every()))
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def test_all_is_well_at_first(watched: Watched):
    with clients(watched.url, 2, CHAT):
        time.sleep(30)
    assert ask(watched.client, 'ALERTS{alertstate="firing"}') == []


def test_a_training_that_jumps_starves_slows_and_stalls(watched: Watched):
    with watched.fault("training", "jump"):
        watched.fires("MantusTrainingLossSpike", "MantusTrainingGradientSpike")
    with watched.fault("training", "starved"):
        watched.fires("MantusTrainingStarved")
    with watched.fault("training", "slow"):
        watched.fires("MantusTrainingSlow")
    with watched.fault("training", "stalled"):
        watched.fires("MantusTrainingStalled")


def test_calls_that_are_cut(watched: Watched):
    with clients(watched.url, 4, {**CALL, "max_tokens": 8}):
        watched.fires("MantusToolCallsInvalid")


def test_an_engine_that_crawls(watched: Watched):
    short, longer = ({**CHAT, "max_tokens": count} for count in (1, 3))
    with watched.fault("serving", "slow"), clients(watched.url, 4, short), clients(watched.url, 4, longer):
        watched.fires("MantusServingSlowFirstToken", "MantusServingSlowTokens")


def test_an_engine_that_stands_still_with_its_cache_full(watched: Watched):
    body = {**CHAT, "max_tokens": 1500, "ignore_eos": True, "temperature": 2}
    with clients(watched.url, 100, body):
        full = "max(vllm:kv_cache_usage_perc) > 0.95 and max(vllm:num_requests_waiting) > 32"
        assert wait_for(lambda: bool(ask(watched.client, full)), 60)
        with watched.fault("serving", "stuck"):
            watched.fires("MantusServingStuck", "MantusServingQueue", "MantusServingCacheFull", "MantusServingBusy")


def test_an_engine_that_fails(watched: Watched):
    with watched.fault("serving", "broken"), clients(watched.url, 4, CHAT):
        watched.fires("MantusServingErrors", "MantusServingBudgetFast", "MantusServingBudgetSlow")


def test_a_server_that_is_gone(watched: Watched):
    watched.server.kill()
    watched.fires("MantusServingDown")


def test_none_was_left_out():
    assert {rule["alert"] for group in groups() for rule in group["rules"] if "alert" in rule} == FIRED
