"""Mixtures: shares of sources are reached, or said to be missed; what is held out is never repeated."""

from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from mantus.data.tokens.mixture import copies, epochs, shares
from mantus.launch.flags import read_flags
from mantus.launch.phases import PHASES
from mantus.launch.recipe import check_recipe, load_recipe
from tests.data.test_shuffle import ROWS, documents_of, inputs, made, small_buckets, texts_of

__all__ = ["inputs", "small_buckets"]


def test_epochs_give_as_many_tokens_as_there_are():
    found = epochs({"a": 0.5, "b": 0.5}, {"a": 900, "b": 100}, 10)
    assert found == {"a": 500 / 900, "b": 5.0}
    assert epochs({"a": 0.5, "b": 0.5}, {"a": 900, "b": 100}, 4) == {"a": 500 / 900, "b": 4}
    assert epochs({"a": 0.0, "b": 1.0}, {"a": 900, "b": 100}, 4) == {"a": 0, "b": 1}
    assert epochs({"a": 0.5, "b": 0.5}, {"a": 900}, 4) == {"a": 0.5, "b": 0}


def test_parts_of_epochs_are_decided_by_ids():
    ids = [f"document {number}" for number in range(4000)]
    found = copies(ids, ["a"] * 4000, {"a": 2.3})
    assert set(found) == {2, 3}
    assert sum(found) / 4000 == pytest.approx(2.3, abs=0.03)
    more = copies(ids, ["a"] * 4000, {"a": 2.4})
    assert all(one <= other for one, other in zip(found, more, strict=True))
    assert copies(["x", "y"], ["a", "b"], {"a": 2.0, "b": 0.0}) == [2, 0]


def test_wrong_weights_are_named():
    assert shares({"a": 3, "b": 1}, ["a", "b"]) == {"a": 0.75, "b": 0.25}
    with pytest.raises(ValueError, match="weights: 'c' is no source of the corpus, whose sources are a, b"):
        shares({"a": 1, "b": 1, "c": 1}, ["b", "a"])
    with pytest.raises(ValueError, match="weights: source 'b' of the corpus has none; 0 leaves it out"):
        shares({"a": 1}, ["a", "b"])
    with pytest.raises(ValueError, match="weights: all are 0"):
        shares({"a": 0, "b": 0}, ["a", "b"])


def test_sources_have_the_shares_that_are_asked_for(inputs: dict[str, str], tmp_path: Path):
    plain = made(inputs, tmp_path)
    manifest = made(inputs, tmp_path, weights={"web": 1, "wiki": 2, "code": 1}, max_epochs=8)
    stats = manifest.stats["mixture"]
    assert {name: entry["wanted"] for name, entry in stats.items()} == {"web": 0.25, "wiki": 0.5, "code": 0.25}
    for name, entry in stats.items():
        assert entry["reached"] == pytest.approx(entry["wanted"], abs=0.06)  # of some hundred documents
        had, got = (of.stats["train"]["sources"][name]["tokens"] for of in (plain, manifest))
        assert entry["epochs"] == pytest.approx(got / had, abs=1e-4)
        assert entry["missing_tokens"] == 0
    assert manifest.stats["train"]["tokens"] == pytest.approx(plain.stats["train"]["tokens"], rel=0.1)
    assert manifest.stats["tokens"] == plain.stats["tokens"]
    rows = documents_of(manifest, "train")
    assert rows.group_by("source").len().height == 3
    assert sum(rows["tokens"]) == manifest.stats["train"]["tokens"]


def test_each_document_is_seen_as_often_as_its_source_asks_and_apart(inputs: dict[str, str], tmp_path: Path):
    manifest = made(inputs, tmp_path, weights={"web": 0, "wiki": 1, "code": 2}, max_epochs=3)
    plain = made(inputs, tmp_path)
    wanted = manifest.stats["mixture"]
    assert wanted["web"] == {"wanted": 0.0, "reached": 0.0, "epochs": 0.0, "missing_tokens": 0}
    rows = documents_of(manifest, "train").to_dicts()
    seen = Counter(row["url"] for row in rows)
    sources = {row.url: row.source for row in ROWS}
    trained = set(documents_of(plain, "train")["url"])
    assert {sources[url] for url in seen} == {"wiki", "code"}
    assert set(seen) <= trained
    for name in ("wiki", "code"):
        epochs_of = wanted[name]["epochs"]
        numbers = {seen[url] for url in trained if sources[url] == name}
        assert max(numbers) <= epochs_of + 1
        assert min(numbers) >= epochs_of - 1
    places = [place for place, row in enumerate(rows) if row["source"] == "code"]
    assert places[0] < len(rows) / 10
    assert places[-1] > len(rows) * 0.9
    url = seen.most_common(1)[0][0]
    again = [place for place, row in enumerate(rows) if row["url"] == url]
    assert len(again) == max(seen.values()) >= 2
    assert all(other - one > 1 for one, other in pairwise(again))


def test_what_is_held_out_is_the_same_and_never_repeated(inputs: dict[str, str], tmp_path: Path):
    plain = made(inputs, tmp_path)
    manifest = made(inputs, tmp_path, weights={"web": 1, "wiki": 5, "code": 5})
    assert texts_of(plain, "heldout", inputs) == texts_of(manifest, "heldout", inputs)
    held = set(documents_of(manifest, "heldout")["id"])
    assert not held & set(documents_of(manifest, "train")["id"])


def test_a_source_too_small_for_its_share_says_so(inputs: dict[str, str], tmp_path: Path):
    manifest = made(inputs, tmp_path, weights={"web": 0, "wiki": 1, "code": 100}, max_epochs=2)
    code = manifest.stats["mixture"]["code"]
    assert code["epochs"] == 2
    assert code["reached"] < code["wanted"]
    train = made(inputs, tmp_path).stats["train"]["sources"]
    total = train["wiki"]["tokens"] + train["code"]["tokens"]
    assert code["missing_tokens"] == round(total * 100 / 101 - 2 * train["code"]["tokens"]) > 0
    assert manifest.stats["mixture"]["wiki"]["missing_tokens"] == 0
    seen = Counter(documents_of(manifest, "train").filter(source="code")["url"])
    assert set(seen.values()) == {2}


def test_weights_without_max_epochs_repeat_at_most_four_times(inputs: dict[str, str], tmp_path: Path):
    manifest = made(inputs, tmp_path, weights={"web": 1, "wiki": 0, "code": 1000})
    assert manifest.stats["mixture"]["code"]["epochs"] == 4


def test_weights_are_given_by_flag_by_recipe_and_by_override(tmp_path: Path):
    def config(*words: str) -> Any:
        inputs = ["--corpus", "file:///c", "--tokenizer", "file:///t"]
        return read_flags("tokenize", "", PHASES["tokenize"].config, [*inputs, *words], "tokenize").config

    wanted = {"web": 0.5, "a.b": 2.0}
    assert config("--weights", "{web: 0.5, a.b: 2}").weights == wanted
    assert config("--set", "weights={web: 0.5, a.b: 2}").weights == wanted
    recipe = load_recipe("recipes/laptop.yaml", ["tokenize.weights={web: 0.5, a.b: 2}", "tokenizer.weights.web=1"])
    checked = check_recipe(recipe)
    assert (checked["tokenize"]["weights"], checked["tokenizer"]["weights"]) == (wanted, {"web": 1})
    with pytest.raises(ValueError, match=r"tokenize.weights.web: .*greater than or equal to 0.*-1"):
        config("--weights", "{web: -1}")
    with pytest.raises(ValueError, match=r"tokenize.weights: .*dictionary.*3"):
        config("--weights", "3")
