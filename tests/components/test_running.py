"""Components in a real pipeline through kfp.local: what they show, what the exit handler sums up, however it ends."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import json, sys
from kfp import dsl, local
from mantus.launch.local import without_retries
from pipelines import tasks

@dsl.pipeline(name="short")
def short(store: str, collect: dict, image: str = "python:0", secret: str = "s", places: dict = {}, bear: list = []):
    run = tasks.Run(store, image, secret, places, bear)
    with dsl.ExitHandler(run.summary(), name="run"):
        run = run.checked(places, places, "")
        kept = tasks.corpus(run, collect, {"min_words": 5.0, "min_stop_words": 0.0}, {}).kept
        run.adopted("corpus", "corpus", sys.argv[2] + "/there")

folder, store, collect = sys.argv[1:4]
local.init(local.SubprocessRunner(use_venv=False), pipeline_root=folder + "/kfp", workspace_root=folder + "/space")
without_retries(short)(store=store, collect=json.loads(collect))
"""


def run(tmp_path: Path, collect: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """The pipeline in a process of its own."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MANTUS_")}
    environment |= {"MANTUS_CACHE": str(tmp_path / "cache"), "MANTUS_RUN": "short", "PYTHONPATH": os.getcwd()}
    words = [str(tmp_path), (tmp_path / "store").as_uri(), json.dumps(collect)]
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM, *words]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=os.getcwd())


@pytest.fixture
def rows(tmp_path: Path) -> dict[str, Any]:
    texts = [f"The river ran past mill {n} and the people of the town came down to look at it." for n in range(4)]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in [*texts, texts[0], "Short."]))
    return {"sources": [{"type": "jsonl", "path": str(path), "name": "rows"}], "workers": 1}


def file(folder: Path, component: str, name: str) -> str:
    [path] = folder.glob(f"kfp/*/{component}*/{name}")
    return path.read_text()


def test_a_corpus_is_shown_step_by_step_and_the_summary_names_it(tmp_path: Path, rows: dict[str, Any]):
    done = run(tmp_path, rows)
    assert done.returncode != 0, "nothing to adopt is there"
    page = file(tmp_path, "dedup", "page")
    assert "| collected | 6 |" in page
    assert "exact duplicate" in page
    pointer = json.loads(file(tmp_path, "dedup", "out"))
    assert pointer["uri"].startswith((tmp_path / "store").as_uri() + "/dedup/")
    assert pointer["uri"] in page
    summary = file(tmp_path, "summary", "page")
    assert "# Run failed" in summary
    assert "**given_corpus**: " in summary
    assert f"| dedup | made | {pointer['uri']} |" in summary
    assert "doctor" not in summary


def test_a_wrong_recipe_is_in_the_summary(tmp_path: Path):
    done = run(tmp_path, {"sources": []})
    assert done.returncode != 0
    assert "collect: sources: empty" in done.stdout
    summary = file(tmp_path, "summary", "page")
    assert "**collect**: sources: empty" in summary
    assert done.stdout.count("Executing task") <= 5, "what depends on it is not tried"
