"""Read the pods of a job: why one cannot start, why one failed, and what they all print.

It knows pods and events as plain objects, not jobs.
"""

import json
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mantus import console

CANNOT_START = {
    "InvalidImageName": "its image's name is wrong",
    "ErrImageNeverPull": "its image is not on the node, and pull_policy is Never",
    "CreateContainerConfigError": "a secret or config map that it needs is missing",
    "CreateContainerError": "its container cannot be made",
    "RunContainerError": "its container cannot be started",
}
"""Reasons to wait that time does not mend, each with what it means."""
CANNOT_PULL = ("ErrImagePull", "ImagePullBackOff", "RegistryUnavailable")
KEPT_LINES = 120
"""Of each pod's log: a traceback, and what torchrun writes about it."""
TORCHRUN = "torch/distributed/run.py"
RETRY = 128
"""Exit codes from here on mean: the same work may go on."""
Pod = dict[str, Any]


def trouble(pod: Pod) -> tuple[str, str]:
    """Why a pod does not start: ('never' | 'pull' | 'node', one line), or ('', '')."""
    name, status = pod["metadata"]["name"], pod.get("status") or {}
    for item in [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]:
        waiting = (item.get("state") or {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), " ".join((waiting.get("message") or "").split())
        if reason in CANNOT_START:
            return "never", f"pod {name} cannot start: {CANNOT_START[reason]} ({reason}: {message})"
        if reason in CANNOT_PULL:
            return "pull", f"pod {name} cannot start: image {item.get('image')} cannot be pulled ({message})"
    for item in status.get("conditions") or ():
        if item["type"] == "PodScheduled" and item["status"] == "False" and item.get("reason") == "Unschedulable":
            return "node", f"pod {name} finds no node: {' '.join((item.get('message') or '').split())}"
    return "", ""


@dataclass
class Patience:
    """For how long trouble may last, by its sort: the words of one sort change, as while a pull is tried again."""

    limits: Mapping[str, float]
    """Sort -> seconds."""
    _since: dict[str, float] = field(default_factory=dict)

    def spend(self, current: Mapping[str, str]) -> tuple[list[str], str]:
        """Given sort -> line of what is wrong now: (lines of new sorts, the line of one that lasts too long or '')."""
        now = time.monotonic()
        new = [line for sort, line in current.items() if sort not in self._since]
        self._since = {sort: self._since.get(sort, now) for sort in current}
        lasting = (line for sort, line in current.items() if now - self._since[sort] >= self.limits[sort])
        return new, next(lasting, "")


@dataclass(frozen=True, slots=True)
class Failure:
    """How a pod's container ended badly."""

    pod: str
    code: int
    at: str
    reason: str
    message: str
    """The last lines that it wrote."""

    def __str__(self) -> str:
        lines = [line for line in self.message.splitlines() if line.strip()]
        own = lines[-1:] if lines and lines[-1].startswith("mantus: ") else lines
        said = " ".join(" ".join(own).split()[-400:])
        return f"pod {self.pod} failed (exit {self.code}{f', {self.reason}' if self.reason != 'Error' else ''}): {said}"


def failures(pods: list[Pod]) -> list[Failure]:
    """Failed containers, those first that no second try mends, then in the order in which they ended."""
    found = []
    for pod in pods:
        for item in (pod.get("status") or {}).get("containerStatuses") or ():
            for state in (item.get("state") or {}, item.get("lastState") or {}):
                ended = state.get("terminated") or {}
                if ended.get("exitCode"):
                    words = (ended.get("finishedAt") or "", ended.get("reason") or "Error", ended.get("message") or "")
                    found.append(Failure(pod["metadata"]["name"], ended["exitCode"], *words))
    return sorted(found, key=lambda item: (item.code >= RETRY, item.at))


def traceback_of(lines: list[str]) -> list[str]:
    """The last traceback among them, without the one that torchrun writes of itself; [] when there is none."""
    found: list[list[str]] = []
    inside = False
    for line in lines:
        if line.startswith("Traceback "):
            found.append([])
            inside = True
        if inside and line.strip(" ^~"):
            found[-1].append(line.strip())
        if inside:
            inside = line.startswith((" ", "Traceback "))  # the error itself is its last line
    own = [trace for trace in found if not any(TORCHRUN in line for line in trace)]
    return own[-1] if own else []


@dataclass
class Followers:
    """Threads that print what the pods of a job print: events of the first pod as they are, all else with its name."""

    core: Any
    namespace: str
    job: str
    last: dict[str, list[str]] = field(default_factory=dict)
    """Pod -> its last lines."""
    _seen: dict[tuple[str, int], threading.Thread] = field(default_factory=dict)

    def watch(self, pods: list[Pod]) -> None:
        """Follow every container that runs or has run, once for each start of it."""
        for pod in pods:
            for item in (pod.get("status") or {}).get("containerStatuses") or ():
                state = item.get("state") or {}
                key = (pod["metadata"]["uid"], item.get("restartCount", 0))
                if key in self._seen or not ("running" in state or "terminated" in state):
                    continue
                first = not self._seen or pod["metadata"]["name"].endswith(("-0", "-master-0"))
                arguments = (pod["metadata"]["name"], item["name"], first)
                thread = threading.Thread(target=self._follow, args=arguments, daemon=True, name="pod-log")
                self._seen[key] = thread
                thread.start()

    def finish(self, seconds: float = 5.0) -> None:
        """Let them print what is left."""
        end = time.monotonic() + seconds
        for thread in self._seen.values():
            thread.join(max(0.0, end - time.monotonic()))

    def _follow(self, pod: str, container: str, first: bool) -> None:
        short = pod.removeprefix(self.job + "-")
        kept = self.last.setdefault(short, [])
        try:
            for line in self._lines(pod, container):
                rest, mark, event = line.partition(console.EVENT_MARK)
                if mark:
                    if first:
                        _relay(event)
                    continue
                kept.append(rest)
                del kept[:-KEPT_LINES]
                print(f"[{short}] {rest}", file=sys.stderr, flush=True)
        except Exception as error:  # noqa: BLE001 - the log is for people: the job goes on without it
            print(f"[{short}] its log broke off: {' '.join(str(error).split())[:200]}", file=sys.stderr, flush=True)

    def _lines(self, pod: str, container: str) -> Iterator[str]:
        answer = self.core.read_namespaced_pod_log(
            pod, self.namespace, container=container, follow=True, _preload_content=False
        )
        rest = b""
        for chunk in answer.stream():
            *lines, rest = (rest + chunk).split(b"\n")
            yield from (line.decode(errors="replace") for line in lines)
        if rest:
            yield rest.decode(errors="replace")


def _relay(text: str) -> None:
    """An event of the job's first pod becomes one of this process."""
    try:
        event = json.loads(text)
    except json.JSONDecodeError:  # half a line
        return
    if "say" in event:
        console.say(event["say"])
    elif "progress" in event:
        console.relay(event)
