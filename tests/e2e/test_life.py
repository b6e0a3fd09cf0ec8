"""The life pipeline as a user runs it: once whole, again cached, after a change, and killed at random moments."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mantus.launch.figures import Figure, record

pytestmark = [pytest.mark.slow, pytest.mark.timeout(5400)]

ROOT = Path(__file__).parent.parent.parent
LATEST = ROOT / ".mantus" / "runs" / "latest" / "figures.json"
QUICK = "recipes/quick.yaml"
NUM_KILLS = 10


def start(home: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "mantus.cli", "run", "--config", QUICK, "--home", str(home), *flags]
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MANTUS_"))}
    environment["MANTUS_CACHE"] = str(home / "cache")
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def finish(run: subprocess.Popen[str]) -> str:
    output, _ = run.communicate()
    assert run.returncode == 0, output
    return output


def artifacts(home: Path) -> dict[str, Any]:
    """Task -> the digests of its artifact's files."""
    from mantus.storage import read_manifest
    from mantus.storage.server import EmbeddedS3

    tasks = json.loads((home / "runs" / "latest" / "artifacts.json").read_text())
    with EmbeddedS3(home / "s3") as environment, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        return {task: [(f.path, f.sha256) for f in read_manifest(uri).files] for task, uri in tasks.items()}


def note(*figures: Figure) -> None:
    """Put figures beside those of the last `make run`, where there was one."""
    if LATEST.parent.is_dir():
        record(LATEST, list(figures))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with one uninterrupted run in it."""
    home = tmp_path_factory.mktemp("whole")
    finish(start(home))
    return home


def test_again_everything_is_cached(whole: Path):
    begin = time.monotonic()
    output = finish(start(whole))
    seconds = time.monotonic() - begin
    lines = [line for line in output.splitlines() if "/" in line and "cached" in line]
    assert len(lines) == len(json.loads((whole / "runs" / "latest" / "artifacts.json").read_text()))
    assert seconds < 60


def test_one_filter_changed_remakes_only_what_depends_on_it(whole: Path):
    before = json.loads((whole / "runs" / "latest" / "artifacts.json").read_text())
    finish(start(whole, "--set", "clean.min_words=31"))
    after = json.loads((whole / "runs" / "latest" / "artifacts.json").read_text())
    assert {task for task in before if before[task] == after[task]} >= {"collect", "tooldata"}
    assert before["clean"] != after["clean"]
    finish(start(whole))  # the old key is found again


def test_killed_at_random_ten_times_the_bytes_are_the_same(whole: Path, tmp_path: Path):
    chance = random.Random(int(os.environ.get("MANTUS_SEED", "0")))
    seen = []
    for _ in range(NUM_KILLS):
        run = start(tmp_path)
        seen.append(kill_some_task(run, chance))
        run.communicate()
        assert_no_child_is_left(tmp_path)
    finish(start(tmp_path))
    expected, found = artifacts(whole), artifacts(tmp_path)
    same = sum(expected[task] == found.get(task) for task in expected)
    note(Figure("kills_survived", NUM_KILLS, "kills", f">= {NUM_KILLS}"))
    note(Figure("artifacts_identical_after_kills", 100 * same / len(expected), "%", ">= 100"))
    assert found == expected, f"killed at {seen}"


def kill_some_task(run: subprocess.Popen[str], chance: random.Random) -> str:
    """Wait a random while, then kill -9 whatever task runs, or the whole run; what was hit."""
    deadline = time.monotonic() + chance.uniform(2, 60)
    while time.monotonic() < deadline and run.poll() is None:
        time.sleep(0.05)
    try:
        family = [
            p for p in psutil.Process(run.pid).children(recursive=True) if "executor_main" in " ".join(p.cmdline())
        ]
    except psutil.Error:
        family = []
    if not family or chance.random() < 0.2:
        run.kill()
        return "the run"
    victim = family[-1]
    name = victim.environ().get("MANTUS_TASK", "?")
    os.kill(victim.pid, signal.SIGKILL)
    return name


def assert_no_child_is_left(home: Path) -> None:
    """Nothing that belongs to this home may live on."""
    deadline = time.monotonic() + 15
    while time.monotonic() < deadline:
        left = [p for p in psutil.process_iter(["cmdline", "environ"]) if belongs(p, home)]
        if not left:
            return
        time.sleep(0.2)
    raise AssertionError(f"still alive: {[p.info['cmdline'] for p in left]}")


def belongs(process: psutil.Process, home: Path) -> bool:
    if process.pid == os.getpid():
        return False
    cache = (process.info["environ"] or {}).get("MANTUS_CACHE", "")
    return cache.startswith(str(home)) or str(home) in " ".join(process.info["cmdline"] or [])


def test_interrupted_by_ctrl_c_it_says_so_and_leaves_nothing(tmp_path: Path):
    run = start(tmp_path)
    time.sleep(6)
    run.send_signal(signal.SIGINT)
    output, _ = run.communicate(timeout=30)
    assert run.returncode == 130
    assert "interrupted" in output
    assert "Traceback" not in output
    assert_no_child_is_left(tmp_path)
