"""Measure the peak memory of this process and everything it started.

It knows /proc and nothing else; on systems without it the peak is 0.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

INTERVAL_S = 0.5


@dataclass
class Peak:
    """The largest sum seen, in bytes of proportional set size (shared pages count once)."""

    peak_bytes: int = 0


@contextmanager
def peak_memory() -> Iterator[Peak]:
    """Sample this process tree every half second until the block ends."""
    peak, stop = Peak(), threading.Event()

    def sample() -> None:
        while not stop.wait(INTERVAL_S):
            peak.peak_bytes = max(peak.peak_bytes, tree_bytes())

    thread = threading.Thread(target=sample, daemon=True, name="peak-memory")
    thread.start()
    try:
        yield peak
    finally:
        stop.set()
        thread.join()


def tree_bytes() -> int:
    """Proportional set size of this process and its descendants, in bytes."""
    import psutil

    this = psutil.Process()
    return sum(_pss_bytes(process.pid) for process in [this, *this.children(recursive=True)])


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass  # the process ended between listing and reading
    return 0
