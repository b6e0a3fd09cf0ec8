"""Debian's Prometheus with the chart's rules, for tests: started over given targets, asked, stopped."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from mantus.launch.deploy.smoke import TOOL
from mantus.processes import start_child, stop_child
from mantus.serving.local import free_port
from tests.manifests.queries import Query, groups
from tests.waiting import wait_for

PROGRAM = shutil.which("prometheus")
needed = pytest.mark.skipif(PROGRAM is None, reason="no prometheus here: apt-get install prometheus")
CHAT = {"messages": [{"role": "user", "content": "It was"}], "max_tokens": 8, "temperature": 0}
CALL = {**CHAT, "tools": [TOOL], "tool_choice": "required", "max_tokens": 400}


TRAINING = """
import sys, time
from pathlib import Path
from mantus.training.trackers import Trackers

row = {"loss": 2.0, "grad_norm": 1.0, "learning_rate": 1e-3, "step_seconds": 0.5, "data_wait_seconds": 0.1, "mfu": 0.2}
with Trackers(Path(sys.argv[1]), int(sys.argv[2])) as trackers:
    for step in range(100_000):
        while (fault := Path(sys.argv[3]).read_text()) == "stalled":
            time.sleep(0.1)
        more = {"loss": 9.0, "grad_norm": 50.0} if fault == "jump" else {"data_wait_seconds": 0.4} if fault else {}
        trackers.log(step, row | more, 1000)
        time.sleep(2.0 if fault == "slow" else 0.2)
"""
"""Logs until it is ended: folder, port, and a file that says what it does wrong."""


def jobs(server: str, training: int) -> list[dict[str, Any]]:
    """What the operator makes of the chart's pod monitors: the same labels, here by hand."""
    served = {"namespace": "mantus", "pod": "served-0", "inferenceservice": "mantus"}
    trained = {"namespace": "mantus", "pod": "trained-0", "run": "nano", "phase": "pretrain"}
    return [
        {"job_name": "serving", "static_configs": [{"targets": [server], "labels": served}]},
        {"job_name": "training", "static_configs": [{"targets": [f"127.0.0.1:{training}"], "labels": trained}]},
    ]


def tracker(folder: Path, port: int) -> list[str]:
    """The words that start TRAINING; what it does wrong stands in `folder`/training, at first nothing."""
    (folder / "training").write_text("")
    return [sys.executable, "-c", TRAINING, str(folder / "trackers"), str(port), str(folder / "training")]


@contextmanager
def prometheus(
    folder: Path,
    scrape_configs: list[dict[str, Any]],
    rules: list[dict[str, Any]] | None = None,
    interval: str = "1s",
) -> Iterator[httpx.Client]:
    """Prometheus over these targets, with the chart's rule groups or others; a client of its API."""
    port = free_port()
    settings = {
        "global": {"scrape_interval": interval, "evaluation_interval": interval},
        "rule_files": ["rules.yaml"],
        "scrape_configs": scrape_configs,
    }
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": rules or groups()}))
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    command = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        listen = f"--web.listen-address=127.0.0.1:{port}"
        process = start_child([str(PROGRAM), *command, listen], stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            assert wait_for(lambda: answers_at(f"{client.base_url}/-/ready") or process.poll() is not None, 30)
            assert process.poll() is None, (folder / "log").read_text()
            yield client
    finally:
        stop_child(process)


def answers_at(url: str) -> bool:
    """Whether a GET succeeds."""
    try:
        return httpx.get(url, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def work(root: str, seconds: float = 30) -> None:
    """Requests of every kind to a server, good and bad. root: where /v1 is."""
    end = time.monotonic() + seconds
    with httpx.Client(base_url=root, trust_env=False, timeout=60) as client:
        while time.monotonic() < end:
            assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
            assert client.post("/v1/chat/completions", json=CALL).status_code == 200
            assert client.post("/v1/chat/completions", json={"messages": 1}).status_code == 400


def ask(client: httpx.Client, expr: str, at: float | None = None) -> list[Any]:
    """An instant query, now or at a Unix time."""
    when = {} if at is None else {"time": str(at)}
    answer = client.get("/api/v1/query", params={"query": expr, **when}).json()
    assert answer["status"] == "success", json.dumps(answer)
    return list(answer["data"]["result"])


def watched(query: Query) -> str:
    """A query's expression; of an alert without its last comparison: what it watches, rather than when it fires."""
    import promql_parser

    if query.kind != "alert":
        return query.expr
    node = promql_parser.parse(query.expr)
    while isinstance(node, promql_parser.BinaryExpr) and str(node.op) in (">", "<", "==", "and"):
        node = node.lhs
    return str(node)
