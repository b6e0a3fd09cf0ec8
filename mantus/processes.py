"""Child processes that never outlive their parent, and the processors they may use.

It knows Linux process control, not what the children do.
"""

import ctypes
import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

PR_SET_PDEATHSIG = 1
LEASH = """import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
os.getppid() == int(sys.argv[1]) or os._exit(137)
os.execv(sys.argv[2], sys.argv[2:])"""
"""Ties a child to its parent, then becomes the program. A preexec_fn would run Python between fork and exec, which may
hang or crash in a process with threads, and every process that has loaded an engine has some."""


def die_with_parent() -> None:
    """Ask the kernel to kill this process when its parent ends, however it ends. Nothing happens off Linux."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """Within the block SIGTERM is SystemExit(143), so that what it began is put away; only in the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise SystemExit(143)

    previous = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def start_child(command: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a child that dies with this process (on Linux: with the thread that starts it).

    command: the program's path and its arguments; it is not looked up on PATH.
    """
    leash = [sys.executable, "-I", "-S", "-c", LEASH, str(os.getpid())] if sys.platform == "linux" else []
    return subprocess.Popen([*leash, *command], **options)


def run_child(command: Sequence[str], **options: Any) -> subprocess.CompletedProcess[str]:
    """Run a child that dies with this process to its end; its output as text."""
    child = start_child(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace", **options)
    try:
        output, errors = child.communicate()
    finally:
        stop_child(child)
    return subprocess.CompletedProcess(command, child.returncode, output, errors)


def stop_child(child: subprocess.Popen[Any], grace_s: float = 10.0) -> None:
    """Ask a child to end, then make it."""
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(grace_s)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def apply_all(work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], workers: int) -> Iterator[Result]:
    """The results of `work(*task)` for each task, as they come, by so many processes; by this one when it is one.

    Workers begin afresh, since a fork of a process with threads may hang, and end with this one.
    """
    if min(workers, len(tasks)) <= 1:
        yield from (work(*task) for task in tasks)
        return
    with worker_pool(min(workers, len(tasks)), "spawn") as pool:
        for future in as_completed([pool.submit(work, *task) for task in tasks]):
            yield future.result()


@contextmanager
def worker_pool(workers: int, start: str) -> Iterator[ProcessPoolExecutor]:
    """Workers that end with this process, however it ends. start: fork or spawn, as multiprocessing has them."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context(start), initializer=_begin_worker)
    try:
        yield pool
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends its workers
    die_with_parent()


def num_processors() -> int:
    """Processors this process may use: affinity, cut by the container's CPU quota (cgroup v2 or v1)."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quota = _quota()
    return max(1, min(allowed, quota)) if quota else allowed


def _quota() -> int:
    try:
        limit, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            folder = Path("/sys/fs/cgroup/cpu")
            limit, period = (folder / "cpu.cfs_quota_us").read_text(), (folder / "cpu.cfs_period_us").read_text()
        except OSError:
            return 0
    return 0 if limit.strip() in ("max", "-1") else max(1, round(int(limit) / int(period)))


def child_environment(threads: int = 0, **extra: str) -> Mapping[str, str]:
    """This environment with the thread count of numeric libraries set (0: all processors)."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads or num_processors()), **extra}
