"""The phase measures BFCL over a served release and in a directory, lm-eval runs it too, runs are put side by side."""

import json
from pathlib import Path

import pytest

from mantus.cli import main
from mantus.data.conversations.bfcl import read_cases
from mantus.data.conversations.tooldata import ToolDataConfig
from mantus.data.conversations.tooldata import run as make_tools
from mantus.evaluation.bfcl.tasks import score, write_tasks
from mantus.evaluation.run import EvaluateConfig, run
from mantus.report.compare import read_run, verdict
from mantus.storage import fetch
from tests.evaluation import bfcl_folder

CATEGORIES = list(bfcl_folder.ROWS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bfcl_folder.write(tmp_path_factory.mktemp("bfcl") / "data")


@pytest.fixture(scope="module")
def evaluated(inputs, url: str, folder: Path):
    """BFCL through the endpoint, beside training rows that were held apart from it."""
    sizes = {"rows": 20, "heldout_rows": 4, "unseen_rows": 2, "made_tools": 40, "schema_rows": 30}
    tools = make_tools(ToolDataConfig(store=inputs["store"], apart_from=str(folder), **sizes))
    ways = ["free", "auto", "required"]
    given = {"bfcl": str(folder), "bfcl_categories": CATEGORIES, "bfcl_ways": ways, "tooldata": tools.uri}
    return run(EvaluateConfig(store=inputs["store"], endpoint=url, max_rows=2, **given))


def test_every_way_has_scores_with_intervals(evaluated):
    rows = json.loads((fetch(evaluated.uri) / "results.json").read_text())["results"]
    named = {(row["task"], row["metric"]): row for row in rows}
    for way in ("free", "auto", "required"):
        assert ("bfcl_simple_python", way) in named
        assert named["bfcl_1_tool", way]["num"] == 2
        assert named["bfcl_2_to_4_tools", way]["num"] == 2
        assert f"bfcl_errors_{way}" in evaluated.stats
    assert ("bfcl_irrelevance", "free") in named
    assert ("bfcl_irrelevance", "required") not in named  # a forced call is no answer to it
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows)
    assert evaluated.stats["apart"]["found"] == {}
    assert evaluated.stats["apart"]["rows"] == 50
    samples = [json.loads(line) for line in (fetch(evaluated.uri) / "samples.jsonl").read_text().splitlines()]
    assert {"way", "id", "calls", "error", "offered"} <= set(samples[0]) | set(samples[-1])


def test_a_directory_is_measured_the_same_way(inputs, trained, folder: Path):
    config = EvaluateConfig(store=inputs["store"], model=trained.uri, bfcl=str(folder), bfcl_categories=["multiple"])
    assert set(run(config).stats["scores"]) == {
        "bfcl_multiple.directory",
        "bfcl_2_to_4_tools.directory",
        "bfcl_called.directory",
    }


@pytest.mark.slow
def test_lm_eval_runs_the_categories(trained, folder: Path, tmp_path: Path):
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    from mantus.evaluation.adapter import MantusLM

    names = write_tasks(read_cases(folder, ["simple_python", "irrelevance"]), tmp_path)
    assert names == ["bfcl_simple_python", "bfcl_irrelevance"]
    manager = TaskManager(include_path=str(tmp_path), include_defaults=False)
    done = simple_evaluate(
        model=MantusLM(str(fetch(trained.uri)), 300), tasks=names, task_manager=manager, bootstrap_iters=0
    )
    assert done["results"]["bfcl_simple_python"]["acc,none"] == 0.0
    assert done["results"]["bfcl_irrelevance"]["acc,none"] in (0.0, 1.0)
    (row,) = (json.loads(line) for line in (tmp_path / "simple_python.jsonl").read_text().splitlines())
    assert score(row, [" [math.add(a=2, b=3.5)]\nmore"]) == {"acc": 1.0}
    assert score(row, ["I do not know"]) == {"acc": 0.0}


def test_runs_side_by_side(evaluated, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    better = json.loads((fetch(evaluated.uri) / "results.json").read_text())
    for row in better["results"]:
        row |= {"value": 1.0, "low": 1.0, "high": 1.0} if row["metric"] == "free" else {}
    (tmp_path / "tuned.json").write_text(json.dumps(better))
    page = tmp_path / "page.html"
    with pytest.raises(SystemExit) as ended:
        main(["compare", f"before={evaluated.uri}", f"after={tmp_path / 'tuned.json'}", "--out", str(page)])
    assert ended.value.code == 0
    printed = capsys.readouterr().out
    assert printed.split()[:2] == ["before", "after"]
    assert "bfcl_simple_python.free" in printed
    html = page.read_text()
    assert html.startswith("<!doctype html>")
    assert "http://" not in html.replace(evaluated.uri, "")
    assert "bfcl_simple_python.required" in html
    with pytest.raises(ValueError, match=r"compare: .*gone: no results"):
        read_run(str(tmp_path / "gone"))


def test_only_intervals_apart_are_marked():
    first = {"low": 0.4, "high": 0.6, "higher_is_better": True}
    assert verdict({"low": 0.61, "high": 0.7, "higher_is_better": True}, first) == "good"
    assert verdict({"low": 0.1, "high": 0.3, "higher_is_better": True}, first) == "bad"
    assert verdict({"low": 0.5, "high": 0.9, "higher_is_better": True}, first) == ""
    assert verdict({"low": 0.61, "high": 0.7, "higher_is_better": False}, first) == "bad"


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"endpoint": "http://127.0.0.1:1/v1"}, r"evaluate\.tooldata: needed .*or bfcl"),
        ({"endpoint": "http://127.0.0.1:1/v1", "bfcl": "gone"}, r"evaluate\.bfcl: gone: no such folder"),
        ({"endpoint": "http://127.0.0.1:1/v1", "bfcl": "gone", "bfcl_ways": ["hard"]}, r"evaluate\.bfcl_ways: 'hard'"),
    ],
)
def test_wrong_settings_are_named(wrong: dict, said: str):
    with pytest.raises(ValueError, match=said):
        run(EvaluateConfig(**wrong))
