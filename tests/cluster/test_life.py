"""A model's whole life on a cluster, from `helm install` to a chat with a tool and what Prometheus saw of it.

`python -m pytest -m slow tests/cluster/test_life.py` is the one command; run by an account that may do no more than the
chart allows it.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from mantus.storage import open_store, read_manifest
from tests.cluster import chart
from tests.cluster.chart import RELEASE, Site
from tests.cluster.conftest import ROOT, SPENT, get, kubectl, spent
from tests.cluster.monitoring import scrape_configs
from tests.cluster.serving import account_config
from tests.e2e.conftest import note
from tests.manifests import prometheus as debians
from tests.manifests.prometheus import CALL, ask, watched, work
from tests.manifests.queries import Query, groups, queries

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

NAMESPACE, RUN = "mantus-life", "nano"
STORE = "s3://mantus/life"
BUDGET_S = 1500
CLUSTER = {"nodes": 2, "shards": 2, "cpu": "100m", "memory": "1500Mi"}
SERVER = {"name": "talker", "cpu": "100m", "cpu_limit": "2", "memory": "1200Mi", "drain_s": 5}


@dataclass(frozen=True)
class Life:
    """What is left of a run when it has ended: URIs of its artifacts, its duration, a Prometheus that watched it."""

    artifacts: dict[str, str]
    output: str
    seconds: float
    prometheus: httpx.Client | None

    @property
    def root(self) -> str:
        """The address of the model's Service."""
        name = f"{SERVER['name']}-predictor"
        return f"http://{kubectl('-n', NAMESPACE, 'get', 'service', name, '-o', 'jsonpath={.spec.clusterIP}')}"


@pytest.fixture(scope="module")
def site(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("volume")
    with chart.site(NAMESPACE, images, folder, cluster=CLUSTER) as made, pytest.MonkeyPatch.context() as patch:
        with spent("chart"):
            made.install()
            made.helm.call("test", RELEASE, timeout=240, logs=True)
        for name, value in made.environment().items():
            patch.setenv(name, value)
        yield made


@pytest.fixture(scope="module")
def life(site: Site, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Life]:
    """The run, with Prometheus over its pods where there is one."""
    folder = tmp_path_factory.mktemp("life")
    account = account_config(NAMESPACE, "mantus-pipeline", folder)
    if debians.PROGRAM is None:
        yield run(site, folder, account, None)
        return
    with scrape_configs(NAMESPACE, folder) as configs, debians.prometheus(folder, configs) as client:
        yield run(site, folder, account, client)


def run(site: Site, folder: Path, account: Path, prometheus: httpx.Client | None) -> Life:
    cluster = {**site.cluster(), "executor": "kubernetes", "namespace": NAMESPACE}
    deploy = {**SERVER, "namespace": NAMESPACE, "runtime": NAMESPACE, "storage_container": NAMESPACE}
    words = ["run", "--config", str(ROOT / "recipes" / "cluster.yaml"), "--store", STORE, "--name", RUN]
    words += ["--cluster", json.dumps(cluster), "--home", str(folder / "home")]
    words += [word for name, value in deploy.items() for word in ("--set", f"deploy.{name}={value}")]
    command = [sys.executable, "-m", "mantus.cli", *words]
    begin = time.monotonic()
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "KUBECONFIG": str(account)})
    seconds = time.monotonic() - begin
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stderr[-2000:]
    artifacts = json.loads((folder / "home" / "runs" / "latest" / "artifacts.json").read_text())
    return Life(artifacts, done.stdout, seconds, prometheus)


def test_one_command_leads_from_an_empty_cluster_to_a_chat_with_a_tool(life: Life):
    answer = httpx.post(f"{life.root}/v1/chat/completions", json=CALL, timeout=60, trust_env=False)
    assert answer.status_code == 200
    calls = answer.json()["choices"][0]["message"]["tool_calls"]  # one or more: nothing forbids several
    assert {call["function"]["name"] for call in calls} == {"add"}
    assert all(set(json.loads(call["function"]["arguments"])) == {"a", "b"} for call in calls)
    seconds = life.seconds + sum(SPENT[part] for part in ("cluster", "images", "chart"))
    note("cluster_life", seconds, "s, from the cluster's and the images' state at the start", f"<= {BUDGET_S}")


def test_phases_ran_as_jobs_of_their_kind(life: Life):
    jobs = get("-n", NAMESPACE, "jobs", "-l", f"mantus.dev/run={RUN}")["items"]
    shares = {job["metadata"]["labels"]["mantus.dev/phase"]: job["spec"]["completions"] for job in jobs}
    assert shares.items() >= {"collect": 2, "clean": 2, "dedup": 2, "tokenizer": 1, "release": 1, "agent": 1}.items()
    trained = get("-n", NAMESPACE, "pytorchjobs", "-l", f"mantus.dev/run={RUN}")["items"]
    replicas = {
        job["metadata"]["labels"]["mantus.dev/phase"]: sum(
            part["replicas"] for part in job["spec"]["pytorchReplicaSpecs"].values()
        )
        for job in trained
    }
    assert replicas == {"pretrain": 2, "sft-chat": 2, "sft-tools": 2}
    assert all(job["status"]["conditions"][-1]["type"] == "Succeeded" for job in trained)


def test_the_service_says_what_it_serves(life: Life):
    service = get("-n", NAMESPACE, "inferenceservice", str(SERVER["name"]))
    assert service["metadata"]["annotations"]["mantus.dev/release-key"] == read_manifest(life.artifacts["release"]).key
    assert {part["status"] for part in service["status"]["conditions"] if part["type"] == "Ready"} == {"True"}


def test_a_second_run_finds_everything_made(life: Life, site: Site, tmp_path: Path):
    again = run(site, tmp_path, account_config(NAMESPACE, "mantus-pipeline", tmp_path), None)
    assert {**again.artifacts, "deploy": ""} == {**life.artifacts, "deploy": ""}
    assert again.output.count(" cached ") >= len([name for name in life.artifacts if name != "deploy"])
    note("cluster_life_again", again.seconds, "s, every phase cached, the service unchanged", "<= 60")


def when_trained(prometheus: httpx.Client) -> float:
    """The last moment at which a pod's loss was seen; it is gone with its pod."""
    span = {"query": "mantus_train_loss", "start": str(time.time() - 3600), "end": str(time.time()), "step": "1"}
    (found, *_) = prometheus.get("/api/v1/query_range", params=span).json()["data"]["result"]
    return float(found["values"][-1][0])


@pytest.mark.skipif(debians.PROGRAM is None, reason="no prometheus here: apt-get install prometheus")
def test_every_query_returns_data_of_the_pods(life: Life):
    assert life.prometheus
    work(life.root)
    at = when_trained(life.prometheus)

    def data(query: Query) -> list[Any]:
        assert life.prometheus
        return ask(life.prometheus, watched(query), at if "train" in query.expr else None)

    asked = [query for query in queries() if query.kind != "trigger"]  # KEDA's names the chart's own service
    empty = [f"{query.kind} {query.where}: {query.expr}" for query in asked if not data(query)]
    assert empty == []
    note("prometheus_queries_with_data", len(asked), "queries", ">= 1")


@pytest.mark.skipif(debians.PROGRAM is None, reason="no prometheus here: apt-get install prometheus")
def test_rules_are_evaluated_over_the_pods_without_error(life: Life):
    assert life.prometheus
    found = life.prometheus.get("/api/v1/rules").json()["data"]["groups"]
    rules = [rule for group in found for rule in group["rules"]]
    assert len(rules) == sum(len(group["rules"]) for group in groups())
    assert {rule["health"] for rule in rules} == {"ok"}


def test_the_store_holds_no_half_written_thing(life: Life):
    left = [item.name for item in open_store(STORE).list("shares/")]
    assert left == []
