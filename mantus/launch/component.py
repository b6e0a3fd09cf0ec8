"""Run one phase inside a pipeline component: unpack arguments, call the phase, point the output artifact at its work.

It knows the shape of KFP artifacts (path, metadata), not the runner or backend that started it. KFP's own URI of an
artifact stays as it is: KFP's launcher fails a task whose artifact lies outside the run's root, and copies every input
with an s3:// URI into the pod before it starts. So the file that KFP keeps is a small pointer, and `metadata["uri"]`
says where the artifact really is.
"""

import json
import os
import re
import signal
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NoReturn

from mantus import console
from mantus.launch.cluster import Cluster, parse_cluster
from mantus.launch.phases import PHASES, parse_config
from mantus.storage import Manifest, StoreError, open_store

RECORDS = "runs"
"""Folder of the store where each named run (MANTUS_RUN) keeps what became of its tasks, for the summary."""


def perform(
    verb: str,
    config: dict[str, Any],
    store: str,
    out: Any,
    inputs: Mapping[str, Any],
    cluster: dict[str, Any] | None = None,
) -> Manifest:
    """Run phase `verb` and point the output artifact `out` at what it made.

    config: the phase's own settings.  inputs: config field -> artifact (or its URI), or a list of them.
    cluster: where phases run (see `Cluster`); without an executor, and with None whatever the environment says, in
    this process.
    A user's error ends the process with exit 2 and one line, a failure of the surroundings with exit 1.
    """
    _die_with_the_run()
    task = os.environ.get("MANTUS_TASK", verb)
    console.emit({"started": task})
    try:
        settings = {**whole_numbers(config), **{name: uris_of(value) for name, value in inputs.items()}, "store": store}
        place = Cluster() if cluster is None else named(parse_cluster(whole_numbers(cluster)))
        manifest = make(verb, task, settings, place)
    except ValueError as error:
        _fail(task, error, 2, store)
    except (OSError, RuntimeError) as error:
        _fail(task, error, 1, store)
    point(out, manifest)
    figures = manifest.stats.get("figures", [])
    _record(store, task, {"uri": manifest.uri, "cached": manifest.cached, "figures": figures})
    console.emit({"finished": task, "uri": manifest.uri, "cached": manifest.cached})
    return manifest


def make(verb: str, task: str, settings: dict[str, Any], place: Cluster) -> Manifest:
    """Run a phase where `place` says: in this process, as a job on Kubernetes, as tasks of Ray."""
    if place.executor:
        from mantus.launch.jobs import DIVIDED, make_on_cluster, make_on_ray

        if place.executor == "kubernetes":
            return make_on_cluster(verb, settings, place)
        if verb in DIVIDED:
            return make_on_ray(verb, settings, place)
    return PHASES[verb].run(parse_config(verb, settings, where=task))


def named(cluster: Cluster) -> Cluster:
    """The settings with the name of this run, where they have none: MANTUS_RUN, as far as a label takes it."""
    name = re.sub(r"[^a-z0-9-]", "-", os.environ.get("MANTUS_RUN", "").lower())[:30].strip("-")
    return cluster if cluster.run else cluster.model_copy(update={"run": name})


def complete(cluster: dict[str, Any], **given: Any) -> dict[str, Any]:
    """The cluster settings with what the pipeline's parameters say, where the settings themselves say nothing.

    Exit 2 with one line when they are wrong. Without settings there is nothing to complete: {} stays {}.
    """
    if not cluster:
        return {}
    whole: dict[str, Any] = whole_numbers({**{name: value for name, value in given.items() if value}, **cluster})
    try:
        parse_cluster(whole)
    except ValueError as error:
        _fail(os.environ.get("MANTUS_TASK", "cluster"), error, 2)
    return whole


def verdict(out: Any, made: Manifest, config: dict[str, Any]) -> str:
    """passed or refused: whether an evaluation keeps the limits in its config; `out` says which it misses."""
    from mantus.evaluation.gate import misses

    limits = {name: config[name] for name in ("max_bits_per_byte", "min_scores") if name in config}
    missed = misses(made.stats["scores"], **limits)
    out.metadata["missed"] = "; ".join(missed)
    return "refused" if missed else "passed"


def uri_of(artifact: Any) -> str:
    """Where an artifact of this house is; one that something else made, such as an importer, is at KFP's own URI."""
    return artifact if isinstance(artifact, str) else str(artifact.metadata.get("uri") or artifact.uri)


def uris_of(value: Any) -> Any:
    """The same for what a config field takes: an artifact, or a list of them; other values pass."""
    if isinstance(value, list):
        return [uris_of(item) for item in value]
    return uri_of(value) if hasattr(value, "metadata") else value


def point(out: Any, manifest: Manifest) -> None:
    """Make the output artifact `out` point at `manifest`: metadata for the next task, a small file for people."""
    facts = {"uri": manifest.uri, "kind": manifest.kind, "key": manifest.key, "cached": manifest.cached}
    out.metadata.update({**flat(manifest.stats), **facts})
    Path(out.path).parent.mkdir(parents=True, exist_ok=True)
    Path(out.path).write_text(json.dumps({**facts, "stats": manifest.stats}, indent=1) + "\n", encoding="utf-8")


def adopt(uri: str, kind: str, store: str, out: Any) -> None:
    """Point `out` at an artifact that is there already. Exit 2 with one line when none of this kind is at `uri`."""
    from mantus.storage import read_manifest

    task = os.environ.get("MANTUS_TASK", kind)
    try:
        manifest = read_manifest(uri)
        if manifest.kind not in kind.split("|"):
            raise ValueError(f"{uri} holds {manifest.kind}, not {kind.replace('|', ' or ')}")
    except (ValueError, FileNotFoundError) as error:
        _fail(task, error, 2, store)
    except OSError as error:
        _fail(task, error, 1)
    point(out, manifest)


def whole_numbers(value: Any) -> Any:
    """Undo protobuf: KFP carries every number of a dict parameter as a double."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: whole_numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [whole_numbers(item) for item in value]
    return value


def flat(stats: Mapping[str, Any]) -> dict[str, Any]:
    """The scalar entries of a phase's stats: what a pipeline UI can show beside an artifact."""
    return {name: value for name, value in stats.items() if isinstance(value, str | int | float | bool)}


def _fail(task: str, error: Exception, code: int, store: str = "") -> NoReturn:
    text = " ".join(str(error).split())
    console.emit({"failed": task, "error": text})
    if not isinstance(error, StoreError):
        _record(store, task, {"error": text})
    print(f"mantus: {task}: {text}", file=sys.stderr)
    raise SystemExit(code)


def _record(store: str, task: str, facts: dict[str, Any]) -> None:
    """Keep what became of a task for the run's summary; a record that cannot be written fails nothing."""
    run = os.environ.get("MANTUS_RUN")
    if store and run:
        with suppress(StoreError, ValueError):
            open_store(store).put(f"{RECORDS}/{run}/{task}.json", json.dumps(facts).encode())


def records(store: str) -> dict[str, dict[str, Any]]:
    """Task -> what became of it, for the tasks of this run that are done; empty when the store cannot tell."""
    run = os.environ.get("MANTUS_RUN")
    if not run:
        return {}
    with suppress(StoreError, ValueError):
        place = open_store(store)
        names = sorted(item.name for item in place.list(f"{RECORDS}/{run}/"))
        return {name.rpartition("/")[2].removesuffix(".json"): json.loads(place.get(name)) for name in names}
    return {}


def _die_with_the_run() -> None:
    """End this process when the local runner that started it is gone (MANTUS_RUNNER_PID), even by kill -9."""
    runner = os.environ.get("MANTUS_RUNNER_PID")
    if not runner:
        return
    try:
        handle = os.pidfd_open(int(runner))
    except ProcessLookupError:
        raise SystemExit("mantus: the run that started this task is gone") from None

    def watch() -> None:
        import select

        select.select([handle], [], [])
        os.kill(os.getpid(), signal.SIGTERM)
        threading.Event().wait(10)
        os.kill(os.getpid(), signal.SIGKILL)

    threading.Thread(target=watch, daemon=True, name="runner-watch").start()


def refuse(artifact: Any, store: str = "", reasons: list[str] | None = None) -> None:
    """End this process with exit 1 and one line: what the gate has against this release or evaluation.

    reasons: the checks that failed; those in the release's own record when None.
    """
    console.emit({"started": "gate"})
    uri = uri_of(artifact)
    if reasons is None:
        gate = json.loads(open_store(uri).get("release.json"))["gate"]
        reasons = [check["message"] for check in gate["checks"] if not check["passed"]]
    what = uri.rstrip("/").split("/")[-2]
    _fail("gate", RuntimeError(f"{what} refused: {'; '.join(reasons)}"), 1, store)
