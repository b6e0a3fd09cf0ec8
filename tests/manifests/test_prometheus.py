"""Debian's Prometheus scrapes a real server and a real tracker; every query of rules and dashboards returns data."""

from collections.abc import Iterator

import httpx
import pytest

from mantus.processes import start_child, stop_child
from mantus.serving.local import free_port
from tests.manifests import prometheus as debians
from tests.manifests.prometheus import ask, jobs, watched, work
from tests.manifests.queries import Query, groups, queries

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), debians.needed]


@pytest.fixture(scope="module")
def prometheus(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """Prometheus with the chart's rules over a server that works and a training that goes on."""
    folder, training = tmp_path_factory.mktemp("prometheus"), free_port()
    server = httpx.URL(url).netloc.decode()
    tracker = start_child(debians.tracker(folder, training))
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
