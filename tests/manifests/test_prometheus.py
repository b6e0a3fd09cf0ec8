"""Debian's Prometheus scrapes a real server and a real tracker; every query of rules and dashboards returns data."""

import sys
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from mantus.processes import start_child, stop_child
from mantus.serving.local import free_port
from tests.manifests import prometheus as debians
from tests.manifests.prometheus import ask, watched, work
from tests.manifests.queries import Query, groups, queries

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), debians.needed]

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
    folder, training = tmp_path_factory.mktemp("prometheus"), free_port()
    server = httpx.URL(url).netloc.decode()
    tracker = start_child([sys.executable, "-c", TRAINING, str(folder / "trackers"), str(training)])
    try:
        with debians.prometheus(folder, jobs(server, training)) as client:
            work(f"http://{server}")
            targets = client.get("/api/v1/targets").json()["data"]["activeTargets"]
            assert {target["health"] for target in targets} == {"up"}, targets
            yield client
    finally:
        stop_child(tracker)


@pytest.mark.parametrize("query", queries(), ids=lambda query: f"{query.kind}-{query.where}")
def test_a_query_returns_data(prometheus: httpx.Client, query: Query):
    assert ask(prometheus, watched(query)), query.expr
    ask(prometheus, query.expr)


def test_the_rules_are_evaluated_without_error(prometheus: httpx.Client):
    rules = [rule for group in prometheus.get("/api/v1/rules").json()["data"]["groups"] for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in groups())
    assert {rule["health"] for rule in rules} == {"ok"}
    assert [rule["name"] for rule in rules if rule.get("state") == "firing"] == []
