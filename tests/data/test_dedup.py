"""Deduplication: the array code against plain loops, and recall and precision on planted duplicates."""

import random
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.data.corpus import document_id
from mantus.data.dedup import cluster, minhash
from mantus.storage.phase import MadeElsewhere
from tests.data.planted import dedup, edited, kept, kept_urls, ledger, prose, similarity


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
    arrays = [np.array(sorted(items), np.uint64) << np.uint64(12) for items in (left, right)]
    (found,) = minhash.overlaps(np.array([[0, 1]]), arrays.__getitem__)
    assert found == (len(left & right) / len(left | right) if left | right else 1.0)


def test_pairs_that_share_a_band():
    table = np.array([[1, 9], [2, 8], [1, 7], [3, 8], [1, 6]], np.uint64)
    segments = [(band, np.arange(5)) for band in table.T]
    assert minhash.candidate_pairs(segments).tolist() == [[0, 2], [0, 4], [1, 3], [2, 4]]


KINDS = ("exact", "case and spaces", "1 %", "3 %", "8 %", "boilerplate", "a third")


def copy_of(words: list[str], kind: str, chance: random.Random) -> str:
    if kind == "case and spaces":
        return ",\n  ".join(words).upper() + "!"
    if kind == "boilerplate":
        return " ".join(words[len(words) // 20 :])
    share = {"1 %": 0.01, "3 %": 0.03, "8 %": 0.08, "a third": 0.3}.get(kind, 0)
    return " ".join(edited(words, share, chance))


def planted(num: int) -> tuple[list[str], dict[frozenset[str], tuple[str, float]]]:
    """Texts, and for each pair of URLs of a base and its copy the kind of copy and their exact similarity."""
    chance = random.Random(0)
    texts: list[str] = []
    truth = {}
    for number in range(num):
        words = prose(chance, chance.randrange(120, 400))
        kind = KINDS[number % len(KINDS)]
        pair = [" ".join(words), copy_of(words, kind, chance)]
        truth[frozenset((f"u{len(texts)}", f"u{len(texts) + 1}"))] = kind, similarity(*pair)
        texts += [*pair, " ".join(prose(chance, 150))]
    return texts, truth


@pytest.mark.parametrize("shape", [{}, {"bands": 14, "rows": 8}])
def test_recall_and_precision_on_planted_duplicates(tmp_path: Path, shape: dict[str, int]):
    texts, truth = planted(700)
    _, folder = dedup(tmp_path, texts, **shape)
    found = pl.read_parquet(folder / "duplicates.parquet").rows(named=True)
    pairs = {frozenset((row["url"], row["kept_url"])): row for row in found}
    like = {pair for pair, (_, overlap) in truth.items() if overlap >= 0.8}
    assert len(like) > 400
    assert len(like & set(pairs)) / len(like) >= (0.999 if shape else 0.98)
    assert set(pairs) <= like  # precision 1: nothing below the threshold, nothing that is no copy
    for pair, row in pairs.items():
        kind, overlap = truth[pair]
        assert row["kind"] == ("exact" if kind in ("exact", "case and spaces") or overlap == 1 else "near")
        assert row["jaccard"] == pytest.approx(overlap)


def test_without_verification_every_pair_that_shares_a_band_is_one(tmp_path: Path):
    texts, truth = planted(140)
    _, verified = dedup(tmp_path, texts, bands=20, rows=2)
    _, all_pairs = dedup(tmp_path, texts, bands=20, rows=2, verify=False)
    assert kept(verified).height > kept(all_pairs).height
    rows = pl.read_parquet(all_pairs / "duplicates.parquet")
    assert rows["jaccard"].min() < 0.8
    assert sum(overlap >= 0.8 for _, overlap in truth.values()) <= rows.height


def test_expected_recall():
    assert minhash.recall(0.8, 20, 5) > 0.999 > minhash.recall(0.8, 14, 8) > 0.92


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.integers(0, 40)), min_size=1, max_size=6), st.data())
def test_overlaps_are_those_of_sets(documents: list[list[int]], data: st.DataObject):
    number = st.integers(0, len(documents) - 1)
    pairs = data.draw(st.lists(st.tuples(number, number), max_size=12))
    arrays = [np.array(document, np.uint64) << np.uint64(40) for document in documents]
    found = minhash.overlaps(np.array(pairs, np.int64).reshape(-1, 2), arrays.__getitem__)
    sets = [set(document) for document in documents]
    assert found.tolist() == [
        len(sets[a] & sets[b]) / len(sets[a] | sets[b]) if sets[a] | sets[b] else 1.0 for a, b in pairs
    ]


def test_blocks_of_pairs(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(minhash, "BLOCK_PAIRS", 3)
    arrays = [np.arange(n, n + 10, dtype=np.uint64) << np.uint64(20) for n in range(8)]
    pairs = np.array([(a, b) for a in range(8) for b in range(a + 1, 8)], np.int64)
    expected = [(10 - (b - a)) / (10 + b - a) for a, b in pairs.tolist()]
    assert minhash.overlaps(pairs, arrays.__getitem__).tolist() == expected


def test_of_a_cluster_the_longest_stays_and_then_the_smallest_id(tmp_path: Path):
    words = prose(random.Random(1))
    short, long = " ".join(words[:-5]), " ".join(words)
    lower, upper = sorted((long, long.upper()), key=document_id)
    manifest, folder = dedup(tmp_path, [short, upper, lower, "something else altogether", short])
    assert kept_urls(folder) == ["u2", "u3"]
    stay = kept(folder).sort("url")
    assert stay["cluster_size"].to_list() == [4, 1]
    assert stay["cluster_id"].to_list() == stay["id"].to_list()
    rows = pl.read_parquet(folder / "duplicates.parquet").sort("url")
    assert rows.select("url", "kind", "kept_url").rows() == [
        ("u0", "near", "u2"),
        ("u1", "exact", "u2"),
        ("u4", "near", "u2"),
    ]
    assert ledger(folder)["u1"] == ("exact duplicate", "same words", document_id(lower))
    assert ledger(folder)["u0"][:2] == ("near duplicate", f"jaccard {round(rows['jaccard'][0], 4)}")
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
    assert ledger(folder) == {}


def test_the_bytes_are_the_same_again(tmp_path: Path):
    chance = random.Random(2)
    texts = [" ".join(prose(chance, 40)) for _ in range(100)] * 2
    first, _ = dedup(tmp_path / "one", texts)
    second, _ = dedup(tmp_path / "two", texts)
    assert first.files == second.files


def test_any_number_of_workers_and_of_runs_that_were_cut_off_gives_the_same(tmp_path: Path):
    texts, _ = planted(60)
    made = [dedup(tmp_path / str(workers), texts, parts=5, workers=workers)[0] for workers in (1, 3)]
    assert made[0].files == made[1].files
    assert made[0].key == made[1].key


def test_hashes_in_segments_and_members_in_batches_give_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts, _ = planted(60)
    whole, _ = dedup(tmp_path / "whole", texts, parts=5, taken_down=["u3"])
    monkeypatch.setattr(cluster, "SEGMENT", 9)
    monkeypatch.setattr(cluster, "MOST_SEGMENTS", 16)
    monkeypatch.setattr(cluster, "BATCH", 5)
    made, _ = dedup(tmp_path / "cut", texts, parts=5, taken_down=["u3"])
    assert made.files == whole.files


def test_segments_have_every_document_once_and_equal_hashes_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    chance = np.random.default_rng(0)
    columns = [chance.integers(0, 2**64, 40, np.uint64)[chance.integers(0, 40, num)] for num in (70, 1, 200)]

    class Columns:
        def __init__(self, parts: list[np.ndarray]):
            self.parts = parts

        def __len__(self) -> int:
            return sum(map(len, self.parts))

        def columns(self, names: tuple[str, ...]):
            return (part[:, None] for part in self.parts)

    library = cluster.Library([Columns(columns[:2]), Columns(columns[2:])], None, tmp_path)
    whole = np.concatenate(columns)
    for size, num in ((300, 1), (100, 4), (3, 64)):
        monkeypatch.setattr(cluster, "SEGMENT", size)
        monkeypatch.setattr(cluster, "MOST_SEGMENTS", 64)
        segments = list(library.segments("band"))
        assert len(segments) == num
        assert all((values[:, 0] == whole[numbers]).all() for values, numbers in segments)
        assert all((np.diff(numbers) > 0).all() for _, numbers in segments)
        assert sorted(np.concatenate([numbers for _, numbers in segments])) == list(range(len(whole)))
        sets = [set(values[:, 0].tolist()) for values, _ in segments]
        assert sum(map(len, sets)) == len(set().union(*sets))
    assert not list(tmp_path.iterdir())


def test_many_documents_that_share_a_band_and_not_all_alike(tmp_path: Path):
    chance = random.Random(5)
    base, other = prose(chance), prose(chance)
    family = [" ".join(base[:150] + other), *(" ".join(edited(base, 0.002, chance)) for _ in range(30))]
    table = np.zeros((31, 1), np.uint64)
    pairs = minhash.candidate_pairs([(table[:, 0], np.arange(31))])
    assert {(0, number) for number in range(1, 31)} <= {tuple(pair) for pair in pairs.tolist()}
    assert {(number, number + 4) for number in range(27)} <= {tuple(pair) for pair in pairs.tolist()}
    _, folder = dedup(tmp_path, family)
    assert kept(folder).height == 2


def test_pods_that_share_the_work_commit_what_one_would(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    texts, _ = planted(40)
    alone, _ = dedup(tmp_path / "alone", texts, parts=5)
    monkeypatch.setenv("MANTUS_SHARDS", "3")
    for index in (2, 0):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / f"pod {index}"))
        with pytest.raises(MadeElsewhere):
            dedup(tmp_path / "shared", texts, parts=5)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "pod 1"))
    last, _ = dedup(tmp_path / "shared", texts, parts=5)
    assert last.files == alone.files


def test_nothing_goes_that_is_unlike_what_stays(tmp_path: Path):
    chance = random.Random(6)
    texts = [prose(chance)]
    for _ in range(15):
        texts.append(edited(texts[-1], 0.01, chance))
    chain = [" ".join(words) for words in texts]
    _, folder = dedup(tmp_path, chain, bands=20, rows=5)
    rows = pl.read_parquet(folder / "duplicates.parquet")
    assert rows["jaccard"].min() >= 0.8
    stay = kept(folder)["text"].to_list()
    assert 1 < len(stay) < 16
    assert max(similarity(a, b) for a in stay for b in stay if a != b) < 0.8
    assert kept(folder)["cluster_size"].sum() == 16
