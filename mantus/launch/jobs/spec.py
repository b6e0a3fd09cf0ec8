"""What a job is to do, and the pod that does it: one template for every kind of job, fit for Pod Security "restricted".

It does not speak to a cluster.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from mantus.launch.cluster import Cluster

USER = 65532
CACHE = "/tmp/mantus-cache"
GRACE_S = 60
"""Seconds a pod has after SIGTERM: a training step and a checkpoint fit in."""
FINISHED_TTL_S = 3600
QUEUE_LABEL = "kueue.x-k8s.io/queue-name"
SECRET_KEYS = {
    "AWS_ACCESS_KEY_ID": False,
    "AWS_SECRET_ACCESS_KEY": False,
    "AWS_ENDPOINT_URL": True,
    "AWS_DEFAULT_REGION": True,
}
"""Key of the secret, and environment variable of the same name -> whether it may be absent."""
Body = dict[str, Any]
POD_SECURITY: Body = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "fsGroup": USER,
    "seccompProfile": {"type": "RuntimeDefault"},
}
CONTAINER_SECURITY: Body = {
    "allowPrivilegeEscalation": False,
    "readOnlyRootFilesystem": True,
    "capabilities": {"drop": ["ALL"]},
}
"""What the level "restricted" asks of a pod and of each container, and a root file system that nobody writes to."""


@dataclass(frozen=True, slots=True)
class JobSpec:
    """One phase to be made by a job."""

    verb: str
    task: str
    """The phase's place in the pipeline, such as sft_tools."""
    settings: Body
    """The phase's config as the pods get it."""
    key: str
    """Content key of the artifact that comes of it."""
    cluster: Cluster
    owners: tuple[Body, ...] = ()
    """Owner references: with them the job goes when the run goes."""
    pods: int = 1
    processes: int = 1
    """Training processes of one pod."""
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """The job's name, the same for the same run, task and key."""
        words = (self.cluster.run or "mantus", self.task, self.key[:10])
        name = re.sub(r"[^a-z0-9]+", "-", "-".join(words).lower()).strip("-")
        return name if name[0].isalpha() else f"m-{name}"

    @property
    def labels(self) -> dict[str, str]:
        """What the job and its pods are marked with."""
        run = {"mantus.dev/run": self.cluster.run} if self.cluster.run else {}
        return {
            "app.kubernetes.io/name": "mantus",
            "app.kubernetes.io/component": self.verb,
            "app.kubernetes.io/part-of": "mantus",
            "app.kubernetes.io/managed-by": "mantus-launcher",
            "mantus.dev/phase": self.task.replace("_", "-"),
            "mantus.dev/key": self.key[:12],
            **run,
        }

    def metadata(self, namespace: str) -> Body:
        """The job's metadata."""
        queue = {QUEUE_LABEL: self.cluster.queue} if self.cluster.queue else {}
        found: Body = {"name": self.name, "namespace": namespace, "labels": {**self.labels, **queue}}
        if self.owners:
            found["ownerReferences"] = list(self.owners)
        return found


class Kind(Protocol):
    """A kind of job: its address in the API, its body, and how to read its state."""

    group: str
    version: str
    plural: str

    def body(self, spec: JobSpec, namespace: str) -> Body:
        """The object to create."""

    def selector(self, name: str) -> str:
        """Label selector of the job's pods."""

    def outcome(self, stored: Body) -> tuple[str, str]:
        """('', '') while it runs; 'succeeded', 'failed' or 'suspended' and the API's own words."""


def pod_template(spec: JobSpec, container: str, restart: str) -> Body:
    """The pod that makes the phase, or a share of it."""
    cluster = spec.cluster
    scheduling: Body = {"nodeSelector": cluster.node_selector, "tolerations": cluster.tolerations}
    if cluster.priority_class:
        scheduling["priorityClassName"] = cluster.priority_class
    pod = {
        "restartPolicy": restart,
        "serviceAccountName": cluster.service_account,
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": GRACE_S,
        "securityContext": POD_SECURITY,
        "containers": [_container(spec, container)],
        "volumes": [{"name": "tmp", "emptyDir": {}}],
        **{name: value for name, value in scheduling.items() if value},
    }
    if not restart:
        del pod["restartPolicy"]
    return {"metadata": {"labels": spec.labels}, "spec": pod}


def _container(spec: JobSpec, name: str) -> Body:
    environment = {
        "MANTUS_TASK_SPEC": json.dumps({"verb": spec.verb, "settings": spec.settings}),
        "MANTUS_TASK": spec.task,
        "MANTUS_EVENTS": "1",
        "MANTUS_CACHE": CACHE,
        "HOME": "/tmp",
        "PYTHONUNBUFFERED": "1",
        **spec.environment,
    }
    return {
        "name": name,
        "image": spec.cluster.image,
        "imagePullPolicy": spec.cluster.pull_policy,
        "command": ["python", "-m", "mantus.launch.jobs.pod"],
        "env": [*({"name": key, "value": value} for key, value in environment.items()), *_secrets(spec.cluster)],
        "resources": resources(spec.cluster),
        "securityContext": CONTAINER_SECURITY,
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "volumeMounts": [{"name": "tmp", "mountPath": "/tmp"}],
    }


def _secrets(cluster: Cluster) -> list[Body]:
    """Credentials by name, not as a whole secret: a TrainJob knows no `envFrom`."""
    return [
        {"name": key, "valueFrom": {"secretKeyRef": {"name": cluster.secret, "key": key, "optional": optional}}}
        for key, optional in SECRET_KEYS.items()
    ]


def resources(cluster: Cluster) -> Body:
    """Requests and limits of one pod; processors are a request only, so that idle ones are used."""
    requests = {name: value for name, value in (("cpu", cluster.cpu), ("memory", cluster.memory)) if value}
    limits = {"memory": cluster.memory} if cluster.memory else {}
    if cluster.gpus:
        limits["nvidia.com/gpu"] = str(cluster.gpus)
    return {name: value for name, value in (("requests", requests), ("limits", limits)) if value}


def outcome_of(stored: Body, names: Mapping[str, str]) -> tuple[str, str]:
    """The first true condition of `names` (condition -> what it comes to) and what it says; ('', '') when none is."""
    for kind, name in names.items():
        if said := condition(stored, kind):
            return name, said.strip()
    return "", ""


def condition(stored: Body, kind: str) -> str:
    """What a true condition of that type says, ' ' when it says nothing; '' when it is not true."""
    for item in (stored.get("status") or {}).get("conditions") or ():
        if item["type"] == kind and item["status"] == "True":
            return " ".join(str(item.get(part) or "") for part in ("reason", "message")).strip() or " "
    return ""
