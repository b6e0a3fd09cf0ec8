"""Wait until a service's servers are ready, and say within moments what keeps them from it.

It knows pods and events, not what the servers answer.
"""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

from mantus import console
from mantus.launch.deploy.config import DeployConfig
from mantus.launch.deploy.service import DIGEST, Services, annotation
from mantus.launch.jobs.pods import Patience, trouble
from mantus.launch.jobs.spec import Body, condition
from mantus.launch.kubernetes import last_lines, last_seen

PATIENCE_S = {"never": 5.0, "pull": 20.0, "create": 10.0, "crash": 0.0, "download": 25.0}
"""How long each sort of trouble may last; finding a node has a setting of its own."""
NO_RUNTIME = ("NoSupportingRuntime", "RuntimeNotRecognized", "RuntimeDisabled")
DOWNLOADER = "storage-initializer"
DOWNLOADS = 2
"""Restarts of the downloader before it is given up: a store may be away for a moment."""
POLL_S = 1.0
WORDS = 60


class NotReady(RuntimeError):
    """The servers will not be ready; the message is one line that says why."""


@dataclass
class Watch:
    """Follows one service, until all servers of the wanted revision are ready and no other is left."""

    services: Services
    config: DeployConfig
    body: Body
    began: str = field(default_factory=lambda: datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S"))
    _said: str = ""

    def __post_init__(self) -> None:
        self._patience = Patience({**PATIENCE_S, "node": self.config.schedule_s})

    @property
    def name(self) -> str:
        """The service's name."""
        return str(self.body["metadata"]["name"])

    def wait(self) -> Body:
        """The ready service as stored. NotReady with the reason."""
        wanted, servers = annotation(self.body, DIGEST), self.body["spec"]["predictor"]["minReplicas"]
        end = time.monotonic() + self.config.timeout_s
        while True:
            stored = self.services.get(self.name)
            if stored is None:
                raise NotReady(f"{self.name} was deleted by someone else")
            pods = [pod for pod in self.services.pods(self.name) if not pod["metadata"].get("deletionTimestamp")]
            new = [pod for pod in pods if annotation(pod, DIGEST) == wanted]
            ready = sum(map(is_ready, new))
            if ready >= servers and len(new) == len(pods) and condition(stored, "Ready"):
                self._say(f"{self.name}: {ready} of {servers} ready")
                return stored
            self._say(f"{self.name}: {ready} of {servers} ready{self._state(new, len(pods) - len(new))}")
            self._check([pod for pod in new if not is_ready(pod)], new, stored)
            if time.monotonic() > end:
                said = self._warning(("Pod", "ReplicaSet", "Deployment", "InferenceService"))
                raise NotReady(f"{self.name}: not ready after {self.config.timeout_s:g} s; the last warning: {said}")
            time.sleep(POLL_S)

    def _check(self, waiting: list[Body], pods: list[Body], stored: Body) -> None:
        """Say each trouble once; NotReady when one lasts."""
        new, lasting = self._patience.spend(dict(self._troubles(waiting, pods, stored)))
        if lasting:
            raise NotReady(lasting)
        for line in new:
            console.say(f"deploy: {line}")

    def _troubles(self, waiting: list[Body], pods: list[Body], stored: Body) -> Iterator[tuple[str, str]]:
        for pod in waiting:
            kind, line = trouble(pod)
            if not line:
                kind, line = self._crash(pod)
            if line:
                yield kind, line
        if pods:
            return
        failure = (stored.get("status") or {}).get("modelStatus", {}).get("lastFailureInfo") or {}
        if failure.get("reason") in NO_RUNTIME:
            said = _short(failure.get("message"))
            yield "create", f"{self.name}: KServe has no runtime {self.config.runtime!r}: {said}"
        elif said := self._warning(("ReplicaSet", "Deployment", "InferenceService")):
            yield "create", f"{self.name}: no pods: {said}"

    def _crash(self, pod: Body) -> tuple[str, str]:
        """('crash' | 'download', one line) when a container of the pod ended badly and is not running again."""
        status = pod.get("status") or {}
        for item in (*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())):
            state, last = item.get("state") or {}, item.get("lastState") or {}
            ended = state.get("terminated") or ("waiting" in state and last.get("terminated")) or {}
            looping = state.get("waiting", {}).get("reason") == "CrashLoopBackOff"
            if not ended or not (ended.get("exitCode") or looping):
                continue
            name, container = pod["metadata"]["name"], item["name"]
            lines = (ended.get("message") or "").splitlines()
            if not lines:
                core, namespace = self.services.core, self.services.namespace
                lines = last_lines(core, name, namespace, container=container, previous="waiting" in state)
            told = next((line.strip() for line in reversed(lines) if line.strip()), "it wrote nothing")
            reason = f", {ended['reason']}" if ended.get("reason") not in (None, "Error") else ""
            doing = "downloading the release" if container == DOWNLOADER else "starting the server"
            line = f"pod {name} failed {doing} (exit {ended['exitCode']}{reason}): {_short(told)}"
            again = container == DOWNLOADER and item.get("restartCount", 0) < DOWNLOADS
            return ("download" if again else "crash"), line
        return "", ""

    def _state(self, pods: list[Body], others: int) -> str:
        """What the pods that are not ready are doing."""
        found = [_stage(pod) for pod in pods if not is_ready(pod)] or (["no pod yet"] if not pods else [])
        found += [f"{others} of the old release"] if others else []
        return f" ({', '.join(found)})" if found else ""

    def _warning(self, kinds: tuple[str, ...]) -> str:
        """The last warning since the beginning about an object of these kinds; controllers' own retries are none."""
        for event in reversed(self.services.warnings(self.name)):
            said = _short(event.get("message"))
            if event["involvedObject"].get("kind") in kinds and "object has been modified" not in said:
                return said if last_seen(event) >= self.began else ""
        return ""

    def _say(self, line: str) -> None:
        if line != self._said:
            console.say(f"deploy: {line}")
            self._said = line


def is_ready(pod: Body) -> bool:
    """Whether the pod takes requests."""
    return bool(condition(pod, "Ready"))


def _stage(pod: Body) -> str:
    if not condition(pod, "PodScheduled"):
        return "waiting for a node"
    return "loading" if condition(pod, "Initialized") else "downloading"


def _short(text: object) -> str:
    words = str(text or "").split()
    return " ".join(words[:WORDS]) + (" ..." if len(words) > WORDS else "")
