"""What the other tests stand on: the images in pods under Pod Security "restricted", a store within their reach."""

import copy
import json

import pytest

from mantus.storage import open_store, read_manifest
from tests.cluster.conftest import apply, ended, kubectl
from tests.cluster.objects import pod

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

TEXT = "The man went up the stairs, slowly.\n"


def test_a_pod_makes_a_phase_in_the_store(namespace: str, images: dict[str, str]):
    open_store("s3://mantus/ground").put("one.txt", (TEXT * 50).encode())
    source = {"type": "text", "path": "s3://mantus/ground/one.txt", "license": "CC0-1.0"}
    task = {"verb": "collect", "settings": {"store": "s3://mantus/ground", "sources": [source]}}
    command = ["python", "-m", "mantus.launch.jobs.pod"]
    environment = [{"name": "MANTUS_TASK_SPEC", "value": json.dumps(task)}]
    apply(pod("collect", namespace, images["mantus"], command, env=environment))
    phase, log = ended(namespace, "collect")
    assert phase == "Succeeded", log
    (found,) = [item.name for item in open_store("s3://mantus/ground").list("corpus/") if "manifest.json" in item.name]
    assert read_manifest(f"s3://mantus/ground/{found.removesuffix('/manifest.json')}").stats


def test_the_server_starts_without_rights(namespace: str, images: dict[str, str]):
    apply(pod("version", namespace, images["serve"], ["mantus", "--version"]))
    phase, log = ended(namespace, "version")
    assert (phase, log.split()[0]) == ("Succeeded", "mantus")


def test_what_is_not_restricted_is_refused(namespace: str, images: dict[str, str]):
    loose = copy.deepcopy(pod("loose", namespace, images["mantus"], ["mantus"]))
    loose["spec"]["securityContext"]["runAsNonRoot"] = False
    with pytest.raises(AssertionError, match=r'violates PodSecurity "restricted'):
        apply(loose)


@pytest.mark.parametrize(
    ("account", "verb", "resource", "allowed"),
    [
        ("mantus-pipeline", "create", "pytorchjobs.kubeflow.org", True),
        ("mantus-pipeline", "create", "pods", False),
        ("mantus-pipeline", "list", "secrets", False),
        ("mantus-worker", "get", "pods", False),
        ("mantus-serving", "get", "secrets", False),
    ],
)
def test_who_may_do_what(namespace: str, account: str, verb: str, resource: str, allowed: bool):
    who = f"--as=system:serviceaccount:{namespace}:{account}"
    answer = kubectl("-n", namespace, "auth", "can-i", verb, resource, who, check=False)
    assert answer == ("yes" if allowed else "no")
