"""The classifier of quality: it learns what sets two sets apart, says how well, and clean drops by it."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mantus.data.clean import CleanConfig
from mantus.data.clean import run as clean
from mantus.data.cleaning.classifier import Bags, bags_of, ranked, read_classifier, train
from mantus.data.cleaning.train import ClassifierConfig, run
from mantus.data.corpus import Row, document_id, part_paths, write_rows
from mantus.storage import PhaseConfig, execute

GOOD = "river mill village stone water winter bread letter garden evening".split()
BAD = "click buy cheap offer login subscribe winner casino bonus free".split()
COMMON = "the of and to a in that is was for with as on by at from".split()


class Made(PhaseConfig):
    name: str


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))


def texts(words: list[str], num: int, seed: int) -> list[str]:
    """Texts of common words, every sixth from `words`."""
    chance = random.Random(seed)
    return [
        " ".join(chance.choice(words) if n % 6 == 0 else chance.choice(COMMON) for n in range(60)) + "."
        for _ in range(num)
    ]


def corpus(store: str, name: str, found: list[str]) -> str:
    def produce(work: Any) -> dict[str, int]:
        rows = (Row(document_id(t), t, name, f"{name}:{n}", "", "", "", "prose") for n, t in enumerate(found))
        write_rows(rows, work.out)
        return {"bytes": sum(map(len, found))}

    return execute("corpus", Made(store=store, name=name), produce).uri


def settings(tmp_path: Path, **more: Any) -> ClassifierConfig:
    store = (tmp_path / "store").as_uri()
    good, bad = corpus(store, "good", texts(GOOD, 200, 1)), corpus(store, "bad", texts(BAD, 200, 2))
    return ClassifierConfig(store=store, positive=[good], negative=[bad], bits=16, **more)


def test_it_tells_held_out_texts_apart_and_clean_drops_by_it(tmp_path: Path):
    config = settings(tmp_path)
    made = run(config)
    assert (made.stats["positive"], made.stats["negative"]) == (200, 200)
    assert made.stats["heldout"] >= 20
    assert made.stats["accuracy"] > 0.95
    assert made.stats["auc"] > 0.99
    fresh = {"good": texts(GOOD, 20, 3), "bad": texts(BAD, 20, 4)}
    uri = corpus(config.store, "mixed", fresh["good"] + fresh["bad"])
    loose = {"rules": (), "languages": ()}
    cleaned = clean(CleanConfig(store=config.store, corpus=uri, classifier=made.uri, **loose))  # type: ignore[arg-type]
    kept = pl.concat(map(pl.read_parquet, part_paths(Path(cleaned.uri.removeprefix("file://")))))
    assert set(kept["text"]) == set(fresh["good"])
    assert cleaned.stats["dropped"]["low quality"]["documents"] == 20
    assert kept["quality"].min() > 0.5
    all_of_them = {"min_quality": 0, **loose}
    signalled = clean(CleanConfig(store=config.store, corpus=uri, classifier=made.uri, **all_of_them))  # type: ignore[arg-type]
    assert signalled.stats["documents"] == 40


def test_the_same_sets_make_the_same_bytes(tmp_path: Path):
    one, two = run(settings(tmp_path / "one")), run(settings(tmp_path / "two"))
    assert one.files == two.files
    assert one.stats == two.stats


def test_sets_may_be_files(tmp_path: Path):
    for name, words in (("good", GOOD), ("bad", BAD)):
        (tmp_path / f"{name}.jsonl").write_text("".join(f'{{"text": "{text}"}}\n' for text in texts(words, 60, 5)))
    files = {name: ({"type": "jsonl", "path": str(tmp_path / f"{name}.jsonl")},) for name in ("good", "bad")}
    config = {"positive_files": files["good"], "negative_files": files["bad"], "bits": 14}
    made = run(ClassifierConfig(store=(tmp_path / "store").as_uri(), **config))  # type: ignore[arg-type]
    assert made.stats["auc"] > 0.95
    model = read_classifier(Path(made.uri.removeprefix("file://")))
    assert model.bits == 14
    low, high = model.score(pl.Series([" ".join(BAD), " ".join(GOOD).upper()]))
    assert low < 0.5 < high


def test_labels_that_say_nothing_teach_nothing(tmp_path: Path):
    store = (tmp_path / "store").as_uri()
    sets = [corpus(store, name, texts(GOOD, 300, seed)) for name, seed in (("x", 1), ("y", 2))]
    made = run(ClassifierConfig(store=store, positive=[sets[0]], negative=[sets[1]], bits=14, heldout=0.4))
    assert 0.35 < made.stats["auc"] < 0.65, "measured on texts that were not learnt"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"positive": []}, "positive: no texts"),
        ({"negative_files": [{"type": "git", "path": "."}]}, r"negative_files\[0\].type: git: collect it first"),
        ({"negative_files": [{"type": "text", "path": "/absent"}]}, r"negative_files\[0\].path: /absent: no such file"),
    ],
)
def test_what_is_missing_is_named(fields: dict[str, Any], message: str, tmp_path: Path):
    config = {**settings(tmp_path).model_dump(), **fields}
    with pytest.raises(ValueError, match=message):
        run(ClassifierConfig(**config))


def test_too_few_texts_are_an_error(tmp_path: Path):
    store = (tmp_path / "store").as_uri()
    few, many = corpus(store, "few", texts(GOOD, 9, 1)), corpus(store, "many", texts(BAD, 50, 2))
    with pytest.raises(ValueError, match="positive: 9 different texts; at least 10"):
        run(ClassifierConfig(store=store, positive=[few], negative=[many]))


def test_an_artifact_that_is_no_classifier_is_named(tmp_path: Path):
    store = (tmp_path / "store").as_uri()
    uri = corpus(store, "good", texts(GOOD, 9, 1))
    with pytest.raises(ValueError, match=r"classifier: .*/corpus/.* holds no classifier"):
        clean(CleanConfig(store=store, corpus=uri, classifier=uri))


@given(st.lists(st.lists(st.sampled_from(["a", "B", "c"]), max_size=12), min_size=1, max_size=5))
def test_bags_hold_words_and_their_pairs(lists: list[list[str]]):
    found = bags_of(pl.Series([" ".join(words) for words in lists], dtype=pl.String), 20, 8)
    nums = [min(len(words), 8) for words in lists]
    assert np.diff(found.bounds).tolist() == [2 * num - (num > 0) for num in nums]
    alone = [bags_of(pl.Series([" ".join(words).upper()]), 20, 8).buckets.tolist() for words in lists]
    assert [found.take(np.array([row])).buckets.tolist() for row in range(len(lists))] == alone
    assert [sorted(each) for each in alone] == [
        sorted(bags_of(pl.Series([" ".join(words[:8])]), 20, 8).buckets.tolist()) for words in lists
    ]


def test_bags_are_taken_in_the_order_that_is_asked_for():
    bags = Bags(np.array([1, 2, 3, 4, 5, 6]), np.array([0, 2, 2, 6]))
    taken = bags.take(np.array([2, 0]))
    assert taken.buckets.tolist() == [3, 4, 5, 6, 1, 2]
    assert taken.bounds.tolist() == [0, 4, 6]
    assert bags.sums(np.ones(6)).tolist() == [2 / 2**0.5, 0, 2]


def test_the_area_under_the_curve_counts_pairs():
    scores, wanted = np.array([0.1, 0.4, 0.35, 0.8, 0.4]), np.array([False, False, True, True, True])
    pairs = [(a > b) + (a == b) / 2 for a in scores[wanted] for b in scores[~wanted]]
    assert ranked(scores, wanted) == pytest.approx(sum(pairs) / len(pairs))


def test_training_moves_the_weights_of_what_is_seen_only():
    bags = bags_of(pl.Series(["good", "bad"] * 40), 12, 5)
    model = train(bags, np.array([True, False] * 40), 12, 5, 2, 0.1, 1)
    assert np.count_nonzero(model.weights) == 2
