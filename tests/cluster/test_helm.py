"""The chart on the real cluster: installed under Pod Security "restricted", checked, changed, taken back, removed."""

import json
import time
from collections.abc import Iterator
from typing import Any

import pytest

from manifests.generate import CHART
from mantus.storage.objects import StoreError
from tests.cluster import chart
from tests.cluster.chart import RELEASE, Site
from tests.cluster.conftest import kubectl, until
from tests.cluster.helm import HelmError
from tests.e2e.conftest import note

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

NAMESPACE = "mantus-helm"
KEY, DATA = "kept/object", b"data that must stay"


@pytest.fixture(scope="module")
def site(images: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with chart.site(NAMESPACE, images, tmp_path_factory.mktemp("volume")) as made:
        yield made


def found(site: Site) -> bytes:
    """What the store has; nothing while the node does not yet lead the Service's address to the new pod."""
    try:
        return site.store().get(KEY)
    except StoreError:
        return b""


@pytest.fixture(scope="module")
def installed(site: Site) -> dict[str, Any]:
    """The chart, installed."""
    begin = time.monotonic()
    made = site.install()
    note("helm_install", time.monotonic() - begin, "s, until the storage is ready")
    return made


def test_a_typo_is_refused_and_leaves_nothing(site: Site):
    wrong = {**site.values, "storage": {"persistance": {"enabled": False}}}
    with pytest.raises(HelmError, match="persistance"):
        site.helm.call("install", str(CHART), "typo", wrong)
    assert [row["name"] for row in site.helm.call("list", all_states=True)] in ([], [RELEASE])
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
    logs = site.helm.call("test", RELEASE, timeout=240, logs=True)["logs"]
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
    site.helm.call("upgrade", str(CHART), RELEASE, more, timeout=240, wait="watcher")
    assert site.cluster()["nodes"] == 2
    assert site.get("secret", "mantus-s3", "{.data.AWS_SECRET_ACCESS_KEY}") == secret, "credentials stay"
    site.helm.call("rollback", RELEASE, timeout=240, wait="watcher")
    assert site.cluster()["nodes"] == 1
    assert site.get("secret", "mantus-s3", "{.data.AWS_SECRET_ACCESS_KEY}") == secret
    assert [row["revision"] for row in site.helm.call("history", RELEASE)] == [1, 2, 3]
    note("helm_upgrade_and_rollback", 1, "release", ">= 1")


def test_uninstall_leaves_data_and_the_next_installation_finds_it(site: Site, installed: dict[str, Any]):
    site.store().put(KEY, DATA)
    site.helm.call("uninstall", RELEASE, wait="watcher", timeout=240)
    until("the pod is gone", lambda: kubectl("-n", NAMESPACE, "get", "pods", "-o", "name") == "", 60)
    ours = f"--selector=app.kubernetes.io/instance={RELEASE}"
    left = kubectl("-n", NAMESPACE, "get", "all,configmap,secret,role,networkpolicy,pvc", ours, "-o", "name")
    assert left == "persistentvolumeclaim/mantus-storage"
    assert site.get("secret", "mantus-s3", "{.metadata.name}") == ""
    site.install()
    assert until("the storage answers at its address", lambda: found(site), 30) == DATA
    note("helm_uninstall_leaves_data", 1, "object", ">= 1")
