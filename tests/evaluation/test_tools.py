"""The tool scorer over a real endpoint: every reply counts once, grammar makes every forced call parse."""

import json
from pathlib import Path

from mantus.data.conversations.tooldata import ToolDataConfig
from mantus.data.conversations.tooldata import run as make_tools
from mantus.evaluation.tools import Outcome, ask, scores
from mantus.storage import fetch
from mantus.text.calls import Call


def test_forced_calls_always_parse(url: str, tmp_path: Path):
    made = make_tools(ToolDataConfig(store=tmp_path.as_uri(), rows=20, heldout_rows=12, unseen_rows=4, max_offered=2))
    lines = (fetch(made.uri) / "unseen.jsonl").read_text().splitlines()
    outcomes = ask(url, [json.loads(line) for line in lines], "required", "test")
    assert len(outcomes) == 4
    assert all(len(outcome.found) == 1 for outcome in outcomes if outcome.valid)


def outcome(expected: list[Call], found: list[Call]) -> Outcome:
    return Outcome({}, expected, found, "", True, 0.1, 5)


def test_selection_arguments_and_silence_are_told_apart():
    right, other = Call("f", {"a": 1}), Call("f", {"a": 2})
    auto = [
        outcome([right], [right]),
        outcome([right], [other]),
        outcome([right], []),
        outcome([], []),
        outcome([], [right]),
    ]
    values = {score.metric: score.value for score in scores("t", auto, auto[:1])}
    assert values["tool_selection"] == 2 / 3
    assert values["arguments_exact"] == 1 / 3
    assert values["irrelevance"] == 1 / 2
    assert values["parse_rate"] == 1
