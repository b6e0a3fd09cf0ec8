"""What a changed threshold makes anew, and what is left of a document that was taken down: in no artifact its text."""

import json
import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from mantus.data.corpus import document_id
from mantus.data.shards import TokenShards
from mantus.storage import Manifest
from mantus.text.tokenizer import Tokenizer
from tests.data.chain import VERBS, here, prose, walk, write_sources
from tests.data.planted import ledger, nowhere

SECRET = "Old Barnaby Quillfeather hid his silver spoons beneath the seventh apple tree."


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Sources, in one of them a document with SECRET, in another a copy with one word changed."""
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    made = tmp_path / "in"
    made.mkdir()
    write_sources(made, 20)
    for name, word in (("2.jsonl", "the"), ("5.jsonl", "that")):
        lines = (made / name).read_text().splitlines()
        text = prose(random.Random(99)).replace("the", word, 1)
        (made / name).write_text("\n".join([*lines, json.dumps({"text": f"{text}\n{SECRET}"})]) + "\n")
    return made


def changed(verb: str, **fields: Any):
    """Make a phase, with other settings where it is `verb`."""

    def make(own: str, settings: dict[str, Any]) -> Manifest:
        return here(own, {**settings, **(fields if own == verb else {})})

    return make


@pytest.mark.parametrize(
    ("verb", "fields"),
    [("clean", {"max_top_2gram": 0.19}), ("dedup", {"threshold": 0.7}), ("tokenize", {"heldout_fraction": 0.1})],
)
def test_a_changed_threshold_makes_its_phase_and_later_ones_anew(folder: Path, verb: str, fields: dict[str, Any]):
    store = (folder.parent / "store").as_uri()
    before = walk(folder, store)
    after = walk(folder, store, changed(verb, **fields))
    anew = [name for name in VERBS if not after[name].cached]
    affected = VERBS[VERBS.index(verb) :]
    assert anew == list(affected)
    assert [name for name in VERBS if after[name].key != before[name].key] == anew
    assert all(made.cached for made in walk(folder, store).values()), "what was made before is still found"


def decoded(tokens: Path, tokenizer: Path) -> str:
    words = Tokenizer.load(tokenizer)
    splits = [TokenShards.open(tokens / name) for name in ("train", "heldout")]
    return "\n".join(words.decode(document.tolist()) for split in splits for document in split.documents())


def folder_of(made: Manifest) -> Path:
    return Path(made.uri.removeprefix("file://"))


def without_it(made: dict[str, Manifest], *verbs: str) -> None:
    """The secret is in no file of these artifacts, in no column and in no run of tokens."""
    for verb in verbs:
        assert nowhere(folder_of(made[verb]), SECRET), verb
        assert nowhere(folder_of(made[verb]), SECRET[:25]), verb
    assert "Quillfeather" not in decoded(folder_of(made["tokens"]), folder_of(made["tokenizer"]))


def test_what_was_taken_down_is_in_nothing_made_afterwards(folder: Path):
    store = (folder.parent / "store").as_uri()
    before = walk(folder, store)
    rows = pl.concat(pl.read_parquet(path) for path in sorted(folder_of(before["collect"]).glob("part-*")))
    found = rows.filter(pl.col("text").str.contains(SECRET, literal=True))
    assert found.height == 2
    assert not nowhere(folder_of(before["dedup"]), SECRET)
    asked = found["url"][0]

    after = walk(folder, store, changed("dedup", taken_down=[asked]))
    assert [verb for verb in VERBS if after[verb].cached] == ["collect", "clean"]
    without_it({**after, "tokens": after["tokenize"]}, "dedup", "tokenizer", "tokenize")
    why = ledger(folder_of(after["dedup"]))
    own = pl.concat(pl.read_parquet(path) for path in sorted(folder_of(before["clean"]).glob("part-*")))
    own = own.filter(pl.col("text").str.contains(SECRET, literal=True))
    assert [why[url][0] for url in own["url"]] == ["taken_down", "taken_down"]
    assert why[asked][1] == f"url {asked}"
    assert why[own["url"][1]][1] == f"near copy of {own['id'][0]}"

    requests = folder_of(after["dedup"]) / "taken_down.txt"
    cleaned = walk(folder, store, changed("clean", taken_down_list=str(requests)))
    assert [verb for verb in VERBS if cleaned[verb].cached] == ["collect"]
    assert cleaned["clean"].stats["dropped"]["taken_down"]["documents"] == 2
    without_it({**cleaned, "tokens": cleaned["tokenize"]}, "clean", "dedup", "tokenizer", "tokenize")
    rejects = pl.read_parquet(folder_of(cleaned["clean"]) / "rejects.parquet")
    assert set(rejects.filter(pl.col("drop_reason") == "taken_down")["url"]) == set(own["url"])
    assert document_id(found["text"][0]) in requests.read_text()
