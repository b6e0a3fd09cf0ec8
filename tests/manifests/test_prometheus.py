"""Debian's Prometheus scrapes a real server and a real tracker; every query of rules and dashboards returns data."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import yaml

from mantus.processes import start_child, stop_child
from tests.manifests.queries import Query, groups, queries

PROMETHEUS = shutil.which("prometheus")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(600),
    pytest.mark.skipif(PROMETHEUS is None, reason="no prometheus here: apt-get install prometheus"),
]

TRAINING = """
import sys, time
from pathlib import Path
from mantus.training.trackers import Trackers

row = {"loss": 2.0, "grad_norm": 1.0, "learning_rate": 1e-3, "step_seconds": 0.5, "data_wait_seconds": 0.1, "mfu": 0.2}
with Trackers(Path(sys.argv[1]), int(sys.argv[2])) as trackers:
    for step in range(10_000):
        trackers.log(step, row, 1000)
        time.sleep(0.2)
"""
TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
        },
    },
}
CHAT = {"messages": [{"role": "user", "content": "It was"}], "max_tokens": 8, "temperature": 0}
CALL = {**CHAT, "tools": [TOOL], "tool_choice": "required", "max_tokens": 400}


def free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def jobs(server: str, training: int) -> list[dict[str, Any]]:
    """What the operator makes of the chart's pod monitors: the same labels, here by hand."""
    served = {"namespace": "mantus", "pod": "served-0", "inferenceservice": "mantus"}
    trained = {"namespace": "mantus", "pod": "trained-0", "run": "nano", "phase": "pretrain"}
    return [
        {"job_name": "serving", "static_configs": [{"targets": [server], "labels": served}]},
        {"job_name": "training", "static_configs": [{"targets": [f"127.0.0.1:{training}"], "labels": trained}]},
    ]


@pytest.fixture(scope="module")
def prometheus(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Prometheus with the chart's rules over a server that works and a training that goes on."""
    folder, training, port = tmp_path_factory.mktemp("prometheus"), free_port(), free_port()
    server = httpx.URL(url).netloc.decode()
    settings = {
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "rule_files": ["rules.yaml"],
        "scrape_configs": jobs(server, training),
    }
    (folder / "rules.yaml").write_text(yaml.safe_dump({"groups": groups()}))
    (folder / "prometheus.yaml").write_text(yaml.safe_dump(settings))
    tracker = start_child([sys.executable, "-c", TRAINING, str(folder / "trackers"), str(training)])
    command = [f"--config.file={folder / 'prometheus.yaml'}", f"--storage.tsdb.path={folder / 'data'}"]
    with (folder / "log").open("wb") as log:
        listen = f"--web.listen-address=127.0.0.1:{port}"
        process = start_child([str(PROMETHEUS), *command, listen], stdout=log, stderr=subprocess.STDOUT)
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=30) as client:
            work(httpx.URL(url), client)
            yield client
    finally:
        stop_child(process)
        stop_child(tracker)


def work(url: httpx.URL, prometheus: httpx.Client) -> None:
    """Half a minute of requests of every kind, good and bad."""
    end = time.monotonic() + 30
    root = f"http://{url.netloc.decode()}"
    with httpx.Client(base_url=root, trust_env=False, timeout=60) as client:
        while time.monotonic() < end:
            assert client.post("/v1/chat/completions", json=CHAT).status_code == 200
            assert client.post("/v1/chat/completions", json=CALL).status_code == 200
            assert client.post("/v1/chat/completions", json={"messages": 1}).status_code == 400
    targets = prometheus.get("/api/v1/targets").json()["data"]["activeTargets"]
    assert {target["health"] for target in targets} == {"up"}, targets


def ask(client: httpx.Client, expr: str) -> list[Any]:
    """An instant query."""
    answer = client.get("/api/v1/query", params={"query": expr}).json()
    assert answer["status"] == "success", json.dumps(answer)
    return list(answer["data"]["result"])


def threshold_free(query: Query) -> str:
    """An alert's expression without its last comparison: what it watches, rather than when it fires."""
    import promql_parser

    node = promql_parser.parse(query.expr)
    while isinstance(node, promql_parser.BinaryExpr) and str(node.op) in (">", "<", "==", "and"):
        node = node.lhs
    return str(node)


@pytest.mark.parametrize("query", queries(), ids=lambda query: f"{query.kind}-{query.where}")
def test_a_query_returns_data(prometheus: httpx.Client, query: Query):
    if query.kind == "alert":
        assert ask(prometheus, threshold_free(query)), query.expr
        ask(prometheus, query.expr)
    else:
        assert ask(prometheus, query.expr), query.expr


def test_the_rules_are_evaluated_without_error(prometheus: httpx.Client):
    rules = [rule for group in prometheus.get("/api/v1/rules").json()["data"]["groups"] for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in groups())
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []
