"""Run the life pipeline on this machine: kfp.local, an embedded S3 server, one tidy line a task.

It knows the pipeline object and the events of its tasks, not what any phase does. With cluster settings the same tasks
have their phases made by jobs of a cluster; the pipeline still runs here.
"""

import copy
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, TextIO

from mantus.console import EVENT_MARK
from mantus.launch.cluster import parse_cluster
from mantus.launch.memory import peak_memory
from mantus.launch.recipe import check_recipe

PLAIN_INTERVAL_S = 10.0


@dataclass
class TaskLine:
    """What became of one task of the run."""

    name: str
    started: float
    seconds: float = 0.0
    uri: str = ""
    cached: bool = False
    error: str = ""


@dataclass
class Screen:
    """Stands in for stdout while kfp.local runs: tasks' events become lines for people, the rest goes to the log."""

    log: TextIO
    out: TextIO
    tasks: dict[str, TaskLine] = field(default_factory=dict)
    _buffer: str = ""
    _shown: float = 0.0
    _dirty: bool = False

    def write(self, text: str) -> int:
        """Take output of kfp.local or of a task, in any chunks."""
        self._buffer += text
        *lines, self._buffer = self._buffer.split("\n")
        for line in lines:
            self._take(line)
        return len(text)

    def flush(self) -> None:
        """Nothing waits here."""

    def isatty(self) -> bool:
        """False, so that nothing colours what goes to the log."""
        return False

    def _take(self, line: str) -> None:
        rest, mark, event = line.partition(EVENT_MARK)  # kfp indents what tasks print
        if mark:
            try:
                self._event(json.loads(event))
            except json.JSONDecodeError:  # half a line: its task was killed
                rest = line
        if rest.strip():
            self.log.write(rest + "\n")
            self.log.flush()

    def _event(self, event: dict[str, Any]) -> None:
        if "started" in event:
            self.tasks[event["started"]] = TaskLine(event["started"], time.monotonic())
        elif "finished" in event:
            task = self.tasks[event["finished"]]
            task.seconds = time.monotonic() - task.started
            task.uri, task.cached = event["uri"], event["cached"]
            state = "cached" if task.cached else f"{task.seconds:6.1f} s"
            self._line(f"  {task.name:<17} {state:>9}   {task.uri.rsplit('/', 2)[-2]}/{task.uri[-32:-24]}")
        elif "failed" in event:
            self.tasks[event["failed"]].error = event["error"]
        elif "say" in event:
            self._line(f"    {event['say']}")
        elif "progress" in event:
            self._progress(event)

    def _progress(self, event: dict[str, Any]) -> None:
        now = time.monotonic()
        total, done = event["total"], event["done"]
        share = f"{done / total:4.0%} " if total else ""
        text = f"    {event['progress']:<15} {share}{done:,.0f}{f' of {total:,.0f}' if total else ''} {event['unit']}"
        text = f"{text}  {event['note']}".rstrip()
        if self.out.isatty():
            self.out.write(f"\r\x1b[2K{text[:118]}")
            self.out.flush()
            self._dirty = True
        elif now - self._shown > PLAIN_INTERVAL_S:
            self._line(text)
            self._shown = now

    def _line(self, text: str) -> None:
        self.out.write(("\r\x1b[2K" if self._dirty else "") + text + "\n")
        self.out.flush()
        self._dirty = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a run of the pipeline came to."""

    folder: Path
    seconds: float
    peak_bytes: int
    tasks: dict[str, TaskLine]

    @property
    def error(self) -> str:
        """The failed task's one line, '' when all went well."""
        return next((f"{task.name}: {task.error}" for task in self.tasks.values() if task.error), "")


@contextmanager
def run_pipeline(
    recipe: dict[str, Any], home: Path, store: str = "", cluster: dict[str, Any] | None = None, name: str = ""
) -> Iterator[Outcome]:
    """Run the life pipeline with a recipe; what came of it, with its store still up while the block lasts.

    home: folder for everything this makes (`.mantus`).  store: where artifacts go; '' starts the embedded S3 server
    beneath `home`.  cluster: settings of a cluster whose jobs make the phases (see `Cluster`).  name: of the run, ''
    gives it the time's.  ValueError when recipe, cluster or store are wrong, before anything has started.
    """
    arguments: dict[str, Any] = {**check_recipe(recipe), "cluster": check_cluster(cluster or {}, store, recipe)}
    stamp = datetime.now().strftime("%Y%m%d-%H%M%S")
    folder = home / "runs" / stamp
    folder.mkdir(parents=True, exist_ok=True)
    os.environ["MANTUS_RUN"] = name or stamp
    os.environ.setdefault("MANTUS_CACHE", str((home / "cache").absolute()))
    os.environ["MANTUS_EVENTS"] = "1"
    os.environ["MANTUS_RUNNER_PID"] = str(os.getpid())
    start = time.monotonic()
    with _store(home, store or recipe.get("store", "")) as uri:
        with (folder / "run.log").open("w", encoding="utf-8") as log, peak_memory() as memory:
            screen = Screen(log, sys.stdout)
            _execute({**arguments, "store": uri}, folder, screen)
        yield Outcome(folder, time.monotonic() - start, memory.peak_bytes, screen.tasks)


def check_cluster(cluster: dict[str, Any], store: str, recipe: dict[str, Any]) -> dict[str, Any]:
    """The settings when they are right. ValueError names what is wrong, or that pods could not reach the store."""
    place = parse_cluster(cluster)
    uri = store or str(recipe.get("store", ""))
    if place.executor == "kubernetes" and not uri.startswith("s3://"):
        said = f"{uri} is of this machine" if uri else "the embedded server is of this machine"
        raise ValueError(f"--cluster: {said}; give --store s3://bucket/prefix (AWS_* for it) that the pods reach")
    return cluster


def without_retries(pipeline: Any) -> Any:
    """A copy of a pipeline object whose tasks are tried once: a person is here, and a wrong recipe stays wrong."""
    alone = copy.deepcopy(pipeline)
    spec = alone.pipeline_spec
    for component in (spec.root, *spec.components.values()):
        for task in component.dag.tasks.values():
            task.ClearField("retry_policy")
    return alone


def _execute(arguments: dict[str, Any], folder: Path, screen: Screen) -> None:
    """Run the pipeline object; a failed task leaves its line in `screen`."""
    import warnings

    from kfp import local

    from pipelines.life import life

    for category in (RuntimeWarning, UserWarning):  # what a local runner does not do, once for each task
        warnings.filterwarnings("ignore", category=category, module="kfp")
    local.init(
        runner=local.SubprocessRunner(use_venv=False),
        pipeline_root=str(folder / "kfp"),
        workspace_root=str(folder / "workspace"),
        raise_on_error=True,
    )
    real, sys.stdout = sys.stdout, screen
    try:
        without_retries(life)(**arguments)
    except RuntimeError as error:
        screen.log.write(f"{error}\n")
        if not any(task.error for task in screen.tasks.values()):
            last = list(screen.tasks.values())[-1:]
            name = last[0].name if last else "pipeline"
            screen.tasks.setdefault(
                name, TaskLine(name, 0)
            ).error = f"died without a word; its output is in {folder / 'run.log'}"
    finally:
        sys.stdout = real


@contextmanager
def _store(home: Path, uri: str) -> Iterator[str]:
    """The store to use: the given one, or the embedded S3 server's bucket."""
    if uri:
        yield uri
        return
    from mantus.storage.server import EmbeddedS3

    with EmbeddedS3(home / "s3") as environment:
        os.environ.update(environment)
        yield "s3://mantus"
