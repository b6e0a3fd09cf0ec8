"""The InferenceService of a release: its body, and the API's verbs on it.

It knows KServe's v1beta1, not when to call what.
"""

import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any

from mantus.launch import kubernetes
from mantus.launch.deploy.config import DeployConfig
from mantus.launch.deploy.release import Release
from mantus.launch.jobs.spec import CONTAINER_SECURITY, POD_SECURITY, Body

GROUP, VERSION, PLURAL = "serving.kserve.io", "v1beta1", "inferenceservices"
MANAGER = "mantus-deploy"
"""Field manager of server-side apply: what others set on the object stays."""
DIGEST = "mantus.dev/digest"
"""Annotation of service and pods: which pods are of the wanted revision."""
KEY = "mantus.dev/release-key"
ENDING_S = 35
"""What the server needs for its open requests once it is told to end."""
SCALE_AT = 80
DELETE_TIMEOUT_S = 180


def service_body(config: DeployConfig, release: Release, namespace: str, canary: bool = False) -> Body:
    """The InferenceService; as canary one server beside it, under a name of its own."""
    name = f"{config.name}-canary" if canary else config.name
    labels = {
        "app.kubernetes.io/name": "mantus",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": "serving",
        "app.kubernetes.io/part-of": "mantus",
        "app.kubernetes.io/managed-by": "mantus-launcher",
        "mantus.dev/phase": "deploy",
        "mantus.dev/key": release.key[:12],
    }
    annotations = {
        "serving.kserve.io/deploymentMode": "Standard",
        "serving.kserve.io/autoscalerClass": "hpa" if config.max_replicas and not canary else "none",
        **release.lineage,
    }
    predictor = _predictor(config.model_copy(update={"drain_s": 1}) if canary else config, release)
    digest = hashlib.blake2b(json.dumps([labels, annotations, predictor], sort_keys=True).encode(), digest_size=8)
    return {
        "apiVersion": f"{GROUP}/{VERSION}",
        "kind": "InferenceService",
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": labels,
            "annotations": {**annotations, DIGEST: digest.hexdigest()},
        },
        "spec": {"predictor": {**predictor, **({"minReplicas": 1} if canary else _scale(config))}},
    }


def _predictor(config: DeployConfig, release: Release) -> Body:
    """All but the number of servers: a change here means new pods."""
    optional: Body = {
        "storageContainerName": config.storage_container,
        "nodeSelector": config.node_selector,
        "tolerations": config.tolerations,
        "priorityClassName": config.priority_class,
    }
    return {
        "serviceAccountName": config.service_account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": config.drain_s + ENDING_S,
        "deploymentStrategy": {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}},
        "securityContext": POD_SECURITY,
        **{name: value for name, value in optional.items() if value},
        "model": {
            "modelFormat": {"name": "mantus", "version": "1"},
            "runtime": config.runtime,
            "storageUri": release.storage_uri,
            "resources": _resources(config),
            "terminationMessagePolicy": "FallbackToLogsOnError",
            "lifecycle": {"preStop": {"sleep": {"seconds": config.drain_s}}},
            "securityContext": CONTAINER_SECURITY,
        },
    }


def _resources(config: DeployConfig) -> Body:
    """Both limits are always said: KServe would fill in its own."""
    limits = {"cpu": config.cpu_limit or config.cpu, "memory": config.memory}
    if config.gpus:
        limits["nvidia.com/gpu"] = str(config.gpus)
    return {"requests": {"cpu": config.cpu, "memory": config.memory}, "limits": limits}


def _scale(config: DeployConfig) -> Body:
    if not config.max_replicas:
        return {"minReplicas": config.replicas}
    return {
        "minReplicas": config.replicas,
        "maxReplicas": config.max_replicas,
        "scaleMetric": "cpu",
        "scaleTarget": SCALE_AT,
    }


def same(stored: Body, wanted: Body) -> bool:
    """Whether applying would change nothing; `wanted` as the API answered a dry run."""
    labels, annotations = (
        [item["metadata"].get(part) for item in (stored, wanted)] for part in ("labels", "annotations")
    )
    return bool(stored["spec"] == wanted["spec"] and labels[0] == labels[1] and annotations[0] == annotations[1])


def restorable(stored: Body) -> Body:
    """What to apply to have a stored object back."""
    kept = {name: stored["metadata"].get(name) or {} for name in ("name", "namespace", "labels", "annotations")}
    return {"apiVersion": stored["apiVersion"], "kind": stored["kind"], "metadata": kept, "spec": stored["spec"]}


def annotation(item: Body, name: str) -> str:
    """An object's annotation, '' without it."""
    return str((item["metadata"].get("annotations") or {}).get(name, ""))


@dataclass
class Services:
    """The InferenceServices of one namespace, and their pods."""

    namespace: str
    client: Any = field(default_factory=kubernetes.connect)

    def __post_init__(self) -> None:
        from kubernetes import client

        self.core, self._objects = client.CoreV1Api(self.client), client.CustomObjectsApi(self.client)

    def get(self, name: str) -> Body | None:
        """The stored object, None when there is none."""
        return kubernetes.get_object(self._objects, GROUP, VERSION, self.namespace, PLURAL, name)

    def apply(self, body: Body, dry_run: bool = False) -> Body:
        """Server-side apply; the object as the API has it now, or would have it."""
        path = f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{PLURAL}/{body['metadata']['name']}"
        query = [("fieldManager", MANAGER), ("force", "true"), ("fieldValidation", "Strict")]
        headers = {"Content-Type": "application/apply-patch+yaml", "Accept": "application/json"}
        stored: Body = self.client.call_api(
            path,
            "PATCH",
            query_params=[*query, *([("dryRun", "All")] if dry_run else [])],
            header_params=headers,
            body=body,
            response_type="object",
            auth_settings=["BearerToken"],
            _return_http_data_only=True,
        )
        return stored

    def delete(self, name: str) -> None:
        """Remove a service, and wait until it and its pods are gone."""
        with kubernetes.absence_is_fine():
            self._objects.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, PLURAL, name)
        end = time.monotonic() + DELETE_TIMEOUT_S
        while (self.get(name) or self.pods(name)) and time.monotonic() < end:
            time.sleep(0.5)

    def pods(self, name: str) -> list[Body]:
        """The pods of a service, as plain objects."""
        return kubernetes.pods_of(self.core, self.namespace, f"serving.kserve.io/inferenceservice={name}")

    def warnings(self, name: str) -> list[Body]:
        """Warnings about a service and what its name begins, oldest first."""
        events = kubernetes.warnings(self.core, self.namespace, name)
        return [item for item in events if _concerns(item["involvedObject"]["name"], name)]


def _concerns(involved: str, name: str) -> bool:
    return involved == name or involved.startswith(f"{name}-predictor")
