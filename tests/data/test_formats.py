"""Published formats become the same conversations; what is broken is counted by reason and never stops the rest."""

import json
from collections import Counter
from pathlib import Path

import pytest

from mantus.data.conversations.chatdata import read_rows
from mantus.data.conversations.formats import convert, python_type, read_dataset
from mantus.data.conversations.preferences import pairs_of
from mantus.data.conversations.synthesis.gates import calls_problem
from mantus.data.conversations.tooldata import ToolDataConfig, run
from mantus.storage import fetch
from mantus.text.calls import Call
from mantus.text.chat import calls_of

FIXTURES = Path(__file__).parent / "formats"
TURIN = Call("get_forecast", {"town": "Turin"})
EXPECTED: dict[str, tuple[list[list[str]], list[Call], dict[str, int]]] = {
    "xlam.json": ([["user", "assistant"]] * 2, [Call("get_forecast", {"town": "Turin", "days": 3})], {}),
    "toolace.jsonl": (
        [["user", "assistant", "tool", "assistant"]],
        [Call("Town_Forecast", {"town": "Turin", "days": 3}), Call("sum_all", {"values": [1.5, 2]})],
        {"bad_calls": 1},
    ),
    "glaive.jsonl": (
        [["user", "assistant", "tool", "assistant", "user", "assistant"], ["user", "assistant"]],
        [TURIN],
        {},
    ),
    "hermes.jsonl": ([["user", "assistant", "tool", "assistant"]], [TURIN], {"bad_calls": 1}),
    "sharegpt.jsonl": (
        [["user", "assistant"], ["user", "assistant", "tool", "assistant"]],
        [TURIN],
        {"unknown_role": 1},
    ),
    "openai.jsonl": (
        [["system", "user", "assistant", "tool", "assistant"], ["user", "assistant"]],
        [TURIN, Call("get_forecast", {"town": "Oslo"})],
        {"no_reply": 1},
    ),
}


@pytest.mark.parametrize("name", EXPECTED)
def test_every_format_is_read(name: str):
    dropped: Counter[str] = Counter()
    rows = list(read_dataset(FIXTURES / name, "MIT", dropped))
    roles, calls, reasons = EXPECTED[name]
    assert [[message["role"] for message in row["messages"]] for row in rows] == roles
    good = [row for row in rows if not calls_problem(row)]
    assert [call for row in good for message in row["messages"] for call in calls_of(message)] == calls
    assert dropped == reasons
    assert {(row["source"], row["license"]) for row in rows} == {(name, "MIT")}


def test_a_call_that_does_not_fit_its_tool_is_seen():
    rows = list(read_dataset(FIXTURES / "xlam.json", "MIT", Counter()))
    assert [calls_problem(row) for row in rows] == ["", "schema"]
    parameters = rows[0]["tools"][0]["function"]["parameters"]
    assert parameters["required"] == ["town"]
    assert parameters["properties"]["hours"] == {"type": "array", "items": {"type": "integer"}, "description": "Hours."}


def test_python_types():
    assert python_type("Optional[List[float]]") == {"type": "array", "items": {"type": "number"}}
    assert python_type("Dict[str, Any]") == {"type": "object"}
    assert python_type("Callable[[int], int]") == {"type": "string"}


@pytest.mark.parametrize(
    ("stored", "reason"),
    [
        ([], "not_an_object"),
        ({"text": "x"}, "unknown_format"),
        ({"messages": [1]}, "wrong_shape"),
        ({"messages": [{"role": "critic", "content": ""}]}, "unknown_role"),
        ({"query": "x", "tools": "[", "answers": "[]"}, "bad_tools"),
        ({"system": "", "chat": "USER: hello"}, "no_reply"),
    ],
)
def test_reasons(stored: object, reason: str):
    with pytest.raises(ValueError, match=f"^{reason}"):
        convert(stored)


def test_they_are_trained_where_their_calls_fit(tmp_path: Path):
    files = [str(FIXTURES / name) for name in EXPECTED]
    made = run(
        ToolDataConfig(store=tmp_path.as_uri(), rows=10, heldout_rows=4, unseen_rows=2, files=files, license="MIT")
    )
    rows = [json.loads(line) for line in (fetch(made.uri) / "train.jsonl").read_text().splitlines()]
    assert Counter(row["source"] for row in rows) == {
        "mantus": 10, "xlam.json": 1, "toolace.jsonl": 1, "glaive.jsonl": 2, "hermes.jsonl": 1, "sharegpt.jsonl": 2,
        "openai.jsonl": 2,
    }  # fmt: skip
    assert made.stats["dropped"] == {"bad_calls": 2, "no_reply": 1, "schema": 1, "unknown_role": 1}
    (tmp_path / "empty.jsonl").write_text("{broken\n")
    with pytest.raises(ValueError, match=r"tooldata\.files: .*empty\.jsonl: no usable row \(\{'not_json': 1\}\)"):
        run(ToolDataConfig(store=tmp_path.as_uri(), files=[str(tmp_path / "empty.jsonl")]))


def test_chat_data_reads_sharegpt_too():
    dropped: Counter[str] = Counter()
    assert len(list(read_rows(FIXTURES / "sharegpt.jsonl", "MIT", dropped))) == 2
    assert dropped == {"unknown_role": 1}


def test_published_preferences():
    better, worse = {"role": "assistant", "content": "Hello."}, {"role": "assistant", "content": "What?"}
    asked = {"role": "user", "content": "Hi"}
    for row in (
        {"prompt": "Hi", "chosen": "Hello.", "rejected": "What?"},
        {"prompt": "Hi", "chosen": [asked, better], "rejected": [asked, worse]},
        {"messages": [asked], "chosen": [better], "rejected": [worse]},
    ):
        (pair,) = pairs_of(row, "0")
        assert (pair.messages, pair.chosen, pair.rejected, pair.kind) == ([asked], better, worse, "given")
    with pytest.raises(ValueError, match="a pair needs"):
        list(pairs_of({"prompt": "Hi", "chosen": [asked], "rejected": [asked]}, "0"))


def test_every_wrong_call_of_made_rows_is_wrong(tmp_path: Path):
    """Of made rows, parallel and masked ones among them: the rejected side is never the chosen one."""
    made = run(ToolDataConfig(store=tmp_path.as_uri(), rows=10, heldout_rows=4, made_tools=80, schema_rows=120))
    kinds: Counter[str] = Counter()
    for number, line in enumerate((fetch(made.uri) / "train.jsonl").read_text().splitlines()):
        for pair in pairs_of(json.loads(line), str(number)):
            kinds[pair.kind] += 1
            assert pair.rejected != pair.chosen
            assert (
                calls_problem({"messages": [pair.rejected], "tools": pair.tools}) == "" or pair.kind != "wrong argument"
            )
    assert set(kinds) == {"other tool", "wrong argument", "no call", "needless call"}
