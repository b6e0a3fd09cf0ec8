"""One phase inside a component: the artifact it fills, the events it emits, how it ends."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from kfp.dsl import Artifact, Dataset

from mantus.console import EVENT_MARK
from mantus.launch.cluster import Cluster
from mantus.launch.component import adopt, complete, flat, named, perform, records, refuse, uris_of, whole_numbers
from mantus.storage import open_store, read_manifest

TASK = """
import json, sys, time
from kfp.dsl import Dataset
from mantus.launch.component import perform
perform("collect", json.loads(sys.argv[1]), sys.argv[2], Dataset(uri=sys.argv[3]), {})
print("up", flush=True)
time.sleep(60)
"""


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As under `mantus run`, with a cache of its own."""
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("MANTUS_EVENTS", "1")
    for name in ("MANTUS_TASK", "MANTUS_RUNNER_PID", "MANTUS_RUN", "MANTUS_CLUSTER"):
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


@pytest.fixture
def out(tmp_path: Path) -> Dataset:
    """What KFP hands a component for its output: a place of KFP's own."""
    return Dataset(name="out", uri=str(tmp_path / "kfp" / "collect" / "out"))


def collect(config: dict[str, Any], store: str, out: Dataset) -> dict[str, Any]:
    """The metadata of the output artifact, filled."""
    perform("collect", config, store, out, {}, {})
    return dict(out.metadata)


def test_a_phase_fills_the_artifact_and_says_when_it_starts_and_ends(
    config: dict[str, Any], store: str, out: Dataset, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    found = collect(config, store, out)
    manifest = read_manifest(found["uri"])
    facts = {"uri": f"{store}/corpus/{manifest.key}", "kind": "corpus", "key": manifest.key, "cached": False}
    assert found == {**facts, "documents": 3, "bytes": manifest.stats["bytes"]}, "scalars only"
    assert out.uri == str(tmp_path / "kfp" / "collect" / "out"), "KFP's launcher fails on a URI of another bucket"
    assert json.loads(Path(out.path).read_text()) == {**facts, "stats": manifest.stats}
    said = events(capsys.readouterr().out)
    assert said[0] == {"started": "collect"}
    assert said[-1] == {"finished": "collect", "uri": facts["uri"], "cached": False}


def test_the_second_time_it_is_found(
    config: dict[str, Any], store: str, out: Dataset, capsys: pytest.CaptureFixture[str]
):
    first, second = collect(config, store, out), collect(config, store, out)
    assert second == first | {"cached": True}
    assert events(capsys.readouterr().out)[-1]["cached"] is True


def test_inputs_are_found_by_what_their_makers_said_else_by_their_own_uri():
    ours, imported = Dataset(uri="minio://kfp/1", metadata={"uri": "s3://b/corpus/1"}), Dataset(uri="s3://b/corpus/2")
    assert uris_of([ours, imported, "s3://b/corpus/3"]) == ["s3://b/corpus/1", "s3://b/corpus/2", "s3://b/corpus/3"]
    assert uris_of(3) == 3


def test_an_artifact_of_an_earlier_run_is_taken_as_it_is(
    config: dict[str, Any], store: str, out: Dataset, capsys: pytest.CaptureFixture[str], tmp_path: Path
):
    made = collect(config, store, out)
    again = Dataset(name="again", uri=str(tmp_path / "again"))
    adopt(made["uri"], "clean|corpus", store, again)
    assert uris_of(again) == made["uri"]
    capsys.readouterr()
    mistakes = ((made["uri"], "model", "holds corpus, not model"), (f"{store}/corpus/0", "corpus", "no artifact here"))
    for uri, kind, expected in mistakes:
        with pytest.raises(SystemExit) as ended:
            adopt(uri, kind, store, again)
        assert ended.value.code == 2
        err = capsys.readouterr().err
        assert expected in err
        assert err.count("\n") == 1


def test_a_named_run_keeps_what_became_of_its_tasks(
    config: dict[str, Any], store: str, out: Dataset, monkeypatch: pytest.MonkeyPatch
):
    collect(config, store, out)
    assert records(store) == {}, "this run has no name"
    monkeypatch.setenv("MANTUS_RUN", "tuesday")
    made = collect(config, store, out)
    monkeypatch.setenv("MANTUS_TASK", "wrong")
    with pytest.raises(SystemExit):
        collect({"workerz": 1}, store, out)
    found = records(store)
    assert found["collect"] == {"uri": made["uri"], "cached": True, "figures": []}
    assert "workerz" in found["wrong"]["error"]
    monkeypatch.setenv("MANTUS_RUN", "wednesday")
    assert records(store) == {}


def test_a_runs_name_is_cut_to_what_a_label_takes(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MANTUS_RUN", "9F0C2B1E-1111-2222-3333-444455556666")
    assert named(Cluster()).run == "9f0c2b1e-1111-2222-3333-444455"
    assert named(Cluster(run="mine")).run == "mine"


def test_cluster_settings_are_completed_where_they_say_nothing(capsys: pytest.CaptureFixture[str]):
    given = {"image": "a:1", "secret": "s", "queue": "", "tolerations": [{"operator": "Exists"}]}
    assert complete({}, **given) == {}
    whole = complete({"executor": "kubernetes", "secret": "mine", "nodes": 2.0}, **given)
    assert whole == {
        "executor": "kubernetes",
        "secret": "mine",
        "nodes": 2,
        "image": "a:1",
        "tolerations": [{"operator": "Exists"}],
    }
    with pytest.raises(SystemExit) as ended:
        complete({"executor": "kubernetez"}, **given)
    assert ended.value.code == 2
    assert "cluster.executor" in capsys.readouterr().err


def test_an_executor_needs_a_cluster_to_talk_to(
    config: dict[str, Any],
    store: str,
    out: Dataset,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
):
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    with pytest.raises(SystemExit) as ended:
        perform("collect", config, store, out, {}, {"executor": "kubernetes"})
    assert ended.value.code == 1
    assert "kubeconfig" in capsys.readouterr().err
    perform("collect", config, store, out, {}, None)


def test_a_users_error_is_one_line_with_the_tasks_name(
    config: dict[str, Any],
    store: str,
    out: Dataset,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("MANTUS_TASK", "gather")
    config["sources"][0]["path"] = "no\nwhere.jsonl"
    mistakes = (
        (config, "no where.jsonl: no such file"),
        ({"workerz": 1.0}, "gather.workerz: "),
        ({"workers": -1.0}, "(got -1)"),
    )
    for wrong, expected in mistakes:
        with pytest.raises(SystemExit) as ended:
            collect(wrong, store, out)
        said, err = capsys.readouterr()
        assert ended.value.code == 2
        assert err.startswith("mantus: gather: ")
        assert err.count("\n") == 1
        assert expected in err
        assert events(said) == [{"started": "gather"}, {"failed": "gather", "error": err[16:-1]}]


def test_a_failure_of_the_surroundings_has_another_code(
    config: dict[str, Any], out: Dataset, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit) as ended:
        collect(config, str(tmp_path / "file" / "store"), out)
    said, err = capsys.readouterr()
    assert ended.value.code == 1
    assert err.startswith("mantus: collect: file://")
    assert "failed" in events(said)[-1]


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


def test_a_refused_evaluation_names_the_limits_that_it_missed(capsys: pytest.CaptureFixture[str]):
    evaluation = Artifact(uri="minio://kfp/1", metadata={"uri": "s3://b/evaluation/1"})
    with pytest.raises(SystemExit) as ended:
        refuse(evaluation, reasons=["3.2 bits per byte, xz -9e needs 2.1"])
    assert ended.value.code == 1
    expected = "mantus: gate: evaluation refused: 3.2 bits per byte, xz -9e needs 2.1\n"
    assert capsys.readouterr().err == expected


def task(config: dict[str, Any], store: str, runner: int) -> subprocess.Popen[str]:
    """A task that a run with this process id is said to have started."""
    command = [sys.executable, "-c", TASK, json.dumps(config), store, store.removeprefix("file://") + "-pointer"]
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
