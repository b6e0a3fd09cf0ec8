"""BFCL stays out of training: its rows, functions and paraphrases are found, dropped, and reported as gone."""

import json
from pathlib import Path

import pytest

from mantus.data.conversations.apart import Apart, Near
from mantus.data.conversations.tooldata import ToolDataConfig, run
from mantus.storage import fetch

ASKED = "Work out how long the ferry from Bergen to Stavanger takes when the sea is rough today."
FERRY = {
    "name": "ferry.travel_time",
    "description": "Work out the travel time of a ferry between two harbours.",
    "parameters": {"type": "dict", "properties": {"start": {"type": "string"}}, "required": ["start"]},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    row = {"id": "simple_python_0", "question": [[{"role": "user", "content": ASKED}]], "function": [FERRY]}
    (tmp_path / "BFCL_v4_simple_python.json").write_text(json.dumps(row) + "\n")
    return tmp_path


def row(said: str, name: str = "f", description: str = "Something else.") -> dict:
    tool = {"type": "function", "function": {"name": name, "description": description, "parameters": {}}}
    return {"messages": [{"role": "user", "content": said}, {"role": "assistant", "content": "."}], "tools": [tool]}


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        (row(ASKED), "bfcl_row"),
        (row(f"Hello. {ASKED} Thanks!"), "bfcl_row"),
        (row("Please work out how long ferries from Bergen to Stavanger take: rough sea!"), "bfcl_paraphrase"),
        (row("How is it?", "travelTime"), "bfcl_function_name"),
        (row("How is it?", "ferry_travel_time"), "bfcl_function_name"),
        (
            row("How is it?", "g", "Works out the travel time of ferries between 2 harbours"),
            "bfcl_function_description",
        ),
        (row("How long does the train from Bergen to Oslo take in winter?"), ""),
    ],
)
def test_what_is_bfcls_is_found(folder: Path, given: dict, reason: str):
    assert Apart.read(folder).problem(given) == reason


def test_near_prefers_the_most_alike():
    near = Near({"a": "red green blue yellow", "b": "red green blue black white"})
    assert near.nearest("blue, green, red and yellow!") == (1.0, "a")
    assert near.nearest("red blue") == (0.0, "")


def test_the_report_says_what_it_searched(folder: Path):
    report = Apart.read(folder).report([row(ASKED), row("How long does the night train from Bergen to Oslo take?")])
    assert (report["rows"], report["found"], report["samples"][0]["bfcl"]) == (2, {"bfcl_row": 1}, "simple_python_0")
    assert report["closest"][0]["share"] == 1.0


def test_the_phase_drops_and_reports(folder: Path, tmp_path: Path):
    taken = {
        **FERRY,
        "parameters": {"type": "object", "properties": {"start": {"type": "string"}}, "required": ["start"]},
    }
    kept = {**taken, "name": "harbour_depth", "description": "Measure the depth of a harbour basin."}
    (tmp_path / "tools.json").write_text(json.dumps([taken, kept]))
    sizes = {"rows": 30, "heldout_rows": 4, "unseen_rows": 2, "schema_rows": 20}
    schemas = [str(tmp_path / "tools.json")]
    made = run(ToolDataConfig(store=tmp_path.as_uri(), schemas=schemas, apart_from=str(folder), **sizes))
    assert made.stats["dropped"]["bfcl_function_name"] == 1
    assert made.stats["apart"]["found"] == {}
    assert made.stats["apart"]["rows"] == 50
    text = (fetch(made.uri) / "train.jsonl").read_text()
    assert "harbour_depth" in text
    assert "travel_time" not in text
    assert json.loads((fetch(made.uri) / "apart.json").read_text())["bfcl_functions"] == 1
