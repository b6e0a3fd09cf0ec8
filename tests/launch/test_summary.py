"""The end of a run: its folder, the figures that stay from run to run, the release that is kept."""

import json
from pathlib import Path
from typing import Any

import pytest

from mantus.launch.local import Outcome, TaskLine
from mantus.launch.summary import GIB, conclude
from mantus.storage import PhaseConfig, Work, execute

FIGURE = {"name": "bits", "value": 1.5, "unit": "bits", "bar": "<= 2"}


class ContentConfig(PhaseConfig):
    """What a stand-in for a phase writes."""

    files: dict[str, str]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A relative one, as `mantus run` has it."""
    monkeypatch.chdir(tmp_path)
    return Path("home")


def artifact(kind: str, files: dict[str, str], stats: dict[str, Any]) -> str:
    def produce(work: Work) -> dict[str, Any]:
        for name, text in files.items():
            (work.out / name).parent.mkdir(exist_ok=True)
            (work.out / name).write_text(text)
        return stats

    return execute(kind, ContentConfig(store="store", files=files), produce).uri


def outcome(home: Path, number: int, cached: tuple[str, ...] = (), error: str = "") -> Outcome:
    """What run `number` came to, with artifacts in a real store."""
    folder = home / "runs" / str(number)
    folder.mkdir(parents=True)
    uris = {
        "release": artifact("release", {"hf/config.json": f"{number}"}, {"verdict": "passed"}),
        "report": artifact("report", {"index.html": f"page {number}"}, {}),
        "evaluate_model": artifact("evaluation", {"results.json": "[]"}, {"figures": [FIGURE]}),
    }
    tasks = {name: TaskLine(name, 0.0, 1.0, uri, name in cached) for name, uri in uris.items()}
    tasks["report"].error = error
    return Outcome(folder, 61.24, 5 * GIB, tasks)


def figures(folder: Path) -> dict[str, tuple[float, bool | None]]:
    return {row["name"]: (row["value"], row["holds"]) for row in json.loads((folder / "figures.json").read_text())}


def test_a_run_leaves_its_page_its_figures_and_its_release(home: Path, capsys: pytest.CaptureFixture[str]):
    run = outcome(home, 1)
    assert conclude(run, home) == 0
    assert figures(run.folder) == {"run_seconds": (61.2, True), "run_peak_memory": (5.0, False), "bits": (1.5, True)}
    assert (run.folder / "report.html").read_text() == "page 1"
    assert json.loads((run.folder / "artifacts.json").read_text()) == {n: t.uri for n, t in run.tasks.items()}
    assert (home / "runs" / "latest").resolve() == run.folder.resolve()
    assert (home / "release" / "hf" / "config.json").read_text() == "1"
    out = capsys.readouterr().out
    assert "run_peak_memory" in out
    assert "FAILS" in out
    assert (run.folder / "report.html").absolute().as_uri() in out


def test_where_a_release_was_deployed_its_endpoint_is_named(home: Path, capsys: pytest.CaptureFixture[str]):
    run = outcome(home, 1)
    uri = artifact("deployment", {"deployment.json": "{}"}, {"endpoint": "http://talker.example/v1"})
    run.tasks["deploy"] = TaskLine("deploy", 0.0, 1.0, uri)
    assert conclude(run, home) == 0
    out = capsys.readouterr().out
    assert "endpoint  http://talker.example/v1   (in the cluster)" in out
    assert "make serve" not in out


def test_the_next_run_keeps_the_figures_and_replaces_the_release(home: Path):
    conclude(outcome(home, 1), home)
    again = outcome(home, 2, cached=("release", "report", "evaluate_model"))
    assert conclude(again, home) == 0
    assert figures(again.folder) == figures(home / "runs" / "1") | {"rerun_seconds": (61.2, False)}
    assert (home / "release" / "hf" / "config.json").read_text() == "2"
    assert (home / "runs" / "latest").resolve() == again.folder.resolve()
    assert sorted(path.name for path in (home / "runs").iterdir()) == ["1", "2", "latest"]


def test_a_run_that_made_only_a_part_does_not_count_as_whole(home: Path):
    run = outcome(home, 1, cached=("evaluate_model",))
    conclude(run, home)
    assert figures(run.folder) == {"partial_run_phases_made": (2, None), "bits": (1.5, True)}


def test_a_failed_run_says_why_and_leaves_the_last_one_alone(home: Path, capsys: pytest.CaptureFixture[str]):
    conclude(outcome(home, 1), home)
    capsys.readouterr()
    assert conclude(outcome(home, 2, error="no space left"), home) == 1
    assert capsys.readouterr() == (
        "",
        "mantus run: report: no space left\nmantus run: stopped after 61 s; run it again to go on\n",
    )
    assert (home / "runs" / "latest").readlink() == Path("1")
    assert (home / "release" / "hf" / "config.json").read_text() == "1"
