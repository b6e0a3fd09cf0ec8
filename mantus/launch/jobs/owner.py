"""Who owns a job, so that it goes when the run goes: KFP's workflow, or a ConfigMap that stands for a named run.

Never the launcher's own pod: a launcher that is killed must not take its job along.
"""

import os
from typing import Any

from mantus.launch.kubernetes import in_pod

Body = dict[str, Any]
HANDLE = "mantus-run-"
"""Prefix of the ConfigMap that stands for a run; `kubectl delete configmap mantus-run-NAME` ends the run's jobs."""


def owners_of(core: Any, namespace: str, run: str) -> tuple[Body, ...]:
    """Owner references for a job of this run; none where nothing stands for it."""
    if in_pod() and (name := os.environ.get("HOSTNAME")):
        pod = core.read_namespaced_pod(name, namespace)
        owners = pod.metadata.owner_references or []
        if owners:
            return tuple(_reference(o.api_version, o.kind, o.name, o.uid) for o in owners[:1])
    return (_handle(core, namespace, run),) if run else ()


def _handle(core: Any, namespace: str, run: str) -> Body:
    from kubernetes.client import ApiException

    name = HANDLE + run
    labels = {"app.kubernetes.io/part-of": "mantus", "mantus.dev/run": run}
    body = {"metadata": {"name": name, "labels": labels}, "data": {"run": run}}
    try:
        found = core.create_namespaced_config_map(namespace, body)
    except ApiException as error:
        if error.status != 409:
            raise
        found = core.read_namespaced_config_map(name, namespace)
    return _reference("v1", "ConfigMap", name, found.metadata.uid)


def _reference(api_version: str, kind: str, name: str, uid: str) -> Body:
    return {"apiVersion": api_version, "kind": kind, "name": name, "uid": uid}
