"""The chart on the real cluster: installed under Pod Security "restricted", checked, changed, taken back, removed."""

import base64
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from manifests.generate import CHART
from mantus.storage.objects import S3Store, StoreError, s3_client
from tests.cluster.conftest import apply, kubectl, until
from tests.cluster.objects import Object, restricted
from tests.e2e.conftest import note

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMESPACE, RELEASE = "mantus-helm", "mantus"
BUCKET, KEY, DATA = "mantus", "kept/object", b"data that must stay"


@dataclass(frozen=True)
class Site:
    """A namespace for the chart and Helm's own library, version 4."""

    helm: Any
    values: dict[str, Any]

    def get(self, kind: str, name: str, path: str) -> str:
        """One field of an object; '' when there is no such object."""
        return str(kubectl("-n", NAMESPACE, "get", kind, name, "--ignore-not-found", "-o", f"jsonpath={path}"))

    def store(self) -> S3Store:
        """The trial storage, by the address of its Service and the credentials of its secret."""
        encoded = json.loads(self.get("secret", "mantus-s3", "{.data}"))
        keys = {name: base64.b64decode(value).decode() for name, value in encoded.items()}
        address = f"http://{self.get('service', 'mantus-storage', '{.spec.clusterIP}')}:8333"
        return S3Store(BUCKET, "", s3_client({**keys, "AWS_ENDPOINT_URL": address}))

    def cluster(self) -> dict[str, Any]:
        """The settings in the config map."""
        found: dict[str, Any] = json.loads(self.get("configmap", "mantus-config", "{.data.MANTUS_CLUSTER}"))
        return found

    def install(self) -> dict[str, Any]:
        """As `helm install --wait` does."""
        made: dict[str, Any] = self.helm.install(str(CHART), RELEASE, self.values, timeout=240, wait="watcher")
        return made


@pytest.fixture(scope="module")
def site(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A namespace that enforces "restricted", and a volume of this machine: the cluster has no provisioner."""
    from helm_python import Config

    kubectl("delete", "namespace", NAMESPACE, "--ignore-not-found", "--timeout=120s")
    kubectl("delete", "pv", "mantus-helm", "--ignore-not-found", "--timeout=60s")
    folder = tmp_path_factory.mktemp("volume")
    folder.chmod(0o777)
    apply(restricted(NAMESPACE), volume(folder))
    values = {
        "images": {"registry": "localhost", "python": image(images["mantus"]), "serve": image(images["serve"])},
        "storage": {"persistence": {"storageClass": "-", "size": "1Gi"}},
        # Other tests have cluster-wide objects of the usual names.
        "serving": {"cpu": {"name": NAMESPACE}, "initializer": {"name": NAMESPACE}},
    }
    with Config(kubeconfig_path=os.environ["KUBECONFIG"], namespace=NAMESPACE) as helm:
        yield Site(helm, values)
        with suppress(Exception):
            helm.uninstall(RELEASE, ignore_not_found=True, wait="watcher", timeout=120)
    kubectl("delete", "namespace", NAMESPACE, "--timeout=120s")
    kubectl("delete", "pv", "mantus-helm", "--ignore-not-found", "--timeout=60s")


def found(site: Site) -> bytes:
    """What the store has; nothing while the node does not yet lead the Service's address to the new pod."""
    try:
        return site.store().get(KEY)
    except StoreError:
        return b""


def image(name: str) -> dict[str, str]:
    """localhost/NAME:TAG as the chart's values have it."""
    repository, _, tag = name.removeprefix("localhost/").partition(":")
    return {"repository": repository, "tag": tag}


def volume(folder: Path) -> Object:
    """A persistent volume for the chart's claim."""
    spec = {
        "capacity": {"storage": "1Gi"},
        "accessModes": ["ReadWriteOnce"],
        "persistentVolumeReclaimPolicy": "Retain",
        "storageClassName": "",
        "claimRef": {"namespace": NAMESPACE, "name": "mantus-storage"},
        "hostPath": {"path": str(folder)},
    }
    return {"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "mantus-helm"}, "spec": spec}


@pytest.fixture(scope="module")
def installed(site: Site) -> dict[str, Any]:
    """The chart, installed."""
    begin = time.monotonic()
    made = site.install()
    note("helm_install", time.monotonic() - begin, "s, until the storage is ready")
    return made


def test_a_typo_is_refused_and_leaves_nothing(site: Site):
    from helm_python import HelmError

    wrong = {**site.values, "storage": {"persistance": {"enabled": False}}}
    with pytest.raises(HelmError, match="persistance"):
        site.helm.install(str(CHART), "typo", wrong)
    assert [row["name"] for row in site.helm.list(all_states=True)] in ([], [RELEASE])
    note("helm_typo_refused", 1, "release", ">= 1")


def test_everything_is_admitted_and_ready(site: Site, installed: dict[str, Any]):
    ready = site.get("deployment", "mantus-storage", "{.status.readyReplicas}")
    assert ready == "1"
    level = kubectl("get", "namespace", NAMESPACE, "-o", "jsonpath={.metadata.labels}")
    assert json.loads(level)["pod-security.kubernetes.io/enforce"] == "restricted"
    refused = kubectl("-n", NAMESPACE, "get", "events", "--field-selector=reason=FailedCreate", "-o", "name")
    assert refused == ""
    assert kubectl("get", "clusterservingruntime", NAMESPACE, "-o", "jsonpath={.spec.supportedModelFormats[0].name}")
    assert kubectl("get", "clusterstoragecontainer", NAMESPACE, "-o", "jsonpath={.spec.workloadType}")


def test_helm_test_passes(site: Site, installed: dict[str, Any]):
    begin = time.monotonic()
    logs = site.helm.test(RELEASE, timeout=240, logs=True)["logs"]
    print(logs)
    assert "s3://mantus: an object was written, read and removed" in logs
    assert "has the rights it needs, and none of those it must not have" in logs
    assert f"{NAMESPACE}: serves mantus with localhost/" in logs
    note("helm_test", time.monotonic() - begin, "s")


@pytest.mark.parametrize(
    ("account", "verb", "what", "allowed"),
    [
        ("mantus-pipeline", "create", "pytorchjobs.kubeflow.org", True),
        ("mantus-pipeline", "create", "inferenceservices.serving.kserve.io", True),
        ("mantus-pipeline", "get", "secrets/mantus-s3", True),
        ("mantus-pipeline", "get", "secrets/other", False),
        ("mantus-pipeline", "create", "pods", False),
        ("mantus-worker", "get", "pods", False),
        ("mantus-worker", "get", "secrets/mantus-s3", False),
        ("mantus-serving", "get", "secrets/mantus-s3", False),
    ],
)
def test_accounts_may_do_what_they_must(site: Site, installed, account: str, verb: str, what: str, allowed: bool):
    who = f"--as=system:serviceaccount:{NAMESPACE}:{account}"
    said = kubectl("-n", NAMESPACE, "auth", "can-i", verb, what, who, check=False)
    assert str(said).startswith("yes" if allowed else "no")


def test_upgrade_and_rollback(site: Site, installed: dict[str, Any]):
    secret = site.get("secret", "mantus-s3", "{.data.AWS_SECRET_ACCESS_KEY}")
    more = {**site.values, "cluster": {"nodes": 2}}
    site.helm.upgrade(str(CHART), RELEASE, more, timeout=240, wait="watcher")
    assert site.cluster()["nodes"] == 2
    assert site.get("secret", "mantus-s3", "{.data.AWS_SECRET_ACCESS_KEY}") == secret, "credentials stay"
    site.helm.rollback(RELEASE, timeout=240, wait="watcher")
    assert site.cluster()["nodes"] == 1
    assert site.get("secret", "mantus-s3", "{.data.AWS_SECRET_ACCESS_KEY}") == secret
    assert [row["revision"] for row in site.helm.history(RELEASE)] == [1, 2, 3]
    note("helm_upgrade_and_rollback", 1, "release", ">= 1")


def test_uninstall_leaves_data_and_the_next_installation_finds_it(site: Site, installed: dict[str, Any]):
    site.store().put(KEY, DATA)
    site.helm.uninstall(RELEASE, wait="watcher", timeout=240)
    until("the pod is gone", lambda: kubectl("-n", NAMESPACE, "get", "pods", "-o", "name") == "", 60)
    ours = f"--selector=app.kubernetes.io/instance={RELEASE}"
    left = kubectl("-n", NAMESPACE, "get", "all,configmap,secret,role,networkpolicy,pvc", ours, "-o", "name")
    assert left == "persistentvolumeclaim/mantus-storage"
    assert site.get("secret", "mantus-s3", "{.metadata.name}") == ""
    site.install()
    assert until("the storage answers at its address", lambda: found(site), 30) == DATA
    note("helm_uninstall_leaves_data", 1, "object", ">= 1")
