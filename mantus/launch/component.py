"""Run one phase inside a pipeline component: unpack arguments, call the phase, fill the output artifact.

It knows the shape of KFP artifacts (uri, metadata), not the runner or backend that started it.
"""

import os
import signal
import sys
import threading
from collections.abc import Mapping
from typing import Any

from mantus import console
from mantus.launch.phases import PHASES, parse_config
from mantus.storage import Manifest


def perform(verb: str, config: dict[str, Any], store: str, out: Any, inputs: Mapping[str, Any]) -> Manifest:
    """Run phase `verb` and point the output artifact `out` at what it made.

    config: the phase's own settings.  inputs: config field -> artifact URI, or a list of them.
    A user's error ends the process with exit 2 and one line, a failure of the surroundings with exit 1.
    """
    _die_with_the_run()
    task = os.environ.get("MANTUS_TASK", verb)
    console.emit({"started": task})
    try:
        settings = {**whole_numbers(config), **inputs, "store": store}
        manifest = PHASES[verb].run(parse_config(verb, settings, where=task))
    except ValueError as error:
        _fail(task, error, 2)
    except (OSError, RuntimeError) as error:
        _fail(task, error, 1)
    out.uri = manifest.uri
    out.metadata = {"kind": manifest.kind, "key": manifest.key, "cached": manifest.cached, **flat(manifest.stats)}
    console.emit({"finished": task, "uri": manifest.uri, "cached": manifest.cached})
    return manifest


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


def _fail(task: str, error: Exception, code: int) -> None:
    text = " ".join(str(error).split())
    console.emit({"failed": task, "error": text})
    print(f"mantus: {task}: {text}", file=sys.stderr)
    raise SystemExit(code)


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


def refuse(release: str) -> None:
    """End this process with exit 1 and one line naming the gate's failed checks of the release at URI `release`."""
    import json

    from mantus.storage import open_store

    console.emit({"started": "gate"})
    gate = json.loads(open_store(release).get("release.json"))["gate"]
    failed = "; ".join(check["message"] for check in gate["checks"] if not check["passed"])
    _fail("gate", RuntimeError(f"release refused: {failed}"), 1)
