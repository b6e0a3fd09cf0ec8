"""What a release is asked: text and conversations as the model's own template renders them, and tool tasks."""

import json
from pathlib import Path

import pytest

from mantus.release.heldout import from_rows, from_text, questions, read_rows
from mantus.release.measure import TorchSpeaker, measure, measure_reference, torch_model
from mantus.release.source import Source, open_source
from mantus.storage import fetch
from mantus.text.chat import render
from mantus.text.tokenizer import Tokenizer

WEATHER = {"type": "function", "function": {"name": "get_weather", "description": "", "parameters": {}}}
CALL = {"type": "function", "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}
CALLING = {
    "messages": [
        {"role": "user", "content": "How is the weather in Oslo? It was a bright cold day."},
        {"role": "assistant", "content": None, "tool_calls": [CALL]},
    ],
    "tools": [WEATHER],
}
SILENT = {
    "messages": [
        {"role": "user", "content": "The man went up the stairs, slowly."},
        {"role": "assistant", "content": "He did, and the clocks were striking."},
    ],
    "tools": [WEATHER],
}
ROWS = [CALLING, SILENT] * 3


@pytest.fixture
def source(trained) -> Source:
    return open_source(fetch(trained.uri))


def test_conversations_are_rendered_as_in_training(source: Source):
    tokenizer = Tokenizer.load(source.folder)
    expected = [render(tokenizer, row["messages"], row["tools"]).ids for row in ROWS]
    assert from_rows(source, ROWS, 8, 1000) == expected


def test_rows_with_tools_become_tasks(source: Source):
    asked = questions(source, from_rows(source, ROWS, 8, 100), ROWS, 4)
    assert [task.expected for task in asked.tools] == ["get_weather", "", "get_weather", ""]
    tokenizer = Tokenizer.load(source.folder)
    opened = render(tokenizer, CALLING["messages"][:1], [WEATHER], open_reply=True).ids
    assert asked.tools[0].prompt == opened
    whole = render(tokenizer, CALLING["messages"], [WEATHER]).ids[len(opened) :]
    assert asked.called(whole) == "get_weather"
    assert asked.called(whole[: whole.index(tokenizer.special["</tool_call>"]) - 5]) == "get_weather"
    assert asked.called(tokenizer.encode("It is cold in Oslo.")) == ""


def test_what_is_measured_is_not_what_calibrates(source: Source, tmp_path: Path):
    (tmp_path / "text.txt").write_text("".join(f"Line {n} of this text is like no other.\n" for n in range(400)))
    asked = questions(source, from_text(source, tmp_path / "text.txt", 10, 50), [], 10)
    assert len(asked.windows) == 10
    assert {len(window) for window in asked.windows + asked.calibration} == {50}
    assert not {tuple(window) for window in asked.windows} & {tuple(window) for window in asked.calibration}


def test_a_model_loses_nothing_against_itself(source: Source, tmp_path: Path):
    asked = questions(source, from_rows(source, ROWS, 8, 100), ROWS, 4)
    speaker = TorchSpeaker(torch_model(source.folder), "torch")
    reference = measure_reference(speaker, asked, tmp_path)
    found = measure(speaker, reference)
    assert found.perplexity == pytest.approx(reference.measured.perplexity)
    assert found.kl_mean < 1e-4, "stored in float16"
    assert (found.top1, found.tools) == (1.0, reference.measured.tools)


def test_too_little_text_is_named(source: Source, tmp_path: Path):
    (tmp_path / "text.txt").write_text("short")
    with pytest.raises(ValueError, match="too little held-out text"):
        questions(source, from_text(source, tmp_path / "text.txt", 10, 50), [], 10)
    with pytest.raises(ValueError, match=r"release.text: .*nowhere is no text file"):
        from_text(source, tmp_path / "nowhere", 10, 50)


def test_conversations_come_by_turns(tmp_path: Path):
    for name in "ab":
        (tmp_path / name).mkdir()
        lines = [json.dumps({"messages": [f"{name}{number}"]}) for number in range(2)]
        (tmp_path / name / "heldout.jsonl").write_text("\n".join(lines))
    assert [row["messages"][0] for row in read_rows([tmp_path / "a", tmp_path / "b"])] == ["a0", "b0", "a1", "b1"]
