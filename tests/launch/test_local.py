"""The local runner: what its screen shows and logs, the memory it measures, a run that fails in its first task."""

import io
import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from mantus.console import EVENT_MARK
from mantus.launch import memory
from mantus.launch.local import Outcome, Screen, TaskLine, check_cluster, without_retries

URI = f"file:///store/corpus/0123abcd{'e' * 24}"
EATER = "import time; eaten = b'x' * (100 << 20); print('up', flush=True); time.sleep(60)"


class Terminal(io.StringIO):
    """Text that claims to be a terminal."""

    def isatty(self) -> bool:
        return True


def event(**fields: object) -> str:
    return f"{EVENT_MARK}{json.dumps(fields)}\n"


def progress(done: float, total: float | None = 4, note: str = "") -> str:
    return event(progress="collect", done=done, total=total, unit="pieces", note=note)


OUTPUT = [
    "01:02:03 - INFO - Executing task 'collect'\n",
    "\n",
    f"    {event(started='collect')}",
    "    a library says something\n",
    event(say="another process makes this corpus; waiting for it"),
    progress(1, note="1.5 MB of text"),
    progress(2),
    f"a bar without an end{event(made='corpus', seconds=1.0)}",
    f"  {event(finished='collect', uri=URI, cached=False)}",
    event(started="clean"),
    event(finished="clean", uri=URI.replace("corpus", "clean"), cached=True),
    f"{event(started='dedup')[:15]}\n",
]
LINES = [
    r"    another process makes this corpus; waiting for it",
    r"    collect          25% 1 of 4 pieces  1\.5 MB of text",
    r"  collect           +\d\.\d s   corpus/0123abcd",
    r"  clean                cached   clean/0123abcd",
]
LOG = [
    "01:02:03 - INFO - Executing task 'collect'",
    "    a library says something",
    "a bar without an end",
    event(started="dedup")[:15],
]


def show(screen: Screen, text: str, chunk: int) -> None:
    for at in range(0, len(text), chunk):
        assert screen.write(text[at : at + chunk]) == len(text[at : at + chunk])


@pytest.mark.parametrize("chunk", [1, 7, 64, 1 << 20])
def test_events_become_lines_and_the_rest_goes_to_the_log(chunk: int):
    screen = Screen(io.StringIO(), io.StringIO())
    show(screen, "".join(OUTPUT), chunk)
    shown = screen.out.getvalue().splitlines()
    assert len(shown) == len(LINES)
    for line, pattern in zip(shown, LINES, strict=True):
        assert re.fullmatch(pattern, line), line
    assert screen.log.getvalue().split("\n") == [*LOG, ""]
    assert [(task.name, task.uri[-44:-32], task.cached) for task in screen.tasks.values()] == [
        ("collect", "tore/corpus/", False),
        ("clean", "store/clean/", True),
    ]


def test_on_a_terminal_progress_is_drawn_over_and_gives_way_to_lines():
    screen = Screen(io.StringIO(), Terminal())
    show(screen, progress(1) + progress(2, None, "x" * 200) + event(say="done") + event(say="again"), 50)
    bar = "    collect         2 pieces  "
    clear = "\r\x1b[2K"
    assert screen.out.getvalue() == (
        f"{clear}    collect          25% 1 of 4 pieces{clear}{bar}{'x' * (118 - len(bar))}{clear}    done\n    again\n"
    )
    assert not screen.isatty(), "nothing may colour what goes to the log"


def test_a_failed_task_is_the_error_of_the_run():
    screen = Screen(io.StringIO(), io.StringIO())
    show(screen, event(started="collect") + event(failed="collect", error="sources: empty"), 9)
    assert screen.out.getvalue() == "", "it is said once, at the end"
    assert Outcome(Path(), 1.0, 0, screen.tasks).error == "collect: sources: empty"
    assert Outcome(Path(), 1.0, 0, {"clean": TaskLine("clean", 0.0, uri=URI)}).error == ""


def test_the_peak_counts_what_children_had(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(memory, "INTERVAL_S", 0.02)
    before = memory.tree_bytes()
    assert before > 0
    with memory.peak_memory() as peak:
        child = subprocess.Popen([sys.executable, "-c", EATER], stdout=subprocess.PIPE)
        assert child.stdout
        assert child.stdout.readline() == b"up\n"
        deadline = time.monotonic() + 20
        while peak.peak_bytes < before + (90 << 20) and time.monotonic() < deadline:
            time.sleep(0.02)
        child.kill()
        child.communicate()
    assert peak.peak_bytes >= before + (90 << 20)
    assert memory.tree_bytes() < before + (90 << 20)


def test_a_run_whose_first_task_fails_says_why_and_ends(tmp_path: Path):
    (tmp_path / "recipe.yaml").write_text("collect: {sources: [{type: jsonl, path: missing.jsonl}]}\n")
    store = (tmp_path / "store").as_uri()
    words = ["run", "--config", "recipe.yaml", "--home", "home", "--store", store]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MANTUS_")}
    command = [sys.executable, "-m", "mantus.cli", *words]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 1
    why, then = done.stderr.splitlines()
    assert why.startswith("mantus run: collect: sources[0].path: missing.jsonl: no such file")
    assert "run it again to go on" in then
    assert done.stdout.startswith("mantus run: recipe.yaml; everything goes to home/\n")
    assert EVENT_MARK not in done.stdout
    [log] = (tmp_path / "home" / "runs").glob("*/run.log")
    assert "missing.jsonl: no such file" in log.read_text()
    assert not list((tmp_path / "store").glob("corpus/*"))
    assert not (tmp_path / "home" / "runs" / "latest").exists()


def test_on_this_machine_nothing_is_tried_twice():
    from pipelines.life import life

    def retried(pipeline: Any) -> list[str]:
        spec = pipeline.pipeline_spec
        components = (spec.root, *spec.components.values())
        return [name for c in components for name, task in c.dag.tasks.items() if task.HasField("retry_policy")]

    assert retried(life)
    assert not retried(without_retries(life))
    assert retried(life), "the pipeline itself stays as it is"


def test_jobs_of_a_cluster_need_a_store_that_they_reach():
    settings = {"executor": "kubernetes"}
    assert check_cluster(settings, "s3://b/p", {}) == check_cluster(settings, "", {"store": "s3://b"}) == settings
    assert check_cluster({}, "", {}) == {}
    for store in ("", "file:///tmp/store"):
        with pytest.raises(ValueError, match="--store s3://"):
            check_cluster(settings, store, {})
