"""`mantus doctor` against the real cluster: all is there, or one line says what lacks; nothing stays behind."""

import base64
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mantus.storage import open_store
from tests.cluster.conftest import apply, kubectl
from tests.cluster.serving import account_config, runtime, stranger_config
from tests.e2e.conftest import note

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

STORE = "s3://mantus/doctor-probe"


@dataclass(frozen=True)
class Found:
    """What the verb printed."""

    code: int
    rows: list[dict[str, str]]
    seconds: float

    @property
    def lacking(self) -> list[str]:
        """One line for each thing that lacks."""
        return [f"{row['name']}: {row['found']}; {row['way_out']}" for row in self.rows if row["state"] == "lacks"]

    def state(self, name: str) -> str:
        return next((row["state"] for row in self.rows if row["name"] == name), "not checked")


@dataclass(frozen=True)
class Ground:
    """A namespace and the image of its pods."""

    namespace: str
    image: str

    def doctor(self, kubeconfig: Path | None = None, **cluster: Any) -> Found:
        settings = {"executor": "kubernetes", "namespace": self.namespace, "image": self.image, **cluster}
        settings = {"cpu": "100m", "memory": "600Mi", **settings}
        words = ["doctor", "--cluster", json.dumps(settings), "--store", STORE, "--json"]
        environment = {**os.environ, **({"KUBECONFIG": str(kubeconfig)} if kubeconfig else {})}
        start = time.monotonic()
        command = [sys.executable, "-m", "mantus.cli", *words]
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.stderr == ""
        found = Found(done.returncode, json.loads(done.stdout), time.monotonic() - start)
        print(json.dumps(found.rows, indent=1))
        assert found.code == (1 if found.lacking else 0)
        return found

    def left(self) -> list[str]:
        """What a doctor would have left."""
        made = kubectl("-n", self.namespace, "get", "jobs,pods", "-o", "name").split()
        return [name for name in made if "doctor" in name] + [item.name for item in open_store(STORE).list()]


@pytest.fixture(scope="module")
def ground(namespace: str, images: dict[str, str], s3: dict[str, str]) -> Iterator[Ground]:
    with runtime(namespace, images["serve"]):
        yield Ground(namespace, images["mantus"])


@pytest.fixture(autouse=True)
def nothing_stays(ground: Ground) -> Iterator[None]:
    yield
    assert ground.left() == []


def secret(ground: Ground, name: str, **changed: str) -> str:
    """A copy of the S3 secret with other values."""
    stored = json.loads(kubectl("-n", ground.namespace, "get", "secret", "mantus-s3", "-o", "json"))
    data = {**stored["data"], **{key: base64.b64encode(text.encode()).decode() for key, text in changed.items()}}
    apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": name, "namespace": ground.namespace, "annotations": stored["metadata"]["annotations"]},
            "data": data,
        }
    )
    return name


def test_where_all_is_there_it_says_so(ground: Ground):
    found = ground.doctor()
    assert found.lacking == []
    checked = ("api", "namespace", "pytorchjobs", "inferenceservices", "clusterservingruntimes", "runtime", "rights")
    for name in (*checked, "secret", "account", "quota", "store", "pod"):
        assert found.state(name) == "ok", name
    note("doctor_cluster", found.seconds, "s")


def test_the_other_trainer_is_looked_for_when_asked_for(ground: Ground):
    found = ground.doctor(training="trainjob")
    assert found.lacking == []
    assert found.state("trainjobs") == "ok"
    assert found.state("pytorchjobs") == "not checked"


def test_as_the_pipelines_account_the_run_may_start(ground: Ground, tmp_path: Path):
    found = ground.doctor(account_config(ground.namespace, "mantus-pipeline", tmp_path))
    assert found.lacking == []
    assert found.state("rights") == "ok"
    assert found.state("pod") == "ok"


def test_a_user_without_rights_is_one_line(ground: Ground, tmp_path: Path):
    found = ground.doctor(stranger_config(ground.namespace, tmp_path))
    (line,) = found.lacking
    assert line.startswith(f"rights: {ground.namespace}/stranger may not create and get and delete pytorchjobs, ")
    assert f"in namespace {ground.namespace}; have the role mantus-pipeline bound" in line


def test_a_secret_that_is_not_there_is_one_line(ground: Ground):
    (line,) = ground.doctor(secret="none-such").lacking
    assert line.startswith(
        f"secret: none-such is not in namespace {ground.namespace}; install Mantus' chart, or kubectl"
    )


def test_a_secret_with_a_wrong_key_is_one_line(ground: Ground):
    name = secret(ground, "wrong-key", AWS_SECRET_ACCESS_KEY="wrong")
    found = ground.doctor(secret=name)
    (line,) = found.lacking
    assert line.startswith(f"store: {STORE}/doctor/")
    assert "refused (SignatureDoesNotMatch); check bucket and credentials" in line


def test_a_store_that_is_down_is_one_line(ground: Ground):
    name = secret(ground, "down", AWS_ENDPOINT_URL="http://10.97.0.1:1")
    found = ground.doctor(secret=name)
    (line,) = found.lacking
    assert "no answer from http://10.97.0.1:1" in line
    assert found.seconds < 60


@pytest.fixture
def tight(ground: Ground) -> Iterator[None]:
    """A quota with no room for fifty pods."""
    hard = {"pods": "40", "requests.cpu": "40"}
    meta = {"name": "tight", "namespace": ground.namespace}
    apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": meta, "spec": {"hard": hard}})
    yield
    kubectl("-n", ground.namespace, "delete", "resourcequota", "tight")


def test_a_namespace_without_room_in_its_quota_is_one_line(ground: Ground, tight: None):
    (line,) = ground.doctor(nodes=50).lacking
    assert line.startswith("quota: quota tight leaves ")
    assert " of 40 pods, 50 are needed; ask for less" in line
    (line,) = ground.doctor(cpu="").lacking
    assert line == "quota: quota tight wants every pod to say requests.cpu; give cluster.cpu"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"image": "none.example/none:1"}, "image none.example/none:1 cannot be pulled"),
        (
            {"image": "none.example/none:1", "pull_policy": "Never"},
            "its image is not on the node, and pull_policy is Never",
        ),
        ({"memory": "900Gi"}, "finds no node: "),
        ({"service_account": "none-such"}, "account: no service account none-such in namespace"),
        ({"gpus": 1}, "gpus: no node has 1 nvidia.com/gpu: the most is 0"),
        ({"queue": "team"}, "queue: queue team needs Kueue, which the cluster does not have; install Kueue"),
        ({"namespace": "none-such"}, "namespace: none-such does not exist; kubectl create namespace none-such"),
    ],
    ids=["image", "never", "node", "account", "gpu", "queue", "namespace"],
)
def test_what_else_may_lack_is_said_soon(ground: Ground, settings: dict[str, Any], said: str):
    found = ground.doctor(**settings)
    assert any(said in line for line in found.lacking), found.lacking
    assert found.seconds < 60
