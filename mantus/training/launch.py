"""Start the training processes of one phase with torchrun and wait for them.

It knows processes and their job file, not what they train.
"""

import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mantus.processes import child_environment, num_processors, start_child, stop_child

if TYPE_CHECKING:
    import mantus.training.worker  # noqa: F401 - what the processes run belongs to the code digest


def train(job: dict[str, Any], scratch: Path, processes: int) -> None:
    """Run `mantus.training.worker` on `processes` processes. RuntimeError with one line when they fail."""
    path = scratch / "job.json"
    path.write_text(json.dumps(job))
    module = ["--module", "mantus.training.worker", str(path)]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *module]
    threads = max(1, num_processors() // processes)
    log = scratch / "errors.log"
    environment = child_environment(threads, TORCH_CPP_LOG_LEVEL="ERROR")
    child = start_child(command, env=environment, stderr=subprocess.PIPE, text=True, errors="replace")
    previous = _forward_sigterm(child)
    try:
        _relay(child.stderr, log, job["what"])
        code = child.wait()
    finally:
        stop_child(child)
        signal.signal(signal.SIGTERM, previous)
    if code:
        raise RuntimeError(_reason(log.read_text(errors="replace"), code))


def _relay(stream: Any, log: Path, what: str) -> None:
    """Keep what the processes write; progress lines also go to this process's stderr."""
    with log.open("w", encoding="utf-8") as kept:
        for line in stream:
            kept.write(line)
            if line.startswith(f"{what}: "):
                print(line, end="", file=sys.stderr, flush=True)


def _forward_sigterm(child: Any) -> Any:
    """SIGTERM to this process becomes SIGTERM to the training processes; only the main thread may say so."""
    try:
        return signal.signal(signal.SIGTERM, lambda *_: child.send_signal(signal.SIGTERM))
    except ValueError:
        return signal.SIG_DFL


def _reason(text: str, code: int) -> str:
    """The last line of a traceback in what the processes wrote."""
    lines = [line.strip() for line in text.splitlines()]
    errors = [line for line in lines if "Error: " in line and "ChildFailedError" not in line]
    marked = [line.partition("]:")[2] or line for line in errors]
    return f"training failed (exit {code}): {marked[-1].strip() if marked else 'no message'}"
