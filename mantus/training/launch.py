"""Start the training processes of one phase with torchrun and wait for them.

It knows processes and their job file, not what they train.
"""

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mantus.processes import child_environment, num_processors, start_child, stop_child

if TYPE_CHECKING:
    import mantus.training.worker  # noqa: F401 - what the processes run belongs to the code digest


SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(2**32),
    "MALLOC_TRIM_THRESHOLD_": str(2**34),
    "GOMP_SPINCOUNT": "5000",
}
"""glibc keeps what is freed for the next step: by default it gives large pieces back, and a step of a small model takes
fifty thousand page faults to have them again. Threads wait awake for a fraction of a millisecond, which is what lies
between two operations: a twentieth of a step, and little where a neighbour wants the processor."""
FAILED = "failed-"
"""Files that processes leave behind when they fail: why, and whether to try again."""


class InterruptedTraining(RuntimeError):
    """Training was asked to stop or lost a process elsewhere: the same work goes on from its checkpoint."""


def train(job: dict[str, Any], scratch: Path, processes: int) -> None:
    """Run `mantus.training.worker` on `processes` processes and wait.

    Under Kubeflow's PET_* variables this is one node of several: torchrun reads them, and `processes` is left to them.
    RuntimeError with one line when they fail, InterruptedTraining when the same work may be tried again.
    """
    path = scratch / "job.json"
    path.write_text(json.dumps(job))
    for left in scratch.glob(f"{FAILED}*.json"):
        left.unlink()
    one_of_many = "PET_NNODES" in os.environ
    here = int(os.environ.get("PET_NPROC_PER_NODE", "1")) if one_of_many else processes
    alone = [] if one_of_many else ["--standalone", f"--nproc-per-node={processes}"]
    command = [sys.executable, "-m", "torch.distributed.run", *alone, "--module", "mantus.training.worker", str(path)]
    log = scratch / "errors.log"
    environment = child_environment(max(1, num_processors() // here), TORCH_CPP_LOG_LEVEL="ERROR", **SETTINGS)
    child = start_child(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
    asked = threading.Event()
    previous = _forward_sigterm(child, asked)
    try:
        _relay(child.stderr, log, "" if one_of_many else f"{job['what']}: ")
        code = child.wait()
    finally:
        stop_child(child)
        signal.signal(signal.SIGTERM, previous)
    if code:
        raise _failure(scratch, log, code, asked.is_set(), one_of_many)


def _relay(stream: Any, log: Path, start: str) -> None:
    """Keep what the processes write; lines with that start (progress) also go to this process's stderr."""
    with log.open("w", encoding="utf-8") as kept:
        for line in stream:
            kept.write(line)
            if line.startswith(start):
                print(line, end="", file=sys.stderr, flush=True)


def _forward_sigterm(child: Any, asked: threading.Event) -> Any:
    """SIGTERM to this process becomes SIGTERM to the training processes; only the main thread may say so."""

    def forward(*_: object) -> None:
        asked.set()
        child.send_signal(signal.SIGTERM)

    try:
        return signal.signal(signal.SIGTERM, forward)
    except ValueError:
        return signal.SIG_DFL


def _failure(scratch: Path, log: Path, code: int, asked: bool, one_of_many: bool) -> RuntimeError:
    """Why training failed: what its processes left, else the last error that they wrote."""
    told = [json.loads(path.read_text()) for path in sorted(scratch.glob(f"{FAILED}*.json"))]
    final = [item for item in told if not item["again"]]
    if final:
        return RuntimeError(f"training failed (rank {final[0]['rank']}): {final[0]['error']}")
    if asked or told or one_of_many:  # a machine that vanished leaves nothing
        died = told[0]["error"] if told else f"its processes died (exit {code})"
        return InterruptedTraining(
            f"training was interrupted: {'asked to stop' if asked else died}; run again to go on"
        )
    return RuntimeError(_reason(log.read_text(errors="replace"), code))


def _reason(text: str, code: int) -> str:
    """The last line of a traceback in what the processes wrote."""
    lines = [line.strip() for line in text.splitlines()]
    errors = [line for line in lines if "Error: " in line and "ChildFailedError" not in line]
    marked = [line.partition("]:")[2] or line for line in errors]
    return f"training failed (exit {code}): {marked[-1].strip() if marked else 'no message'}"
