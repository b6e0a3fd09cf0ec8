"""Every pod is admitted under Pod Security "restricted", and the checker that says so sees what is not."""

import copy
from typing import Any

import pytest

from tests.manifests.conftest import find, objects_of
from tests.manifests.pods import offences, pod_specs

pytestmark = pytest.mark.slow


def test_every_pod_is_restricted(objects: tuple[dict[str, Any], ...]):
    found = [(where, offences(spec)) for item in objects for where, spec in pod_specs(item)]
    assert found
    assert [row for row in found if row[1]] == []


def test_every_container_says_what_it_takes(objects: tuple[dict[str, Any], ...]):
    for item in objects:
        for where, spec in pod_specs(item):
            for container in spec["containers"]:
                assert container["resources"]["requests"], where
                assert container["resources"]["limits"]["memory"], where


BREAKS = {
    "hostNetwork": {"hostNetwork": True},
    "volume data": {"volumes": [{"name": "data", "hostPath": {"path": "/"}}]},
    "runAsNonRoot": {"securityContext": {"runAsNonRoot": False}},
    "runAsUser 0": {"securityContext": {"runAsUser": 0}},
    "seccompProfile": {"securityContext": {"seccompProfile": {"type": "Unconfined"}}},
    "allowPrivilegeEscalation": {"allowPrivilegeEscalation": True},
    "capabilities": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}},
    "privileged": {"privileged": True},
    "readOnlyRootFilesystem": {"readOnlyRootFilesystem": False},
    "procMount": {"procMount": "Unmasked"},
}


@pytest.mark.parametrize("what", BREAKS)
def test_the_checker_sees(what: str):
    spec = copy.deepcopy(find(objects_of("default"), "Deployment", "mantus-storage")["spec"]["template"]["spec"])
    assert offences(spec) == []
    change = BREAKS[what]
    if set(change) <= {"hostNetwork", "volumes"}:
        spec.update(change)
    else:
        spec["containers"][0]["securityContext"].update(change.get("securityContext", change))
    assert any(what in line for line in offences(spec))


def test_the_checker_finds_templates_at_any_depth():
    inner = {"template": {"spec": {"containers": [{"name": "c"}]}}}
    job = {"kind": "PyTorchJob", "metadata": {"name": "j"}, "spec": {"pytorchReplicaSpecs": {"Master": inner}}}
    ((where, spec),) = pod_specs(job)
    assert where == "PyTorchJob/j"
    assert "c: runAsNonRoot" in offences(spec)
