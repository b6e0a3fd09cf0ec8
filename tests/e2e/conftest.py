"""A short run of the whole life, how to start others like it, and where their figures go."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from mantus.launch.figures import Figure, record
from mantus.storage import read_manifest
from mantus.storage.server import EmbeddedS3
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
LATEST = ROOT / ".mantus" / "runs" / "latest" / "figures.json"
FINISHED = re.compile(r"^  (\w+) +([\d.]+) s ", re.MULTILINE)


@dataclass(frozen=True)
class Whole:
    """An uninterrupted run: its home, and how long each task took in seconds, in order."""

    home: Path
    seconds: dict[str, float]


def start(home: Path, *flags: str) -> subprocess.Popen[str]:
    """A run of the quick recipe under `home`."""
    command = [sys.executable, "-m", "mantus.cli", "run", "--config", "recipes/quick.yaml", "--home", str(home), *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MANTUS_"))}
    environment["MANTUS_CACHE"] = str(home / "cache")
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(run: subprocess.Popen[str]) -> str:
    output, _ = run.communicate()
    assert run.returncode == 0, output
    return output


def tasks_of(home: Path) -> dict[str, str]:
    """Task -> artifact URI of the latest finished run."""
    found: dict[str, str] = json.loads((home / "runs" / "latest" / "artifacts.json").read_text())
    return found


@contextmanager
def store_of(home: Path) -> Iterator[None]:
    """The run's own S3 server, up again, and this process's environment set to reach it."""
    with EmbeddedS3(home / "s3") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment, "MANTUS_CACHE": str(home / "cache")}.items():
            patch.setenv(name, value)
        yield


def digests(home: Path) -> dict[str, list[tuple[str, str]]]:
    """Task -> the digests of its artifact's files."""
    with store_of(home):
        return {task: [(f.path, f.sha256) for f in read_manifest(uri).files] for task, uri in tasks_of(home).items()}


def task_processes(run: subprocess.Popen[str]) -> dict[str, psutil.Process]:
    """Task -> its main process, for the tasks that run now."""
    found = {}
    try:
        for process in psutil.Process(run.pid).children(recursive=True):
            if "executor_main" in " ".join(process.cmdline()):
                found[process.environ().get("MANTUS_TASK", "?")] = process
    except psutil.Error:
        pass  # it has just ended
    return found


def assert_no_child_is_left(home: Path) -> None:
    """Nothing that belongs to this home may live on."""

    def left() -> list[psutil.Process]:
        return [p for p in psutil.process_iter(["cmdline", "environ"]) if _belongs(p, home)]

    assert wait_for(lambda: not left(), 15), [p.info["cmdline"] for p in left()]


def _belongs(process: psutil.Process, home: Path) -> bool:
    if process.pid == os.getpid():
        return False
    cache = (process.info["environ"] or {}).get("MANTUS_CACHE", "")
    return cache.startswith(str(home)) or str(home) in " ".join(process.info["cmdline"] or [])


def note(name: str, value: float, unit: str, bar: str = "") -> None:
    """Put a figure beside those of the last `make run`, where there was one."""
    if LATEST.parent.is_dir():
        record(LATEST, [Figure(name, round(value, 3), unit, bar)])


HANDLED: list[bool] = []
"""For each bad input, whether its test passed."""


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    bad = ("test_bad_input.py", "interrupted_by_ctrl_c", "a_store_that_dies")
    if report.when == "call" and any(name in report.nodeid for name in bad):
        HANDLED.append(report.passed)


def pytest_sessionfinish() -> None:
    if HANDLED:
        note("bad_input_handled", sum(HANDLED), f"of {len(HANDLED)} cases", f">= {len(HANDLED)}")


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Whole:
    """A home with one uninterrupted run in it."""
    home = tmp_path_factory.mktemp("whole")
    output = finish(start(home))
    return Whole(home, {name: float(seconds) for name, seconds in FINISHED.findall(output)})
