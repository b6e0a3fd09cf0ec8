"""Training as jobs of several pods on the real cluster: faults, adoption, ownership, elasticity, TrainJob."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mantus.launch.jobs.spec import JobSpec
from mantus.storage import open_store, read_manifest
from tests.cluster.conftest import kubectl
from tests.conftest import SMALL, TEXT, make_inputs
from tests.e2e.conftest import note
from tests.waiting import wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROGRAM = """
import json, sys
from mantus.launch.cluster import Cluster
from mantus.launch.jobs import make_on_cluster
told = json.loads(sys.argv[1])
try:
    print("MADE", make_on_cluster("pretrain", told["settings"], Cluster(**told["cluster"])).uri, flush=True)
except (RuntimeError, OSError, ValueError) as error:
    sys.exit(f"FAILED {error}")
"""
NODES: dict[str, Any] = {**SMALL, "steps": 300, "processes": 2, "checkpoint_every": 20}


@dataclass(frozen=True)
class Ground:
    """What a launch needs."""

    namespace: str
    image: str
    inputs: dict[str, str]

    def cluster(self, **more: Any) -> dict[str, Any]:
        own = {"executor": "kubernetes", "namespace": self.namespace, "image": self.image, "nodes": 2}
        return {**own, "cpu": "100m", "memory": "1500Mi", **more}

    def start(self, run: str, settings: dict[str, Any] | None = None, **cluster: Any) -> subprocess.Popen[str]:
        """A launcher; its store lies beneath the run's name, so that nothing is found there."""
        told = {
            "settings": {**self.inputs, **NODES, "store": f"s3://mantus/{run}", **(settings or {})},
            "cluster": self.cluster(run=run, **cluster),
        }
        command = [sys.executable, "-c", PROGRAM, json.dumps(told)]
        environment = {**os.environ, "MANTUS_TASK": "pretrain", "MANTUS_EVENTS": "0"}
        return subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )

    def get(self, kind: str, run: str, path: str = "{.items[*].metadata.name}") -> list[str]:
        found = kubectl("-n", self.namespace, "get", kind, "-l", f"mantus.dev/run={run}", "-o", f"jsonpath={path}")
        return str(found).split()

    def committed(self, run: str) -> int:
        marks = [i.name for i in open_store(f"s3://mantus/{run}").list("checkpoint/") if i.name.endswith("COMMITTED")]
        return max((int(mark.split("step-")[1][:9]) for mark in marks), default=0)


@pytest.fixture(scope="module")
def ground(namespace: str, images: dict[str, str], s3: dict[str, str]) -> Ground:
    return Ground(namespace, images["mantus"], make_inputs("s3://mantus/inputs"))


def end(launcher: subprocess.Popen[str], seconds: float = 300) -> tuple[str, str]:
    """(URI made, '') or ('', what went wrong)."""
    output, said = launcher.communicate(timeout=seconds)
    print(said)
    if launcher.returncode == 0:
        return output.split("MADE ")[1].strip(), ""
    return "", said.split("FAILED ")[-1].strip()


def weights(uri: str) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in read_manifest(uri).files}


@pytest.fixture(scope="module")
def undisturbed(ground: Ground) -> dict[str, str]:
    begin = time.monotonic()
    uri, wrong = end(ground.start("calm"))
    assert not wrong
    note("pytorchjob_two_pods", time.monotonic() - begin, "s, 300 steps of a tiny model")
    return weights(uri)


def test_a_worker_deleted_in_the_middle_changes_nothing_in_the_end(ground: Ground, undisturbed: dict[str, str]):
    launcher = ground.start("fault")
    assert wait_for(lambda: ground.committed("fault") >= 60 or launcher.poll() is not None, 180)
    worker = next(name for name in ground.get("pods", "fault") if "worker" in name)
    kubectl("-n", ground.namespace, "delete", "pod", worker, "--wait=false")
    uri, wrong = end(launcher)
    assert not wrong
    assert weights(uri) == undisturbed  # history.jsonl, the loss curve, is one of the files
    note("worker_deleted_loss_curve_equal", 1, "run", ">= 1")


def test_a_killed_launcher_leaves_its_job_and_the_next_one_adopts_it(ground: Ground, undisturbed: dict[str, str]):
    first = ground.start("adopt")
    assert wait_for(lambda: ground.committed("adopt") >= 20 or first.poll() is not None, 180)
    uid = ground.get("pytorchjobs", "adopt", "{.items[*].metadata.uid}")
    os.killpg(first.pid, signal.SIGKILL)
    first.communicate()
    second = ground.start("adopt")
    output, said = second.communicate(timeout=300)
    assert "is there already; following it" in said
    assert ground.get("pytorchjobs", "adopt", "{.items[*].metadata.uid}") == uid
    assert weights(output.split("MADE ")[1].strip()) == undisturbed
    note("killed_launcher_adopted", 1, "run", ">= 1")


def test_sigterm_to_the_launcher_ends_the_job(ground: Ground):
    launcher = ground.start("term")
    assert wait_for(lambda: bool(ground.get("pods", "term")), 60)
    launcher.terminate()
    launcher.communicate(timeout=120)
    assert launcher.returncode == 143
    assert ground.get("pytorchjobs", "term") == []
    assert wait_for(lambda: ground.get("pods", "term") == [], 90)


def test_when_the_run_is_deleted_its_job_and_pods_go(ground: Ground):
    launcher = ground.start("gone")
    assert wait_for(lambda: len(ground.get("pods", "gone")) == 2, 60)
    kubectl("-n", ground.namespace, "delete", "configmap", "mantus-run-gone")
    _, wrong = end(launcher, 120)
    assert "was deleted by someone else" in wrong
    assert wait_for(lambda: ground.get("pods", "gone") == [], 90)


def test_an_exception_in_rank_1_fails_the_step_and_its_message_carries_the_traceback(ground: Ground):
    """The worker's pod alone is told of a batch that its tokens do not fill."""
    from mantus.launch.cluster import Cluster
    from mantus.launch.jobs import launcher as module
    from mantus.launch.jobs.pytorchjob import PyTorchJob

    class Uneven(PyTorchJob):
        def body(self, spec: JobSpec, namespace: str) -> dict[str, Any]:
            made = super().body(spec, namespace)
            worker = made["spec"]["pytorchReplicaSpecs"]["Worker"]["template"]["spec"]["containers"][0]
            told = {**spec.settings, "batch_tokens": 10_000_000}
            worker["env"][0]["value"] = json.dumps({"verb": spec.verb, "settings": told})
            return made

    settings = {**ground.inputs, **NODES, "store": "s3://mantus/rank1"}
    spec = module.plan("pretrain", "pretrain", settings, "f" * 32, Cluster(**ground.cluster(run="rank1")))
    launch = module.Launch(spec)
    launch.kind = Uneven()
    with pytest.raises(RuntimeError) as caught:
        launch.run()
    text = str(caught.value)
    print(text)
    assert "worker-0" in text
    assert "ValueError: tokens:" in text
    assert "Traceback (most recent call last)" in text
    assert ground.get("pytorchjobs", "rank1") == []


@pytest.mark.parametrize(
    ("run", "wrongly", "expected"),
    [
        ("noimage", {"image": "localhost/absent-python:9"}, "cannot be pulled"),
        ("nonode", {"node_selector": {"mantus.dev/none": "x"}}, "finds no node"),
        ("nosecret", {"secret": "absent"}, 'secret "absent" not found'),
        ("noaccount", {"service_account": "absent"}, "absent"),
        ("toomuch", {"memory": "900Gi"}, "finds no node"),
    ],
)
def test_pods_that_cannot_start_are_reported_within_a_minute(ground: Ground, run: str, wrongly: dict, expected: str):
    begin = time.monotonic()
    _, wrong = end(ground.start(run, **wrongly), 120)
    seconds = time.monotonic() - begin
    assert expected in wrong
    assert "\n" not in wrong
    assert seconds < 75, "60 s from the event, and what a launcher takes to start"
    note(f"reported_{run}", seconds, "s", "< 75")
    assert ground.get("pytorchjobs", run) == []


def test_elastic_it_shrinks_and_grows_and_goes_on_at_the_exact_token(ground: Ground):
    long = {"steps": 900, "checkpoint_every": 30}
    launcher = ground.start("elastic", long, min_nodes=1)
    job = lambda: ground.get("pytorchjobs", "elastic")[0]  # noqa: E731

    def scale(replicas: int) -> None:
        patch = json.dumps({"spec": {"pytorchReplicaSpecs": {"Worker": {"replicas": replicas}}}})
        kubectl("-n", ground.namespace, "patch", "pytorchjob", job(), "--type=merge", "-p", patch)

    assert wait_for(lambda: ground.committed("elastic") >= 60 or launcher.poll() is not None, 180)
    scale(1)
    at = ground.committed("elastic")
    assert wait_for(lambda: ground.committed("elastic") >= at + 90 or launcher.poll() is not None, 240)
    scale(2)
    uri, wrong = end(launcher, 400)
    assert not wrong
    history = open_store(uri).get("history.jsonl").decode().splitlines()
    rows = [json.loads(line) for line in history]
    steps = [row["step"] for row in rows if "loss" in row]
    assert steps == list(range(1, 901)), "every step once, none lost or repeated"
    assert read_manifest(uri).stats["tokens"] == 900 * SMALL["batch_tokens"]
    note("elastic_steps_once", len(steps), "steps", ">= 900")


def test_a_trainjob_of_two_nodes_makes_the_same_weights(ground: Ground, undisturbed: dict[str, str]):
    uri, wrong = end(ground.start("trainjob", training="trainjob"))
    assert not wrong
    assert weights(uri) == undisturbed
    note("trainjob_same_weights", 1, "run", ">= 1")


def test_under_a_queue_the_job_waits_suspended_until_it_is_admitted(ground: Ground, undisturbed: dict[str, str]):
    launcher = ground.start("queued", queue="team-a")
    assert wait_for(lambda: bool(ground.get("pytorchjobs", "queued")), 60)
    time.sleep(5)
    assert ground.get("pods", "queued") == []
    name = ground.get("pytorchjobs", "queued")[0]
    label = kubectl("-n", ground.namespace, "get", "pytorchjob", name, "-o", "jsonpath={.metadata.labels}")
    assert json.loads(label)["kueue.x-k8s.io/queue-name"] == "team-a"
    admitted = '{"spec":{"runPolicy":{"suspend":false}}}'  # what Kueue does
    kubectl("-n", ground.namespace, "patch", "pytorchjob", name, "--type=merge", "-p", admitted)
    uri, wrong = end(launcher)
    assert not wrong
    assert weights(uri) == undisturbed


def test_a_data_phase_is_an_indexed_job_whose_pods_share_the_work(ground: Ground, tmp_path: Path):
    from mantus.data.collect import CollectConfig
    from mantus.data.collect import run as collect
    from mantus.launch.cluster import Cluster
    from mantus.launch.jobs import make_on_cluster

    store = open_store("s3://mantus/sources")
    for number in range(4):
        store.put(f"{number}.txt", (TEXT.format(n=number) * 200).encode())
    sources = [{"type": "text", "path": f"s3://mantus/sources/{n}.txt", "license": "CC0-1.0"} for n in range(4)]
    cluster = Cluster(**ground.cluster(run="indexed", shards=3))
    made = make_on_cluster("collect", {"store": "s3://mantus/indexed", "sources": sources}, cluster)
    alone = collect(CollectConfig(store=tmp_path.as_uri(), sources=sources))
    assert weights(made.uri) == {entry.path: entry.sha256 for entry in alone.files}
    assert not list(open_store("s3://mantus/indexed").list("shares/"))
