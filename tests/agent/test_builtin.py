"""The tools that Mantus brings: files that come back as they were written, passages that answer a query."""

import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.agent.builtin import toolbox
from mantus.agent.builtin.files import file_read, file_write
from mantus.agent.builtin.index import IndexConfig, build
from mantus.agent.builtin.index import run as make_index
from mantus.agent.builtin.search import Passage, find, search, shorten, words
from mantus.agent.orchestrator import Result, ToolOrchestrator
from mantus.agent.sandbox import MAX_FILE_BYTES
from mantus.agent.tools import Status, ToolError
from mantus.storage import Manifest, PhaseConfig, Work, execute, fetch
from mantus.text.calls import Call
from tests.agent.conftest import BREAD, RIVER


def perform(root: Path, name: str, **arguments: str) -> Result:
    (result,) = ToolOrchestrator(toolbox(root), max_output_chars=1 << 20).execute([Call(name, arguments)])
    return result


def test_what_is_written_is_read(tmp_path: Path):
    text = "blue tiger\n\tcaf\u00e9 \U0001f405"
    for path in ("notes.txt", "a/b/notes.txt"):
        assert (
            perform(tmp_path, "file_write", path=path, content=text).output == f"wrote {len(text)} characters to {path}"
        )
        assert (tmp_path / path).read_text(encoding="utf-8") == text
        assert perform(tmp_path, "file_read", path=path).output == text
    assert perform(tmp_path, "file_write", path="notes.txt", content="").status is Status.OK
    assert (tmp_path / "notes.txt").read_text() == ""


def test_files_have_a_limit_of_size(tmp_path: Path):
    largest = "x" * MAX_FILE_BYTES
    assert perform(tmp_path, "file_write", path="a", content=largest).status is Status.OK
    assert perform(tmp_path, "file_read", path="a").output == largest
    refused = perform(tmp_path, "file_write", path="a", content=largest[2:] + "\u20ac")
    assert (refused.status, refused.output) == (Status.FAILED, f"content is larger than {MAX_FILE_BYTES} bytes")
    assert (tmp_path / "a").read_text() == largest
    (tmp_path / "b").write_text(largest + "x")
    assert perform(tmp_path, "file_read", path="b").output == f"b is larger than {MAX_FILE_BYTES} bytes"


def test_files_outside_or_missing_are_refused_in_short(tmp_path: Path):
    (tmp_path / "secret").write_text("secret")
    root = tmp_path / "inside"
    root.mkdir()
    for wrong, said in (("../secret", "working folder"), ("missing", "no such file: missing")):
        with pytest.raises(ToolError, match=said):
            file_read.function(wrong, root=str(root))
    with pytest.raises(ToolError, match="working folder"):
        file_write.function("../secret", "x", root=str(root))
    assert (tmp_path / "secret").read_text() == "secret"


def test_bytes_that_are_no_text_are_read_with_marks(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"a\xffb\xed\xa0\x80")
    assert file_read.function("a", root=str(tmp_path)).startswith("a\ufffdb\ufffd")


@pytest.mark.parametrize(
    ("query", "title", "held"),
    [
        ("how long is dough kneaded", "Bread", "Knead the dough"),
        ("SALMON autumn", "River", "Salmon"),
        ("blue stars", "Stars", "Blue stars"),
        ("bread", "Bread", "Bread"),
    ],
)
def test_the_right_passage_comes_first(index: Path, query: str, title: str, held: str):
    found = find(index, query, 3)
    assert found[0].title == title
    assert held in found[0].text
    assert [passage.score for passage in found] == sorted((passage.score for passage in found), reverse=True)
    assert len(find(index, query, 1)) == 1


def test_passages_keep_every_word_and_their_address(index: Path):
    found = find(index, "river bread star", 99)
    assert {passage.url for passage in found} == {"http://a/river", "http://a/bread", ""}
    assert all(len(passage.text.split()) <= 12 for passage in found)
    counts = {title: sum(len(p.text.split()) for p in found if p.title == title) for title in ("River", "Bread")}
    assert counts == {"River": len(RIVER.split()), "Bread": len(BREAD.split())}


def test_scores_are_bm25s(tmp_path: Path):
    import polars

    texts = ["red red blue", "red green green green blue blue", "green"]
    build(polars.DataFrame({"title": [""] * 3, "url": [""] * 3, "text": texts}), tmp_path)

    def weight(count: int, length: int, holders: int) -> float:
        rarity = math.log((3 - holders + 0.5) / (holders + 0.5) + 1)
        return rarity * count * 2.2 / (count + 1.2 * (0.25 + 0.75 * length / (10 / 3)))

    found = find(tmp_path, "red blue", 3)
    assert [hit.text for hit in found] == texts[:2]
    assert [hit.score for hit in found] == pytest.approx(
        [weight(2, 3, 2) + weight(1, 3, 2), weight(1, 6, 2) + weight(2, 6, 2)], abs=1e-3
    )


@pytest.mark.parametrize("query", ["zebra", "", "???", "_"])
def test_nothing_found_is_said(index: Path, query: str):
    with pytest.raises(ToolError, match="nothing found"):
        search.function(query, index=str(index))


def test_search_runs_as_a_tool_and_keeps_its_limit(index: Path, tmp_path: Path):
    tools = ToolOrchestrator([search.bind(index=str(index), num_results=2, result_chars=160)])
    (result,) = tools.execute([Call("search", {"query": "blue stars"})])
    lines = result.output.splitlines()
    assert result.status is Status.OK
    assert len(lines) == 2
    assert "Blue stars" in lines[0]
    assert all(0 < len(line) <= 80 for line in lines)
    assert [tool.name for tool in toolbox(tmp_path, index)] == ["calculator", "search", "file_read", "file_write"]


@settings(max_examples=200, deadline=None)
@given(title=st.text(max_size=60), text=st.text(max_size=400), query=st.text(max_size=40), limit=st.integers(1, 300))
def test_shortening_keeps_the_limit(title: str, text: str, query: str, limit: int):
    assert len(shorten(Passage(title, "", text, 1.0), query, limit)) <= limit


def test_shortening_keeps_the_sentence_with_the_most_words_of_the_query():
    passage = Passage("Bread", "", "Filler goes first here. " * 9 + "Knead the dough well. " + "More filler. " * 9, 1.0)
    shown = shorten(passage, "knead dough", 60)
    assert shown.startswith("Bread: ")
    assert "Knead the dough well." in shown
    assert shorten(Passage("Bread", "", "Bread is good.", 1.0), "x", 60) == "Bread is good."
    assert words("How, HOW do_you?") == ["how", "do", "you"]


class CorpusConfig(PhaseConfig):
    """Nothing but a store."""


def test_an_index_is_made_once_of_a_corpus_and_counts_what_is_left_out(tmp_path: Path):
    import polars

    def corpus(work: Work) -> dict[str, int]:
        rows = {
            "text": ["# Rivers #\nSalmon climb. " + "x " * 300_000, "Bread is baked.", "y " * 300_000],
            "url": ["a", None, "c"],
        }
        polars.DataFrame(rows).write_parquet(work.out / "part-0.parquet")
        return {}

    def make() -> Manifest:
        return make_index(IndexConfig(store=tmp_path.as_uri(), corpus=made.uri, max_mb=1))

    made = execute("corpus", CorpusConfig(store=tmp_path.as_uri()), corpus)
    first = make()
    assert first.stats == {"documents": 2, "left_out": 1}
    assert (first.cached, make().cached) == (False, True)
    folder = fetch(first.uri)
    assert [(hit.title, hit.url) for hit in find(folder, "salmon", 1)] == [("Rivers", "a")]
    assert find(folder, "bread", 1)[0].url == ""
