"""Children end with their parent, however it ends; processors are counted as the kernel grants them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from mantus.processes import (
    LEASH,
    LostWorker,
    apply_all,
    apply_apart,
    child_environment,
    num_processors,
    run_child,
    shard,
    start_child,
    stop_child,
)

PARENT = """
import sys, threading, time
from mantus.processes import start_child

def work():
    while True:
        sum(range(1000))
        time.sleep(0.001)

for _ in range(int(sys.argv[1])):
    threading.Thread(target=work, daemon=True).start()
child = start_child([sys.executable, "-c", "import time; print('up', flush=True); time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""
STUBBORN = """
import signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print("up", flush=True)
time.sleep(60)
"""
POLITE = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
print("up", flush=True)
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
@pytest.mark.parametrize("num_threads", [0, 32])
def test_a_child_dies_when_its_parent_is_killed(num_threads: int):
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(num_threads)], stdout=subprocess.PIPE, text=True)
    assert parent.stdout
    said = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
    [child] = said - {"up"}
    parent.kill()
    try:
        assert parent.communicate(timeout=10) == ("", None), "both have closed the pipe"
    except subprocess.TimeoutExpired:
        os.kill(int(child), signal.SIGKILL)
        pytest.fail("the child outlives its parent")
    assert parent.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a child to its parent")
def test_a_child_whose_parent_is_gone_already_does_not_start():
    command = [sys.executable, "-c", "print('started')"]
    done = subprocess.run([sys.executable, "-c", LEASH, "-1", *command], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (137, "")


def test_run_child_gives_output_errors_and_code():
    program = r"import sys; print('out'); sys.stderr.buffer.write(b'broken \xff'); sys.exit(3)"
    command = [sys.executable, "-c", program]
    done = run_child(command, env={**os.environ, "LC_ALL": "C.UTF-8"})
    assert (done.stdout, done.stderr, done.returncode) == ("out\n", "broken \ufffd", 3)
    assert done.args == command


@pytest.fixture
def up(request: pytest.FixtureRequest) -> Iterator[subprocess.Popen[str]]:
    """A child that has come as far as to say so."""
    child = start_child([sys.executable, "-c", request.param], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    assert child.stdout.readline() == "up\n"
    yield child
    child.kill()
    child.communicate()


@pytest.mark.parametrize("up", [STUBBORN], indirect=True)
def test_a_child_that_ignores_the_request_is_killed(up: subprocess.Popen[str]):
    stop_child(up, grace_s=0.2)
    assert up.returncode == -signal.SIGKILL


@pytest.mark.parametrize("up", [POLITE], indirect=True)
def test_a_child_may_end_in_its_own_way_and_is_left_alone_then(up: subprocess.Popen[str]):
    stop_child(up)
    assert up.returncode == 7
    stop_child(up)
    assert up.returncode == 7


@pytest.mark.skipif(sys.platform != "linux" or num_processors() < 2, reason="needs two processors to take one away")
def test_affinity_limits_the_processors():
    program = (
        "import os; from mantus.processes import num_processors; "
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(num_processors())"
    )
    assert run_child([sys.executable, "-c", program]).stdout == "1\n"


def test_a_childs_environment_says_how_many_threads_to_use():
    program = "import os; print(os.environ['OMP_NUM_THREADS'], os.environ['EXTRA'], 'PATH' in os.environ)"
    environment = child_environment(3, EXTRA="more")
    assert run_child([sys.executable, "-c", program], env=environment).stdout == "3 more True\n"
    assert child_environment()["OMP_NUM_THREADS"] == str(num_processors())


@pytest.mark.parametrize("workers", [1, 2])
def test_work_is_done_by_so_many_processes_and_its_errors_come_back(workers: int):
    assert sorted(apply_all(pow, [(2, 3), (3, 2), (1, 1)], workers)) == [1, 8, 9]
    with pytest.raises(ZeroDivisionError):
        list(apply_all(divmod, [(1, 1), (1, 0)], workers))
    assert list(apply_all(pow, [], workers)) == []


def dies(folder: Path, number: int, times: int) -> int:
    """The number; the first so many times its process is killed instead."""
    attempt = len(list(folder.glob(f"{number}-*")))
    (folder / f"{number}-{attempt}").touch()
    if attempt < times:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_the_task_of_a_worker_that_is_killed_begins_again(tmp_path: Path):
    tasks = [(tmp_path, number, (number % 3)) for number in range(7)]
    assert sorted(apply_apart(dies, tasks, 3)) == list(range(7))
    assert len(list(tmp_path.iterdir())) == 7 + sum(times for *_, times in tasks), "and no other task with it"


def test_a_task_that_kills_every_worker_ends_the_phase_in_one_line(tmp_path: Path):
    results = apply_apart(dies, [(tmp_path, 0, 0), (tmp_path, 1, 99)], 2, "dedup")
    assert next(results) == 0
    with pytest.raises(LostWorker, match=r"^dedup: a worker process was killed or crashed 3 times .* run again: .*$"):
        next(results)
    assert len(list(tmp_path.glob("1-*"))) == 3


def test_a_lone_task_is_apart_too():
    assert list(apply_apart(os.getppid, [()], 4)) == [os.getpid()]
    assert list(apply_apart(os.getppid, [], 4)) == []


def test_which_share_is_this_processes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "2")
    assert shard() == (0, 1)
    monkeypatch.setenv("MANTUS_SHARDS", "3")
    assert shard() == (2, 3)
