"""Start one short job as a run would, to see what only a pod can: image, admission, secret, and the store from inside.

The job is gone when this returns.
"""

import json
import secrets
import time
from dataclasses import dataclass, field
from typing import Any

from mantus.launch import kubernetes
from mantus.launch.cluster import Cluster
from mantus.launch.doctor.checks import Check
from mantus.launch.doctor.cluster import Site
from mantus.launch.jobs.pods import Patience, trouble
from mantus.launch.jobs.spec import QUEUE_LABEL, Body, JobSpec, pod_template

PATIENCE_S = {"never": 3.0, "pull": 15.0, "node": 20.0, "create": 6.0, "queue": 20.0}
DEADLINE_S = 300.0
"""A large image may take minutes the first time."""
POLL_S = 0.5


def probe(site: Site, store: str) -> Check:
    """The finding of one job whose pod runs `mantus doctor` itself."""
    return Probe(site, store).run()


@dataclass
class Probe:
    """One job from its creation to its removal."""

    site: Site
    store: str
    name: str = field(default_factory=lambda: f"mantus-doctor-{secrets.token_hex(4)}")
    _patience: Patience = field(default_factory=lambda: Patience(PATIENCE_S))

    def __post_init__(self) -> None:
        from kubernetes import client

        self.jobs, self.core = client.BatchV1Api(self.site.client), self.site.core

    def run(self) -> Check:
        """Create, wait, read, remove."""
        start = time.monotonic()
        self.jobs.create_namespaced_job(self.site.namespace, job(self.site.cluster, self.name, self.store))
        try:
            pod = self._wait(start + DEADLINE_S)
            if isinstance(pod, Check):
                return pod
            return self._read(pod, time.monotonic() - start)
        finally:
            self._remove()

    def _wait(self, deadline: float) -> Body | Check:
        """The ended pod, or why there is none."""
        while time.monotonic() < deadline:
            pods = self._pods()
            if pods and (pods[0].get("status") or {}).get("phase") in ("Succeeded", "Failed"):
                return pods[0]
            kind, line = trouble(pods[0]) if pods else self._no_pod()
            _, lasting = self._patience.spend({kind: line} if line else {})
            if lasting:
                return Check("pod", "lacks", lasting.replace(self.name, "mantus-doctor"))
            time.sleep(POLL_S)
        return Check("pod", "lacks", f"a pod of image {self.site.cluster.image} did not end within {DEADLINE_S:g} s")

    def _no_pod(self) -> tuple[str, str]:
        """Why the job has no pod yet: what its controller, or its queue, says."""
        if events := kubernetes.warnings(self.core, self.site.namespace, self.name):
            return "create", f"no pod may start: {' '.join((events[-1].get('message') or '').split())}"
        if self.site.cluster.queue:
            return "queue", f"queue {self.site.cluster.queue} does not admit a job of one pod"
        return "", ""

    def _read(self, pod: Body, seconds: float) -> Check:
        """What `mantus doctor` in the pod found."""
        image = self.site.cluster.image
        lines = kubernetes.last_lines(self.core, pod["metadata"]["name"], self.site.namespace) or ["it wrote nothing"]
        try:
            rows: list[dict[str, Any]] = json.loads(next(line for line in reversed(lines) if line.startswith("[")))
        except (StopIteration, ValueError):
            return Check(
                "pod", "lacks", f"image {image} does not run `mantus doctor`: {lines[-1]}", "use Mantus' image"
            )
        spared = ("packages",) if self.site.cluster.gpus else ()  # the GPU image only trains
        wrong = [Check(**row) for row in rows if row["state"] == "lacks" and row["name"] not in spared]
        if wrong:
            return Check("pod", "lacks", f"in a pod of image {image}: {wrong[0].name}: {wrong[0].line}")
        reached = ", reaches the store" if self.store else ""
        return Check("pod", "ok", f"image {image} starts{reached} ({seconds:.0f} s)")

    def _pods(self) -> list[Body]:
        return kubernetes.pods_of(self.core, self.site.namespace, f"batch.kubernetes.io/job-name={self.name}")

    def _remove(self) -> None:
        with kubernetes.absence_is_fine():
            self.jobs.delete_namespaced_job(self.name, self.site.namespace, propagation_policy="Background")
        end = time.monotonic() + 60
        while self._pods() and time.monotonic() < end:
            time.sleep(POLL_S)


def job(cluster: Cluster, name: str, store: str) -> Body:
    """A job whose pod is that of a phase, but for its command."""
    template = pod_template(JobSpec("doctor", "doctor", {}, name, cluster), "phase", "Never")
    template["spec"]["terminationGracePeriodSeconds"] = 1
    words = ["python", "-m", "mantus.cli", "doctor", "--json", *(["--store", store] if store else [])]
    template["spec"]["containers"][0]["command"] = words
    queue = {QUEUE_LABEL: cluster.queue} if cluster.queue else {}
    labels = {**template["metadata"]["labels"], **queue}
    return {
        "metadata": {"name": name, "labels": labels},
        "spec": {"backoffLimit": 0, "activeDeadlineSeconds": int(DEADLINE_S), "template": template},
    }
