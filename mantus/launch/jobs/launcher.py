"""Have a phase made by a job: start it or adopt the one that is there, follow it, end it with this process or the run.

It knows jobs by `Kind`, whatever their sort. A launcher that is killed leaves its job; the next one finds it by name.
"""

import os
import time
from dataclasses import dataclass, field, replace
from typing import Any

from mantus import console
from mantus.launch import kubernetes
from mantus.launch.cluster import Cluster
from mantus.launch.jobs.indexed import IndexedJob
from mantus.launch.jobs.owner import owners_of
from mantus.launch.jobs.pods import Followers, Patience, failures, traceback_of, trouble
from mantus.launch.jobs.pytorchjob import PyTorchJob
from mantus.launch.jobs.spec import Body, JobSpec, Kind
from mantus.launch.jobs.trainjob import TrainJob
from mantus.launch.phases import PHASES, parse_config
from mantus.processes import ended_by_sigterm
from mantus.storage import Manifest, open_store
from mantus.storage.phase import made_elsewhere
from mantus.storage.share import forget

TRAINING = ("pretrain", "sft")
DIVIDED = ("collect", "clean", "dedup", "tokenize")
"""Phases whose pods share the work (see mantus/storage/share.py)."""
PATIENCE_S = {"never": 5.0, "pull": 20.0, "create": 15.0}
"""How long a pod may be in trouble before the phase fails; finding a node has a setting of its own."""
POLL_S = 1.0
WAYS_OUT = {
    "init-pytorch": "start the training operator with --pytorch-init-container-template-file (docs/cluster.md), "
    "or set cluster.min_nodes to cluster.nodes, which needs no such container",
}
"""What a controller's words name -> what helps."""
METRICS_PORT = 9400
"""Where the first process of a training job is scraped (the chart's PodMonitor names it)."""


def make_on_cluster(verb: str, settings: Body, cluster: Cluster) -> Manifest:
    """The artifact of a phase, found in the store or made by a job. `settings` must name a store that pods reach.

    ValueError as the phase itself; RuntimeError with the reason when the job fails; ClusterError when the API refuses.
    """
    task = os.environ.get("MANTUS_TASK", verb)
    config = parse_config(verb, settings, where=task)

    def make(draft: Manifest) -> None:
        spec = plan(verb, task, settings, draft.key, cluster)
        with kubernetes.refusals(f"job {spec.name}"):
            Launch(spec).run()
        forget(open_store(settings["store"]), draft.key)

    with made_elsewhere(make):
        return PHASES[verb].run(config)


def plan(verb: str, task: str, settings: Body, key: str, cluster: Cluster) -> JobSpec:
    """How many pods make it, and what they are told."""
    if verb not in TRAINING:
        pods = cluster.shards if verb in DIVIDED else 1
        return JobSpec(verb, task, settings, key, cluster, pods=pods, environment={"MANTUS_SHARDS": str(pods)})
    processes = int(settings.get("processes", 1))
    if processes % cluster.nodes:
        raise ValueError(f"{task}.processes: {processes} cannot be shared by cluster.nodes {cluster.nodes}")
    several = {"upload_checkpoints": True} if cluster.nodes > 1 else {}
    told = {"upload_checkpoints": True, "metrics_port": METRICS_PORT, **settings, **several}
    return JobSpec(verb, task, told, key, cluster, pods=cluster.nodes, processes=processes // cluster.nodes)


def kind_of(spec: JobSpec) -> Kind:
    """What sort of job makes this phase."""
    if spec.verb not in TRAINING:
        return IndexedJob()
    return TrainJob() if spec.cluster.training == "trainjob" else PyTorchJob()


@dataclass
class Launch:
    """One job from its start to its end."""

    spec: JobSpec
    client: Any = field(default_factory=kubernetes.connect)
    _suspended: bool = False

    def __post_init__(self) -> None:
        from kubernetes import client

        self.kind = kind_of(self.spec)
        self.namespace = self.spec.cluster.namespace or kubernetes.namespace()
        self.core, self.objects = client.CoreV1Api(self.client), client.CustomObjectsApi(self.client)
        self.patience = Patience({**PATIENCE_S, "node": self.spec.cluster.schedule_s})
        self.followers = Followers(self.core, self.namespace, self.spec.name)

    def run(self) -> None:
        """Start or adopt the job and return when it has succeeded. RuntimeError with the reason when it has not."""
        with ended_by_sigterm():
            self._start()
            try:
                self._follow()
            except BaseException:
                self._delete()
                raise

    def _start(self) -> None:
        stored = self._get()
        if stored and self.kind.outcome(stored)[0] in ("succeeded", "failed"):  # of an earlier attempt
            self._delete()
            stored = None
        if stored:
            console.say(f"{self.spec.task}: job {self.spec.name} is there already; following it")
            return
        owners = owners_of(self.core, self.namespace, self.spec.cluster.run)
        body = self.kind.body(replace(self.spec, owners=owners), self.namespace)
        self.objects.create_namespaced_custom_object(*self._address(), body, field_validation="Strict")
        console.say(f"{self.spec.task}: {body['kind']} {self.spec.name} with {self.spec.pods} pod(s)")

    def _follow(self) -> None:
        while True:
            stored = self._get()
            if stored is None:
                raise RuntimeError(f"job {self.spec.name} was deleted by someone else; run again to start it anew")
            outcome, said = self.kind.outcome(stored)
            pods = self._pods()
            self.followers.watch(pods)
            if outcome == "succeeded":
                self.followers.finish()
                return
            if outcome == "failed":
                self.followers.finish()
                raise RuntimeError(self._reason(pods, said))
            self._say_suspended(outcome == "suspended")
            if outcome != "suspended":
                self._check(pods, stored)
            time.sleep(POLL_S)

    def _reason(self, pods: list[Body], said: str) -> str:
        """Why the job failed: the first failure that no second try mends, and what its pod wrote last."""
        found = failures(pods)
        if not found:
            return f"job {self.spec.name} failed: {said}"
        short = found[0].pod.removeprefix(self.spec.name + "-")
        trace = " | ".join(traceback_of(self.followers.last.get(short) or found[0].message.splitlines()))
        return f"{found[0]}" + (f" -- {trace}" if trace else "")

    def _check(self, pods: list[Body], stored: Body) -> None:
        """Say once what keeps pods from starting; RuntimeError when it lasts."""
        found = [trouble(pod) for pod in pods]
        if len(pods) < max(1, self.spec.cluster.min_nodes or self.spec.pods):
            found.append(("create", self._why_no_pod(stored)))
        new, lasting = self.patience.spend({kind: line for kind, line in found if line})
        for line in new:
            console.say(f"{self.spec.task}: {line}")
        if lasting:
            raise RuntimeError(lasting)

    def _why_no_pod(self, stored: Body) -> str:
        """What the job's controllers say of a pod that they could not create; '' when nothing."""
        name = self.spec.name
        events = kubernetes.warnings(self.core, self.namespace, name)
        failed = [event for event in events if "Create" in (event.get("reason") or "")]
        if not failed or kubernetes.last_seen(failed[-1]) < stored["metadata"]["creationTimestamp"]:
            return ""
        said = " ".join(failed[-1]["message"].split())
        hint = next((f"; {way}" for sign, way in WAYS_OUT.items() if sign in said), "")
        return f"job {name} lacks a pod: {said}{hint}"

    def _say_suspended(self, suspended: bool) -> None:
        if suspended and not self._suspended:
            console.say(f"{self.spec.task}: job {self.spec.name} waits for queue {self.spec.cluster.queue or '?'}")
        self._suspended = suspended

    def _pods(self) -> list[Body]:
        return kubernetes.pods_of(self.core, self.namespace, self.kind.selector(self.spec.name))

    def _address(self) -> tuple[str, str, str, str]:
        return self.kind.group, self.kind.version, self.namespace, self.kind.plural

    def _get(self) -> Body | None:
        return kubernetes.get_object(self.objects, *self._address(), self.spec.name)

    def _delete(self) -> None:
        """End the job and its pods, and wait until its name is free."""
        with kubernetes.absence_is_fine():
            self.objects.delete_namespaced_custom_object(
                *self._address(), self.spec.name, propagation_policy="Foreground"
            )
        end = time.monotonic() + 90
        while self._get() is not None and time.monotonic() < end:
            time.sleep(0.2)
