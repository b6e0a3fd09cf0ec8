"""Decontamination: rows of evaluation sets planted in a corpus are found, reported, refused or dropped."""

import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from mantus.data.dedup.contamination import Search, read_set
from mantus.storage import execute
from tests.data.planted import Made, dedup, kept_urls, ledger, prose

CODE_ROWS = [
    {
        "task_id": f"Own/{number}",
        "prompt": f'def {name}(values: list[int]) -> int:\n    """Give the {what} of the values that are {how}, and\n'
        f'    nothing at all when there is none among them, as {name}([1, 2, 3]) shows.\n    """\n',
        "canonical_solution": f"    chosen = [value for value in values if {test}]\n    return {result}\n",
        "test": f"def check(candidate):\n    assert candidate([1, 2, 3]) == {number}\n",
        "entry_point": name,
    }
    for number, (name, what, how, test, result) in enumerate(
        [
            ("sum_of_odd", "sum", "odd", "value % 2", "sum(chosen) if chosen else 0"),
            ("largest_even", "largest", "even", "value % 2 == 0", "max(chosen) if chosen else 0"),
            ("count_of_negative", "number", "below zero", "value < 0", "len(chosen)"),
        ]
    )
]
"""Shaped as HumanEval's rows are."""

TOOL_ROWS = [
    {
        "id": f"own_{number}",
        "question": [[{"role": "user", "content": f"Please book a table for {people} people at the {place} on the "
                       f"first evening of {month}, near the window if one is free."}]],
        "function": [{"name": "book_table", "description": "Book a table.",
                      "parameters": {"type": "dict", "properties": {"people": {"type": "integer"}}}}],
    }
    for number, (people, place, month) in enumerate([(2, "harbour house", "May"), (4, "old brewery", "June")])
]  # fmt: skip
"""Shaped as BFCL's rows are."""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))


def jsonl(path: Path, rows: list[Any]) -> str:
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return str(path)


def sets(tmp_path: Path) -> list[dict[str, Any]]:
    return [
        {"name": "code", "path": jsonl(tmp_path / "code.jsonl", CODE_ROWS), "fields": ["prompt", "canonical_solution"]},
        {"name": "tools", "path": jsonl(tmp_path / "tools.jsonl", TOOL_ROWS)},
    ]


def leaky() -> list[str]:
    """Three clean texts, one with a whole row of code, one with most of a request for a tool, differently spaced."""
    chance = random.Random(8)
    texts = [" ".join(prose(chance)) for _ in range(5)]
    texts[1] += "\n\n" + CODE_ROWS[1]["prompt"] + CODE_ROWS[1]["canonical_solution"]
    request = TOOL_ROWS[0]["question"][0][0]["content"]
    texts[4] = "He said: " + "  ".join(request.upper().split()[:17]) + " " + texts[4]
    return texts


def test_the_report_says_which_rows_and_where(tmp_path: Path):
    manifest, folder = dedup(tmp_path, leaky(), evaluation_sets=sets(tmp_path))
    assert kept_urls(folder) == ["u0", "u1", "u2", "u3", "u4"]
    report = json.loads((folder / "contamination.json").read_text())
    code, tools = report["code"], report["tools"]
    assert (code["rows"], code["rows_found"], code["share"], code["documents"]) == (3, 1, round(1 / 3, 6), 1)
    assert code["samples"][0]["row"] == "Own/1"
    words = code["samples"][0]["words"]
    assert len(words.split()) == 13
    assert words in " ".join(re.findall(r"\w+", leaky()[1].lower()))
    assert (code["samples"][0]["url"], code["samples"][0]["share"]) == ("u1", 1.0)
    assert (tools["rows_found"], tools["share"], tools["samples"][0]["url"]) == (1, 0.5, "u4")
    assert 0 < tools["runs_found"] < tools["runs"]
    assert manifest.stats["evaluation_sets"]["code"]["rows_found"] == 1


def test_the_gate_refuses_in_one_line(tmp_path: Path):
    with pytest.raises(
        ValueError, match=r"max_contaminated: code: 1 of 3 rows \(33.33%\).* row Own/1 is in u1; set"
    ) as got:
        dedup(tmp_path, leaky(), evaluation_sets=sets(tmp_path), max_contaminated=0.1)
    assert "\n" not in str(got.value)
    dedup(tmp_path, leaky(), evaluation_sets=sets(tmp_path), max_contaminated=0.5)


def test_dropped_documents_are_in_the_ledger(tmp_path: Path):
    fields = {"evaluation_sets": sets(tmp_path), "contaminated": "drop", "max_contaminated": 0.0}
    manifest, folder = dedup(tmp_path, leaky(), **fields)
    assert kept_urls(folder) == ["u0", "u2", "u3"]
    assert ledger(folder) == {"u1": ("contaminated", "code", None), "u4": ("contaminated", "tools", None)}
    assert manifest.stats["dropped"]["contaminated"]["documents"] == 2
    assert json.loads((folder / "contamination.json").read_text())["tools"]["rows_found"] == 1


def test_artifacts_as_sets(tmp_path: Path):
    def produce(work: Any) -> dict[str, int]:
        jsonl(work.out / "train.jsonl", [{"text": "not looked at " * 20}])
        jsonl(work.out / "heldout.jsonl", TOOL_ROWS)
        return {}

    store = (tmp_path / "store").as_uri()
    made = execute("tooldata", Made(store=store, name="tools"), produce)
    manifest, _ = dedup(tmp_path, leaky(), evaluation_data=[made.uri])
    assert manifest.stats["evaluation_sets"][f"tooldata {made.key[:8]}"]["rows"] == 2


@pytest.mark.parametrize(
    ("text", "fields", "said"),
    [
        ("", (), "no rows"),
        ("[1]\n", (), "line 1 is no JSON object"),
        ('{"a": "b"}\n{', (), "line 2 is no JSON object"),
        ('{"a": "b"}\n', ("c",), "no row has the field 'c'"),
    ],
)
def test_sets_that_are_none(text: str, fields: tuple[str, ...], said: str):
    with pytest.raises(ValueError, match=f"^x: {said}"):
        read_set(text, fields, "x")


def test_sets_too_short_and_named_twice(tmp_path: Path):
    path = jsonl(tmp_path / "short.jsonl", [{"text": "four words are few"}])
    with pytest.raises(ValueError, match="short: no text of it has 13 words"):
        dedup(tmp_path, leaky(), evaluation_sets=[{"name": "short", "path": path}])
    with pytest.raises(ValueError, match=r"evaluation_sets\[1\].name: 'short'"):
        dedup(tmp_path, leaky(), evaluation_sets=[{"name": "short", "path": path}] * 2, evaluation_ngram=3)
    with pytest.raises(ValueError, match=r"evaluation_sets\[0\].*no such file"):
        dedup(tmp_path, leaky(), evaluation_sets=[{"path": str(tmp_path / "none.jsonl")}])


def test_search_against_plain_loops():
    import polars as pl

    chance = random.Random(3)
    words = "abcde"
    rows = [{"id": n, "text": " ".join(chance.choices(words, k=chance.randrange(1, 12)))} for n in range(30)]
    texts = [" ".join(chance.choices(words, k=chance.randrange(0, 30))) for _ in range(40)]
    search = Search({"x": read_set("\n".join(map(json.dumps, rows)), ("text",), "x")}, 5)

    def runs(text: str) -> set[tuple[str, ...]]:
        split = text.split()
        return {tuple(split[i : i + 5]) for i in range(len(split) - 4)}

    frame = pl.DataFrame({"id": [str(n) for n in range(40)], "url": [f"u{n}" for n in range(40)], "text": texts})
    found = pl.concat([search.look(frame[:15]), search.look(frame[15:])])
    everything = set().union(*(runs(text) for text in texts))
    wanted = set().union(*(runs(row["text"]) for row in rows))
    assert found.is_not_null().to_list() == [bool(runs(text) & wanted) for text in texts]
    report = search.report()["x"]
    assert report["rows_found"] == sum(bool(runs(row["text"]) & everything) for row in rows)
    assert report["rows_too_short"] == sum(not runs(row["text"]) for row in rows)
    assert report["runs_found"] == sum(len(runs(row["text"]) & everything) for row in rows)
    assert report["documents"] == found.is_not_null().sum()
