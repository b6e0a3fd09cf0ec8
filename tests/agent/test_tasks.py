"""Tasks are graded on what came of them, mistakes in their file name the file, and the phase keeps the transcripts."""

import json
from pathlib import Path

import pytest
from pydantic import ValidationError

from mantus.agent.orchestrator import Result
from mantus.agent.run import AgentConfig, run
from mantus.agent.tasks import Check, Task, grade, load_tasks, numbers, prepare
from mantus.agent.tools import Status
from mantus.storage import fetch
from tests.agent.endpoint import Endpoint, calls, refuses, says

FOUND = Result("call_1", "search", {}, Status.OK, "The Root Zone is the top.")
LOST = Result("call_2", "file_read", {}, Status.FAILED, "no such file: other")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "notes.txt").write_text(" hello world\n")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "sum.txt").write_text("It is 1,045.50 in all.")
    return tmp_path


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        ({}, ""),
        ({"answer_number": 84}, "It is 84."),
        ({"answer_number": 84}, "84.0, and not 85"),
        ({"answer_number": -1234.5}, "about -1,234.5 m"),
        ({"answer_contains": "Blue TIGER"}, "the blue tiger"),
        ({"answer_contains": "*"}, "anything"),
        ({"called": ["search"]}, ""),
        ({"retrieved": "root zone"}, ""),
        ({"files": {"notes.txt": "hello world "}}, ""),
        ({"file_numbers": {"sub/sum.txt": 1045.5}}, ""),
        ({"answer_number": 1, "answer_contains": "one", "called": ["search"], "files": {"missing.txt": ""}}, "one: 1"),
    ],
)
def test_what_holds_passes(root: Path, check, answer: str):
    assert grade(Check(**check), root, answer, [FOUND, LOST]) == []


@pytest.mark.parametrize(
    ("check", "answer", "failed"),
    [
        ({"answer_number": 84}, "It is 840.", ["the answer does not hold 84"]),
        ({"answer_number": 84}, "eighty-four", ["the answer does not hold 84"]),
        ({"answer_number": 0}, "", ["the answer does not hold 0"]),
        ({"answer_contains": "tiger"}, "tigr", ["the answer does not hold 'tiger'"]),
        ({"answer_contains": "*"}, " \n", ["the answer does not hold '*'"]),
        ({"called": ["search", "file_read"]}, "file_read", ["file_read was not called"]),
        ({"retrieved": "no such file"}, "no such file", ["nothing retrieved holds 'no such file'"]),
        ({"files": {"notes.txt": "hello"}}, "hello", ["notes.txt does not hold 'hello'"]),
        ({"files": {"missing.txt": "a"}}, "a", ["missing.txt does not hold 'a'"]),
        ({"file_numbers": {"sub/sum.txt": 45.5}}, "45.5", ["sub/sum.txt does not hold 45.5"]),
        (
            {"answer_number": 1, "called": ["calculator"], "file_numbers": {"sub": 2}},
            "",
            ["calculator was not called", "the answer does not hold 1", "sub does not hold 2"],
        ),
    ],
)
def test_what_does_not_hold_is_named(root: Path, check, answer: str, failed: list[str]):
    assert grade(Check(**check), root, answer, [FOUND, LOST]) == failed


def test_numbers_are_read_as_people_write_them():
    assert numbers("a -5, 1,234 and 2.50; 7. Not x.") == [-5, 1234, 2.5, 7]


def test_files_of_a_task_are_there_before_it_starts(tmp_path: Path):
    prepare(Task(name="t", prompt="p", setup={"files": {"a.txt": "1", "b/c.txt": "caf\u00e9"}}, check={}), tmp_path)
    assert (tmp_path / "a.txt").read_text() == "1"
    assert (tmp_path / "b" / "c.txt").read_text(encoding="utf-8") == "caf\u00e9"


def test_the_tasks_of_the_checkout_load_from_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    tasks = AgentConfig(store="file:///nowhere", endpoint="http://a/v1").tasks
    assert len(tasks) >= 5
    assert all(task.prompt and task.check != Check() for task in tasks)


@pytest.mark.parametrize(
    ("content", "said"),
    [(None, "no such file of tasks"), (b"- [", "not YAML"), (b"a: \xff\xfe", "not YAML"), (b"a: \x00", "not YAML")],
)
def test_a_file_of_tasks_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None, said: str):
    path = tmp_path / "tasks.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ValueError, match=said) as caught:
        load_tasks(str(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("text", ["5", "name: t", "- {name: t}", "- {name: t, prompt: p, check: {answer: 4}}"])
def test_tasks_of_the_wrong_shape_are_refused(tmp_path: Path, text: str):
    path = tmp_path / "tasks.yaml"
    path.write_text(text)
    with pytest.raises(ValidationError):
        AgentConfig(store="file:///nowhere", endpoint="http://a/v1", tasks=str(path))


TASKS = [
    {"name": "sum", "prompt": "12 x 7?", "check": {"answer_number": 84, "called": ["calculator"]}},
    {"name": "copy", "prompt": "Write hi.", "check": {"files": {"a.txt": "hi"}}, "setup": {"files": {"b.txt": "hi"}}},
    {"name": "lost", "prompt": "?", "check": {"answer_contains": "*"}},
]


def test_the_phase_grades_each_task_and_keeps_its_transcript(endpoint: Endpoint, tmp_path: Path):
    endpoint.then(
        calls(("calculator", {"expression": "12 x 7"}), usage=(5, 5)),
        says("It is 84 \ud83d.", usage=(7, 3)),
        calls(("file_read", {"path": "b.txt"})),
        calls(("file_write", {"path": "a.txt", "content": "hi"})),
        says("Written."),
        refuses(400, "too long"),
    )
    config = AgentConfig(store=tmp_path.as_uri(), endpoint=endpoint.url, tasks=TASKS, system="Be brief.")
    made = run(config)
    assert {name: made.stats[name] for name in ("solved", "num")} == {"solved": 2, "num": 3}
    rows = [json.loads(line) for line in (fetch(made.uri) / "transcripts.jsonl").read_text("utf-8").splitlines()]
    assert [(row["task"], row["solved"], row["stop"]) for row in rows] == [
        ("sum", True, "done"),
        ("copy", True, "done"),
        ("lost", False, "endpoint"),
    ]
    assert rows[0]["tokens"] == 20
    assert 0 <= rows[0]["seconds"] < 60
    assert rows[0]["answer"] == "It is 84 ?."
    assert rows[0]["messages"][0] == {"role": "system", "content": "Be brief."}
    assert rows[1]["calls"][0] == {"name": "file_read", "arguments": {"path": "b.txt"}, "status": "ok"}
    assert rows[2]["failed"] == ["the answer does not hold '*'"]
    brief = json.loads((fetch(made.uri) / "results.json").read_text("utf-8"))
    assert brief["tasks"] == [{name: value for name, value in row.items() if name != "messages"} for row in rows]
    assert run(config).cached
    endpoint.listed = {"data": [{"id": "another"}]}
    assert not run(config).cached


def test_the_phase_wants_one_model(tmp_path: Path):
    for given in ({}, {"release": "file:///a", "endpoint": "http://a/v1"}):
        with pytest.raises(ValueError, match="either release or endpoint"):
            run(AgentConfig(store=tmp_path.as_uri(), **given))
