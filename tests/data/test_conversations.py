"""Conversations: arguments stand in the request, tests stay apart from training, bad rows are counted."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mantus.data.conversations.chatdata import ChatDataConfig, read_rows
from mantus.data.conversations.chatdata import run as make_chat
from mantus.data.conversations.tooldata import SHIPPED, ToolDataConfig, read_tools
from mantus.data.conversations.tooldata import run as make_tools
from mantus.storage import fetch
from mantus.text.calls import check_call
from mantus.text.chat import calls_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    store = tmp_path_factory.mktemp("store").as_uri()
    return fetch(make_tools(ToolDataConfig(store=store, rows=600, heldout_rows=100, unseen_rows=30)).uri)


def rows(folder: Path, split: str) -> list[dict]:
    return [json.loads(line) for line in (folder / f"{split}.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("split", ["train", "heldout", "unseen"])
def test_every_call_fits_an_offered_tool_and_can_be_read_off(folder: Path, split: str):
    for row in rows(folder, split):
        said = " ".join(m["content"] for m in row["messages"] if m["role"] in ("user", "tool"))
        for message in row["messages"]:
            for call in calls_of(message) if message["role"] == "assistant" else ():
                assert check_call(call, row["tools"]) == ""
                assert all(str(value) in said for value in call.arguments.values())


def test_tests_stay_apart(folder: Path):
    trained = {m["content"] for row in rows(folder, "train") for m in row["messages"] if m["role"] == "user"}
    assert not trained & {row["messages"][0]["content"] for row in rows(folder, "heldout")}
    known = {tool["function"]["name"] for row in rows(folder, "train") for tool in row["tools"]}
    unseen = {call.name for row in rows(folder, "unseen") for call in calls_of(row["messages"][-1])}
    assert unseen
    assert not unseen & known


def test_every_kind_is_there_and_twice_is_the_same(folder: Path, tmp_path: Path):
    kinds = Counter(row["category"] for row in rows(folder, "train"))
    assert set(kinds) == {"single", "multiple", "multi_turn", "two_steps", "irrelevance", "several"}
    again = fetch(make_tools(ToolDataConfig(store=tmp_path.as_uri(), rows=600, heldout_rows=100, unseen_rows=30)).uri)
    assert (again / "train.jsonl").read_bytes() == (folder / "train.jsonl").read_bytes()


def test_the_trained_tools_are_the_agents_tools(folder: Path, tmp_path: Path):
    from mantus.agent.builtin import toolbox

    assert json.loads((folder / "tools.json").read_text()) == [tool.schema() for tool in toolbox(tmp_path, tmp_path)]


def test_instruction_rows_of_both_shapes_are_read_and_bad_ones_counted(tmp_path: Path):
    good = [
        {"instruction": "Add", "input": "1 and 2", "output": "3"},
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]},
    ]
    lines = [
        *map(json.dumps, good),
        "{broken",
        '{"text": "no"}',
        '{"messages": [{"role": "user", "content": "alone"}]}',
    ]
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    dropped: Counter[str] = Counter()
    found = list(read_rows(tmp_path / "rows.jsonl", "MIT", dropped))
    assert [row["messages"][0]["content"] for row in found] == ["Add\n1 and 2", "Hi"]
    assert dropped == {"not_json": 1, "neither_instruction_nor_messages": 2}


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"chatdata\.files: nowhere\.jsonl"):
        make_chat(ChatDataConfig(store=tmp_path.as_uri(), files=["nowhere.jsonl"]))


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ("tools: [", "not YAML"),
        ("tools: {}", "tools.yaml.tools: "),
        ("small_talk: []", "tools.yaml.small_talk"),
        ("refusal: No.", "tools.yaml.tools: field required"),
    ],
)
def test_a_wrong_tools_file_is_named(tmp_path: Path, wrong: str, named: str):
    (tmp_path / "tools.yaml").write_text(wrong)
    with pytest.raises(ValueError, match=f"^tooldata.tools: .*{named}"):
        make_tools(ToolDataConfig(store=tmp_path.as_uri(), tools=str(tmp_path / "tools.yaml")))


def test_a_phrase_that_forgets_an_argument_is_named():
    wrong = SHIPPED.read_text().replace("Set a timer for {minutes} minutes.", "Set a timer.")
    with pytest.raises(ValueError, match=r"tool set_timer: 'Set a timer.' must name each of \{minutes\}"):
        read_tools(wrong.encode(), "tools.yaml")
