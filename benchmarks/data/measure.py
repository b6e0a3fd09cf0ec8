"""Run a command and say what it and all its children cost: `python -m benchmarks.data.measure OUT.json COMMAND...`.

CPU time is what the kernel accounts to each process when it ends, those that outlive their parents too; memory is
sampled. Linux only. It does not know what is run.
"""

import ctypes
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from mantus.processes import start_child

PR_SET_CHILD_SUBREAPER = 36
SAMPLE_S = 1.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What a command cost, its start and all its children included."""

    cpu_s: float
    wall_s: float
    peak_mb: float
    """The highest sum of the processes' proportional set sizes (PSS), sampled every SAMPLE_S."""

    def __add__(self, other: "Cost") -> "Cost":
        """Of one after the other."""
        peak = max(self.peak_mb, other.peak_mb)
        return Cost(self.cpu_s + other.cpu_s, self.wall_s + other.wall_s, peak)


def measured(command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> Cost:
    """What a command cost; its output goes to `log`. RuntimeError with the end of it when it fails."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(suffix=".json") as out, log.open("wb") as file:
        watched = [sys.executable, "-m", "benchmarks.data.measure", out.name, *command]
        environment = {**os.environ, **(environment or {})}
        child = start_child(watched, stdout=file, stderr=subprocess.STDOUT, env=environment)
        if child.wait():
            end = log.read_text(errors="replace").strip().splitlines()[-12:]
            raise RuntimeError(f"{' '.join(command[:4])}: exit {child.returncode}; {log}:\n" + "\n".join(end))
        return Cost(**json.loads(Path(out.name).read_bytes()))


def descendants(root: int) -> list[int]:
    """All processes below `root`."""
    found, todo = [], [root]
    while todo:
        for path in Path(f"/proc/{todo.pop()}/task").glob("*/children"):
            try:
                below = [int(pid) for pid in path.read_text().split()]
            except OSError:  # has ended
                continue
            found += below
            todo += below
    return found


def memory_mb(pids: Sequence[int]) -> float:
    """The sum of PSS."""
    total = 0
    for pid in pids:
        try:
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
        except OSError:
            continue
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024


class Memory(threading.Thread):
    """Samples the memory of all children of this process."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.peak_mb = 0.0

    def run(self) -> None:
        while True:
            self.peak_mb = max(self.peak_mb, memory_mb(descendants(os.getpid())))
            time.sleep(SAMPLE_S)


def main() -> None:
    """Run, wait for every child, write the cost."""
    out, *command = sys.argv[1:]
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)  # children whose parent has ended become ours
    memory = Memory()
    start = time.monotonic()
    child = start_child(command)
    memory.start()
    cpu_s, code, wall_s = 0.0, 0, 0.0
    while True:
        try:
            pid, status, usage = os.wait4(-1, 0)
        except ChildProcessError:
            break
        cpu_s += usage.ru_utime + usage.ru_stime
        if pid == child.pid:
            code, wall_s = os.waitstatus_to_exitcode(status), time.monotonic() - start
    Path(out).write_text(json.dumps(asdict(Cost(cpu_s, wall_s, memory.peak_mb))))
    sys.stdout.flush()
    os._exit(code if 0 <= code < 256 else 1)  # the child has been waited for; Popen must not ask again


if __name__ == "__main__":
    main()
