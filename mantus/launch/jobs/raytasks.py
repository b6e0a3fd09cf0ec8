"""Have a data phase made by Ray tasks: each is a share of the work, as a pod of an Indexed Job is, in its own process.

It knows Ray's tasks and the exit codes of a pod, not what any phase does. A share whose worker or node is lost begins
again elsewhere and comes to the same bytes.
"""

import json
import logging
import os
import re
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mantus import console
from mantus.launch.cluster import Cluster
from mantus.launch.jobs.indexed import WRONG_INPUT
from mantus.launch.jobs.launcher import plan
from mantus.launch.jobs.spec import Body, JobSpec
from mantus.launch.phases import PHASES, parse_config
from mantus.processes import ended_by_sigterm, num_processors, run_child
from mantus.storage import Manifest, open_store
from mantus.storage.phase import made_elsewhere
from mantus.storage.share import forget

RETRIES = 10
"""How often a share begins again after its process, its worker or its node was lost."""
OWN: dict[str, Any] = {"num_cpus": num_processors(), "include_dashboard": False, "object_store_memory": 100 << 20}
"""A cluster of this machine's own. Shares go through the store, not through Ray, which needs little memory then."""
KNOCK_S = 10
SUFFIXES = {"": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


class LostShare(Exception):
    """The process of a share was killed; it may begin again."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one task needs to make its share, wherever it runs."""

    environment: dict[str, str]
    folder: str
    """What paths of sources are relative to; on a node without such a folder, the worker's own."""

    def make(self) -> tuple[int, str]:
        """Run what a pod runs; its exit code and the last line it said. LostShare when it may begin again."""
        folder = self.folder if Path(self.folder).is_dir() else None
        command = [sys.executable, "-m", "mantus.launch.jobs.pod"]
        done = run_child(command, env={**os.environ, **self.environment}, cwd=folder)
        said = (done.stderr.strip().splitlines() or [""])[-1]
        if done.returncode < 0 or done.returncode >= 128:
            raise LostShare(f"its process ended with {done.returncode} {said}".strip())
        return done.returncode, said


def make_on_ray(verb: str, settings: Body, cluster: Cluster) -> Manifest:
    """The artifact of a data phase, found in the store or made by Ray's tasks. All nodes must reach the store.

    ValueError as the phase itself, and where Ray is not installed; RuntimeError when a share fails or is lost for good.
    """
    task = os.environ.get("MANTUS_TASK", verb)
    settings = {**settings, "store": open_store(settings["store"]).uri}
    config = parse_config(verb, settings, where=task)

    def make(draft: Manifest) -> None:
        spec = plan(verb, task, settings, draft.key, cluster)
        with ended_by_sigterm(), _connected(cluster) as ray, ended_by_sigterm():  # again, since Ray takes the signal
            _follow(ray, spec)
        forget(open_store(settings["store"]), draft.key)

    with made_elsewhere(make):
        return PHASES[verb].run(config)


@contextmanager
def _connected(cluster: Cluster) -> Iterator[Any]:
    """Ray, connected: to the cluster that is named, else to one of this machine's own that ends with the block."""
    try:
        import ray
    except ImportError:
        raise ValueError("cluster.executor: ray is not installed here; pip install 'mantus[ray]'") from None

    if ray.is_initialized():  # by who called
        yield ray
        return
    address = cluster.ray_address or os.environ.get("RAY_ADDRESS", "local")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    _knock(address)
    try:
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR, **(OWN if address == "local" else {}))
    except ConnectionError as error:
        raise RuntimeError(f"cluster.ray_address: {address}: {' '.join(str(error).split())}") from None
    try:
        yield ray
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """RuntimeError when nobody listens at host:port: Ray itself would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        try:
            socket.create_connection((host, int(port)), KNOCK_S).close()
        except OSError as error:
            raise RuntimeError(f"cluster.ray_address: {address}: no Ray cluster answers there ({error})") from None


def _follow(ray: Any, spec: JobSpec) -> None:
    """Start a task for each share and return when all are made."""
    asked = {"num_cpus": quantity(spec.cluster.cpu or "1"), "memory": int(quantity(spec.cluster.memory or "0"))}
    make = ray.remote(max_retries=RETRIES, retry_exceptions=[LostShare], **asked)(Share.make)
    tasks = {make.remote(share_of(spec, number)): number for number in range(spec.pods)}
    console.say(f"{spec.task}: {spec.pods} task(s) of Ray")
    try:
        with console.progress(spec.task, spec.pods, "shares") as bar:
            left = list(tasks)
            while left:
                (done,), left = ray.wait(left)
                _judge(ray, spec, done, tasks[done])
                bar.advance()
    except BaseException:
        for task in tasks:
            ray.cancel(task, force=True)
        raise


def _judge(ray: Any, spec: JobSpec, done: Any, number: int) -> None:
    """ValueError or RuntimeError with what the share's process said, or what became of its worker."""
    try:
        code, said = ray.get(done)
    except ray.exceptions.RayError as error:
        why = " ".join(str(getattr(error, "cause", None) or error).split())[:300]
        lost = f"share {number} of {spec.pods} was lost {RETRIES + 1} times: {why}"
        raise RuntimeError(f"{lost}; run again: what is finished is found") from None
    said = said.removeprefix(f"mantus: {spec.task}: ") or f"share {number} of {spec.pods} ended with {code}"
    if code:
        raise ValueError(said) if code == WRONG_INPUT else RuntimeError(said)


def share_of(spec: JobSpec, number: int) -> Share:
    """One share of a job: what a pod of an Indexed Job would be told, and the credentials of this process."""
    own = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    told = json.dumps({"verb": spec.verb, "settings": spec.settings})
    pod = {
        "MANTUS_TASK_SPEC": told,
        "MANTUS_TASK": spec.task,
        "MANTUS_EVENTS": "0",
        "JOB_COMPLETION_INDEX": str(number),
    }
    return Share({**own, **pod, **spec.environment}, os.getcwd())


def quantity(text: str) -> float:
    """A number as Kubernetes writes it: 500m, 2, 4Gi. ValueError when it is none."""
    found = re.fullmatch(r"([0-9.]+)(m|Ki|Mi|Gi|k|M|G|T|)", text)
    if not found:
        raise ValueError(f"cluster: {text!r} is no quantity such as 2, 500m or 4Gi")
    return float(found[1]) * (0.001 if found[2] == "m" else SUFFIXES[found[2]])
