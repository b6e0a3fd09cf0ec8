"""Deduplication: the array code against plain loops, and recall and precision on planted duplicates."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.data.corpus import Row, document_id, part_paths, write_rows
from mantus.data.dedup import minhash
from mantus.data.dedup.run import DedupConfig, run
from mantus.storage import PhaseConfig, execute


class Made(PhaseConfig):
    name: str


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))


WORDS = st.lists(st.lists(st.integers(0, 3), max_size=12), min_size=1, max_size=8)


@settings(max_examples=200, deadline=None)
@given(WORDS, st.integers(1, 5))
def test_shingles_are_the_runs_of_words(documents: list[list[int]], size: int):
    offsets = np.cumsum([0, *map(len, documents)])
    words = np.array([word + 1 for document in documents for word in document], np.uint64)
    hashes, starts = minhash.shingles(words, offsets, size)
    runs = [[tuple(d[i : i + size]) for i in range(max(len(d) - size + 1, min(len(d), 1)))] for d in documents]
    assert np.diff(starts).tolist() == [len(run) for run in runs]
    flat = [run for document in runs for run in document]
    assert len(set(zip(flat, hashes.tolist(), strict=True))) == len(set(flat)) == len(set(hashes.tolist()))


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 20), st.data())
def test_clusters_are_connected_components(num: int, data: st.DataObject):
    pairs = data.draw(st.lists(st.tuples(st.integers(0, num - 1), st.integers(0, num - 1)), max_size=20))
    found = minhash.clusters(num, np.array(pairs, np.int64).reshape(-1, 2))
    expected = list(range(num))
    for _ in range(num):
        for left, right in pairs:
            expected[left] = expected[right] = min(expected[left], expected[right])
    assert found.tolist() == expected


@settings(max_examples=100, deadline=None)
@given(st.sets(st.integers(0, 30)), st.sets(st.integers(0, 30)))
def test_jaccard(left: set[int], right: set[int]):
    arrays = (np.array(sorted(items), np.uint64) for items in (left, right))
    assert minhash.jaccard(*arrays) == (len(left & right) / len(left | right) if left | right else 1.0)


def test_pairs_that_share_a_band():
    table = np.array([[1, 9], [2, 8], [1, 7], [3, 8], [1, 6]], np.uint64)
    assert minhash.candidate_pairs(table.T).tolist() == [[0, 2], [0, 4], [1, 3], [2, 4]]


def dedup(tmp_path: Path, texts: list[str], form: str = "prose", name: str = "x", **fields: Any) -> tuple[Any, Path]:
    def corpus(work: Any) -> dict[str, int]:
        half = len(texts) // 2
        rows = [Row(document_id(t), t, "ab"[n % 2], f"u{n}", "MIT", "en", "", form) for n, t in enumerate(texts)]
        write_rows(rows[:half], work.out)
        if half:
            (work.out / "part-00000.parquet").rename(work.out / "part-00007.parquet")
        write_rows(rows[half:], work.out)
        return {"bytes": sum(map(len, texts))}

    store = (tmp_path / "store").as_uri()
    made = execute("clean", Made(store=store, name=name), corpus)
    manifest = run(DedupConfig(store=store, corpus=made.uri, **fields))
    return manifest, Path(manifest.uri.removeprefix("file://"))


def kept_urls(folder: Path) -> list[str]:
    return sorted(url for path in part_paths(folder) for url in pl.read_parquet(path)["url"])


VOCABULARY = [f"{a}{b}{c}" for a in "bdfgklmnprst" for b in "aeiou" for c in ("n", "r", "st", "l")]


def prose(chance: random.Random, num_words: int = 300) -> list[str]:
    return chance.choices(VOCABULARY, k=num_words)


def edited(words: list[str], share: float, chance: random.Random) -> list[str]:
    return [chance.choice(VOCABULARY) if chance.random() < share else word for word in words]


def test_recall_and_precision_on_planted_duplicates(tmp_path: Path):
    chance = random.Random(0)
    texts, truth = [], {}
    for number in range(400):
        words = prose(chance)
        texts.append(" ".join(words))
        copy = {
            0: " ".join(words),
            1: ", ".join(words).upper() + "!",
            2: " ".join(edited(words, 0.01, chance)),
            3: " ".join(words[: len(words) - 20]),
            4: " ".join(edited(words, 0.3, chance)),
        }.get(number % 8)
        if copy is not None:
            truth[f"u{len(texts)}"] = (f"u{len(texts) - 1}", number % 8)
            texts.append(copy)
    _, folder = dedup(tmp_path, texts)
    found = pl.read_parquet(folder / "duplicates.parquet").rows(named=True)
    pairs = {frozenset((row["url"], row["kept_url"])): row for row in found}
    planted = {frozenset((copy, base)): how for copy, (base, how) in truth.items()}
    near = {pair for pair, how in planted.items() if how != 4}
    assert len(near & set(pairs)) / len(near) >= 0.98
    assert set(pairs) <= near
    kinds = {planted[pair]: row["kind"] for pair, row in pairs.items()}
    assert kinds == {0: "exact", 1: "exact", 2: "near", 3: "near"}
    assert all(row["jaccard"] >= 0.8 for row in found)


def test_of_a_cluster_the_longest_stays_and_then_the_smallest_id(tmp_path: Path):
    words = prose(random.Random(1))
    short, long = " ".join(words[:-5]), " ".join(words)
    lower, upper = sorted((long, long.upper()), key=document_id)
    manifest, folder = dedup(tmp_path, [short, upper, lower, "something else altogether", short])
    assert kept_urls(folder) == ["u2", "u3"]
    kept = pl.concat(pl.read_parquet(path) for path in part_paths(folder)).sort("url")
    assert kept["cluster_size"].to_list() == [4, 1]
    assert kept["cluster_id"].to_list() == kept["id"].to_list()
    rows = pl.read_parquet(folder / "duplicates.parquet").sort("url")
    assert rows.select("url", "kind", "kept_url").rows() == [
        ("u0", "near", "u2"),
        ("u1", "exact", "u2"),
        ("u4", "near", "u2"),
    ]
    stats = manifest.stats
    assert (stats["documents_read"], stats["documents"], stats["clusters"], stats["largest_cluster"]) == (5, 2, 1, 4)
    assert stats["dropped"]["near duplicate"]["documents"] == 2
    assert stats["bytes"] == len(lower) + len("something else altogether")
    assert sum(s["documents"] for s in stats["sources"].values()) == 2


def test_texts_without_words_and_code_that_differs_in_signs(tmp_path: Path):
    _, folder = dedup(tmp_path, ["...", "!!!", "...", "", "one two"])
    assert kept_urls(folder) == ["u0", "u1", "u3", "u4"] or kept_urls(folder) == ["u1", "u2", "u3", "u4"]
    _, folder = dedup(tmp_path, ["a + b", "a - b", "a + b\n"], form="code", name="code", threshold=1.0, ngram=1)
    rows = pl.read_parquet(folder / "duplicates.parquet")
    assert set(rows["kind"]) == {"exact", "near"}


def test_no_duplicates_leaves_an_empty_table(tmp_path: Path):
    manifest, folder = dedup(tmp_path, ["one two three four five six", "seven eight nine ten eleven twelve"])
    assert pl.read_parquet(folder / "duplicates.parquet").height == 0
    assert manifest.stats["dropped"] == {}


def test_the_bytes_are_the_same_again(tmp_path: Path):
    chance = random.Random(2)
    texts = [" ".join(prose(chance, 40)) for _ in range(100)] * 2
    first, _ = dedup(tmp_path / "one", texts)
    second, _ = dedup(tmp_path / "two", texts)
    assert first.files == second.files
