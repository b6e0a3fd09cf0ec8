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
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

Result = TypeVar("Result")

LIVES = 3
"""Workers that one task may lose before it is given up."""
LOST = (
    f"a worker process was killed or crashed {LIVES} times at the same piece of work (out of memory?); "
    "run again: what is finished is found, and fewer `workers` need less memory"
)

PR_SET_PDEATHSIG = 1
LEASH = """import ctypes, os, sys
ctypes.CDLL(None).prctl(1, 9)
os.getppid() == int(sys.argv[1]) or os._exit(137)
os.execv(sys.argv[2], sys.argv[2:])"""
"""Ties a child to its parent, then becomes the program. A preexec_fn would run Python between fork and exec, which may
hang or crash in a process with threads, and every process that has loaded an engine has some."""


class LostWorker(RuntimeError):
    """Worker processes died again and again at the same task."""


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


def apply_all(
    work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], workers: int, what: str = "work"
) -> Iterator[Result]:
    """The results of `work(*task)` for each task, as they come, by so many processes; by this one when it is one.

    Otherwise as `apply_apart`.
    """
    if min(workers, len(tasks)) <= 1:
        yield from (work(*task) for task in tasks)
    else:
        yield from apply_apart(work, tasks, workers, what)


def apply_apart(
    work: Callable[..., Result], tasks: Sequence[tuple[Any, ...]], workers: int, what: str = "work"
) -> Iterator[Result]:
    """The results of `work(*task)` for each task, as they come, by so many processes, none of them this one.

    Each worker is a pool of its own, so that one that is killed, runs out of memory or crashes in a library costs
    only the task it was at: that begins again in a fresh one, and must therefore be able to. Workers begin afresh,
    since a fork of a process with threads may hang, and end with this one.
    LostWorker, which names `what`, when one task loses LIVES of them; what a task raises comes out as it is.
    """
    waiting, lost = deque(range(len(tasks))), Counter[int]()
    with _crew(min(workers, len(tasks))) as crew:
        running = {_begin(crew, slot, work, tasks[number]): (slot, number) for slot, number in _next(crew, waiting)}
        while running:
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, number = running.pop(future)
                try:
                    result = future.result()
                except BrokenProcessPool:
                    lost[number] += 1
                    if lost[number] == LIVES:
                        raise LostWorker(f"{what}: {LOST}") from None
                    waiting.appendleft(number)
                else:
                    yield result
                if waiting:
                    again = waiting.popleft()
                    running[_begin(crew, slot, work, tasks[again])] = slot, again


def _next(crew: list[ProcessPoolExecutor], waiting: deque[int]) -> Iterator[tuple[int, int]]:
    return ((slot, waiting.popleft()) for slot in range(len(crew)))


def _begin(
    crew: list[ProcessPoolExecutor], slot: int, work: Callable[..., Result], task: tuple[Any, ...]
) -> Future[Result]:
    """Give a task to a worker, to a fresh one when that one is dead."""
    try:
        return crew[slot].submit(work, *task)
    except BrokenProcessPool:
        crew[slot].shutdown()
        crew[slot] = _worker()
        return crew[slot].submit(work, *task)


def _worker() -> ProcessPoolExecutor:
    return ProcessPoolExecutor(1, multiprocessing.get_context("spawn"), _begin_worker, (os.getpid(),))


@contextmanager
def _crew(workers: int) -> Iterator[list[ProcessPoolExecutor]]:
    """So many pools of one worker each, which end with the block; at once, when it ends before they do."""
    crew = [_worker() for _ in range(workers)]
    try:
        yield crew
    except BaseException:
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    finally:
        for pool in crew:
            pool.shutdown(cancel_futures=True)


def _begin_worker(parent: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all; the parent ends its workers
    die_with_parent()
    if os.getppid() != parent:  # it was gone before the kernel was asked
        os._exit(137)


def shard() -> tuple[int, int]:
    """Which of how many processes that share one phase this one is: JOB_COMPLETION_INDEX of MANTUS_SHARDS.

    Alone it is (0, 1).
    """
    count = int(os.environ.get("MANTUS_SHARDS", "1"))
    return (int(os.environ.get("JOB_COMPLETION_INDEX", "0")), count) if count > 1 else (0, 1)


def processor_flags() -> frozenset[str]:
    """What the processor says it can do, in Linux's words (amx_int8, avx512_bf16); nothing off Linux."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.is_file() else []
    found = next((line for line in lines if line.startswith(("flags", "Features"))), "")
    return frozenset(found.partition(":")[2].split())


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
    """This environment with the thread count of numeric libraries set (0: all processors), and none that spins.

    Threads that spin for each other stand still where a neighbour wants the processor: training beside a build made
    340 tokens/s instead of 1,580 (2 cores).
    """
    told = {"OMP_NUM_THREADS": str(threads or num_processors()), **extra}
    return {"OMP_WAIT_POLICY": "PASSIVE", **os.environ, **told}
