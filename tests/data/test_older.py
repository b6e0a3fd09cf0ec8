"""Dedup against older corpora: what they have is dropped, whatever index they left."""

import random
from pathlib import Path

import polars as pl
import pytest

from mantus.data.corpus import document_id, part_paths
from mantus.data.dedup.signatures import Sketch
from tests.data.planted import corpus, dedup, edited, kept, kept_urls, ledger, prose


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))


def crawls() -> tuple[list[str], list[str], set[str]]:
    """An older crawl, a newer one, and the URLs of what is new in that."""
    chance = random.Random(3)
    old = [prose(chance) for _ in range(60)]
    new, fresh = [], set()
    for number, words in enumerate(old):
        if number % 3 == 0:
            new.append(" ".join(words).upper())
        elif number % 3 == 1:
            new.append(" ".join(edited(words, 0.004, chance)))
        else:
            fresh.add(f"n{len(new)}")
            new.append(" ".join(prose(chance)))
    return [" ".join(words) for words in old], new, fresh


SHAPE = {"bands": 20, "rows": 5}


def test_a_new_crawl_drops_what_the_old_one_has(tmp_path: Path):
    old, new, fresh = crawls()
    first, _ = dedup(tmp_path, old, **SHAPE)
    second, folder = dedup(tmp_path, new, name="new", url="n", against=[first.uri], **SHAPE)
    assert set(kept_urls(folder)) == fresh
    ids = [document_id(text) for text in old]
    found = ledger(folder)
    assert all(found[f"n{n}"] == ("in an older corpus", "same words", ids[n]) for n in range(0, 60, 3))
    assert all(found[f"n{n}"][0::2] == ("in an older corpus", ids[n]) for n in range(1, 60, 3))
    assert second.stats["dropped"] == {
        "in an older corpus": {
            "documents": 40,
            "bytes": sum(map(len, new)) - kept(folder)["text"].str.len_bytes().sum(),
        }
    }
    assert second.stats["compared_with"] == 60
    assert second.inputs[0].uri != first.uri  # the corpus comes first


def test_two_older_ones_are_as_good_as_one(tmp_path: Path):
    old, new, fresh = crawls()
    halves = [dedup(tmp_path, old[n::2], name=f"half {n}", url=f"h{n}-", **SHAPE)[0].uri for n in (0, 1)]
    _, folder = dedup(tmp_path, new, name="new", url="n", against=halves, **SHAPE)
    assert set(kept_urls(folder)) == fresh


def test_an_index_made_otherwise_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    old, new, fresh = crawls()
    first, folder = dedup(tmp_path, old, bands=14, rows=8)
    assert sorted(path.name for path in folder.glob("index-*")) == ["index-00000.parquet", "index-00001.parquet"]
    _, other = dedup(tmp_path, new, name="new", url="n", against=[first.uri], **SHAPE)
    assert set(kept_urls(other)) == fresh
    assert "hashing its texts again" in capsys.readouterr().err
    plain = corpus(tmp_path / "store", old, name="plain")
    _, third = dedup(tmp_path, new, name="new", url="n", against=[plain.uri], **SHAPE)
    assert kept(third).equals(kept(other))


def test_the_index_has_the_documents_that_stay(tmp_path: Path):
    words = prose(random.Random(1))
    _, folder = dedup(tmp_path, [" ".join(words), " ".join(words).upper(), " ".join(words[::-1]), "a b c"], parts=3)
    for part in part_paths(folder):
        index = pl.read_parquet(part.with_name(part.name.replace("part", "index")))
        assert index["id"].to_list() == pl.read_parquet(part)["id"].to_list()
        assert {f"band_{n:02d}" for n in range(14)} < set(index.columns)
        assert "text" not in index.columns
    assert Sketch(5, 14, 8).facts() != Sketch(5, 14, 7).facts()


def test_an_older_corpus_without_documents(tmp_path: Path):
    empty = corpus(tmp_path / "store", [], name="empty")
    with pytest.raises(ValueError, match=r"against\[0\]: .*has no documents"):
        dedup(tmp_path, ["a b c"], against=[empty.uri])
    with pytest.raises(ValueError, match=r"corpus: .*has no documents"):
        dedup(tmp_path, [], name="empty")
    with pytest.raises(ValueError, match=r"against: .*no artifact here"):
        dedup(tmp_path, ["a b c"], against=[(tmp_path / "nothing").as_uri()])


def test_nothing_new_is_an_error(tmp_path: Path):
    first, _ = dedup(tmp_path, ["one two three four five six seven"])
    with pytest.raises(ValueError, match=r"no document is left of 1; in an older corpus \(1\)"):
        dedup(tmp_path, ["One two three four five six seven!"], name="new", against=[first.uri])
