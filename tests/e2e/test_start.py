"""What a newcomer waits for: imports, the help page, and `make test` on a fresh clone with an empty home."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, note

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def fastest(*words: str, num: int = 7) -> float:
    """Milliseconds of the fastest of `num` starts."""
    times = []
    for _ in range(num):
        begin = time.perf_counter()
        subprocess.run([sys.executable, *words], check=True, capture_output=True)
        times.append(time.perf_counter() - begin)
    return 1000 * min(times)


def import_ms() -> float:
    """Milliseconds that `import mantus` and all it brings take, by Python's own account."""
    command = [sys.executable, "-X", "importtime", "-c", "import mantus"]
    report = subprocess.run(command, check=True, capture_output=True, text=True).stderr
    last = report.strip().splitlines()[-1].split("|")
    assert last[-1].strip() == "mantus"
    return int(last[1]) / 1000


def test_importing_and_help_are_quick():
    importing, helping = min(import_ms() for _ in range(7)), fastest("-m", "mantus.cli", "--help")
    note("import_mantus", importing, "ms", "< 50")
    note("mantus_help", helping, "ms", "< 300")
    assert importing < 50
    assert helping < 300


def test_make_test_passes_on_a_fresh_clone(tmp_path: Path):
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(tmp_path / "clone")], check=True)
    (tmp_path / "home").mkdir()
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("AWS_", "MANTUS_"))}
    environment.pop("VIRTUAL_ENV", None)
    environment["HOME"] = str(tmp_path / "home")
    begin = time.monotonic()
    done = subprocess.run(["make", "test"], cwd=tmp_path / "clone", env=environment, capture_output=True, text=True)
    seconds = time.monotonic() - begin
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    note("make_test_fresh_clone", seconds, "s, installation included", "<= 720")
    again = subprocess.run(["make", "setup"], cwd=tmp_path / "clone", env=environment, capture_output=True, text=True)
    assert "Nothing to be done" in again.stdout, "a second call installs nothing"
    shutil.rmtree(tmp_path / "clone")
