"""One phase inside a component: the artifact it fills, the events it emits, how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mantus.console import EVENT_MARK
from mantus.launch.component import flat, perform, refuse, whole_numbers
from mantus.storage import open_store, read_manifest

TASK = """
import json, sys, time
from types import SimpleNamespace
from mantus.launch.component import perform
perform("collect", json.loads(sys.argv[1]), sys.argv[2], SimpleNamespace(), {})
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As under `mantus run`, with a cache of its own."""
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MANTUS_EVENTS", "1")
    for name in ("MANTUS_TASK", "MANTUS_RUNNER_PID"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def config(tmp_path: Path) -> dict[str, Any]:
    """Settings of a small `collect`, numbers as KFP carries them."""
    rows = (json.dumps({"text": f"The river ran past mill {n}."}) for n in range(3))
    (tmp_path / "rows.jsonl").write_text("\n".join(rows))
    source = {"type": "jsonl", "path": str(tmp_path / "rows.jsonl"), "name": "rows", "document_kb": 64.0}
    return {"sources": [source], "workers": 1.0}


@pytest.fixture
def store(tmp_path: Path) -> str:
    return (tmp_path / "store").as_uri()


def events(text: str) -> list[dict[str, Any]]:
    return [json.loads(line.removeprefix(EVENT_MARK)) for line in text.split("\n") if line.startswith(EVENT_MARK)]


def collect(config: dict[str, Any], store: str) -> SimpleNamespace:
    """What KFP hands a component for its output, filled."""
    out = SimpleNamespace(uri="not yet", metadata={})
    perform("collect", config, store, out, {})
    return out


def test_a_phase_fills_the_artifact_and_says_when_it_starts_and_ends(
    config: dict[str, Any], store: str, capsys: pytest.CaptureFixture[str]
):
    out = collect(config, store)
    manifest = read_manifest(out.uri)
    num_bytes = manifest.stats["bytes"]
    expected = {"kind": "corpus", "key": manifest.key, "cached": False, "documents": 3, "bytes": num_bytes}
    assert out.metadata == expected, "scalars only"
    assert out.uri == f"{store}/corpus/{manifest.key}"
    said = events(capsys.readouterr().out)
    assert said[0] == {"started": "collect"}
    assert said[-1] == {"finished": "collect", "uri": out.uri, "cached": False}


def test_the_second_time_it_is_found(config: dict[str, Any], store: str, capsys: pytest.CaptureFixture[str]):
    first, second = collect(config, store), collect(config, store)
    assert (second.uri, second.metadata) == (first.uri, first.metadata | {"cached": True})
    assert events(capsys.readouterr().out)[-1]["cached"] is True


def test_a_users_error_is_one_line_with_the_tasks_name(
    config: dict[str, Any], store: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("MANTUS_TASK", "gather")
    config["sources"][0]["path"] = "no\nwhere.jsonl"
    mistakes = (
        (config, "no where.jsonl: no such file"),
        ({"workerz": 1.0}, "gather.workerz: "),
        ({"workers": -1.0}, "(got -1)"),
    )
    for wrong, named in mistakes:
        with pytest.raises(SystemExit) as ended:
            collect(wrong, store)
        out, err = capsys.readouterr()
        assert ended.value.code == 2
        assert err.startswith("mantus: gather: ")
        assert err.count("\n") == 1
        assert named in err
        assert events(out) == [{"started": "gather"}, {"failed": "gather", "error": err[16:-1]}]


def test_a_failure_of_the_surroundings_has_another_code(
    config: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        collect(config, str(tmp_path / "file" / "store"))
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert err.startswith("mantus: collect: file://")
    assert "failed" in events(out)[-1]


def test_doubles_of_protobuf_become_whole_again():
    assert repr(whole_numbers({"a": 1.0, "b": [2.5, 3.0], "c": "4.0", "d": True, "e": None, "f": {"g": -0.0}})) == (
        "{'a': 1, 'b': [2.5, 3], 'c': '4.0', 'd': True, 'e': None, 'f': {'g': 0}}"
    )


def test_only_scalars_are_shown_beside_an_artifact():
    assert flat({"a": 1, "b": 2.5, "c": "x", "d": True, "e": {"f": 1}, "g": [1], "h": None}) == {
        "a": 1,
        "b": 2.5,
        "c": "x",
        "d": True,
    }


def test_a_refused_release_names_the_checks_that_failed(store: str, capsys: pytest.CaptureFixture[str]):
    results = {"size": True, "top-1 agreement": False, "perplexity": False}
    checks = [{"message": f"{name} is off", "passed": passed} for name, passed in results.items()]
    open_store(f"{store}/release/1").put("release.json", json.dumps({"gate": {"checks": checks}}).encode())
    with pytest.raises(SystemExit) as ended:
        refuse(f"{store}/release/1")
    out, err = capsys.readouterr()
    assert ended.value.code == 1
    assert err == "mantus: gate: release refused: top-1 agreement is off; perplexity is off\n"
    assert events(out)[-1]["failed"] == "gate"


def task(config: dict[str, Any], store: str, runner: int) -> subprocess.Popen[str]:
    """A task that a run with this process id is said to have started."""
    command = [sys.executable, "-c", TASK, json.dumps(config), store]
    environment = {**os.environ, "MANTUS_RUNNER_PID": str(runner)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_task_whose_run_is_gone_does_nothing(config: dict[str, Any], store: str, tmp_path: Path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    ended = task(config, store, gone.pid)
    out, err = ended.communicate(timeout=30)
    assert (ended.returncode, out) == (1, "")
    assert err == "mantus: the run that started this task is gone\n"
    assert not (tmp_path / "store").exists()


def test_a_task_ends_when_its_run_is_killed(config: dict[str, Any], store: str):
    runner = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    ended = task(config, store, runner.pid)
    assert ended.stdout
    try:
        assert "up\n" in iter(ended.stdout.readline, "")
        assert ended.poll() is None
        runner.kill()
        runner.wait()
        ended.communicate(timeout=20)
        assert ended.returncode == -signal.SIGTERM
    finally:
        runner.kill()
        ended.kill()
