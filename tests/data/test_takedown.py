"""Take-down: the text of what was asked for is in nothing made afterwards, and the ledger says why."""

import hashlib
import random
from pathlib import Path

import polars as pl
import pytest

from mantus.data.clean import CleanConfig
from mantus.data.clean import run as clean
from mantus.data.corpus import document_id
from mantus.data.dedup.takedown import read_requests
from tests.data.planted import corpus, dedup, edited, kept_urls, ledger, nowhere, prose
from tests.data.test_clean import PROSE


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))


def family() -> list[str]:
    """One text, the same in capitals, nearly the same, half of it, and two others."""
    chance = random.Random(4)
    words = prose(chance)
    near = [*words[:200], "changed", *words[201:]]
    return [" ".join(words), " ".join(words).upper(), " ".join(near), " ".join(words[:150]), *others(chance)]


def others(chance: random.Random) -> list[str]:
    return [" ".join(prose(chance)) for _ in range(2)]


@pytest.mark.parametrize("by", ["url", "id", "sha256", "list"])
def test_one_document_and_its_copies_are_gone(tmp_path: Path, by: str):
    texts = family()
    digest = hashlib.sha256(texts[0].encode()).hexdigest()
    asked = {"url": "u0", "id": document_id(texts[0]), "sha256": digest}.get(by, "u0")
    fields: dict[str, object] = {"taken_down": [asked]}
    if by == "list":
        (tmp_path / "list.txt").write_text("# asked for on Monday\n\nu0\n")
        fields = {"taken_down_list": str(tmp_path / "list.txt")}
    manifest, folder = dedup(tmp_path, texts, **fields)
    assert kept_urls(folder) == ["u3", "u4", "u5"]
    own = document_id(texts[0])
    assert ledger(folder) == {
        "u0": ("taken_down", f"{'url' if by == 'list' else by} {asked}", None),
        "u1": ("taken_down", f"exact copy of {own}", None),
        "u2": ("taken_down", f"near copy of {own}", None),
    }
    assert manifest.stats["dropped"]["taken_down"]["documents"] == 3
    assert all(nowhere(folder, text[-60:]) for text in texts[:3])
    assert not nowhere(folder, texts[4][-60:])
    scratch = list((tmp_path / "cache").rglob("*.bin"))
    assert scratch == []


def test_what_the_taken_one_stood_for_is_looked_at_again(tmp_path: Path):
    chance = random.Random(7)
    words = prose(chance)
    chain = [" ".join(words), " ".join(edited(words, 0.02, chance))]
    chain.append(" ".join(edited(chain[1].split(), 0.02, chance)))
    _, folder = dedup(tmp_path, chain, threshold=0.7, bands=40, rows=3)
    assert "u1" not in kept_urls(folder)
    _, folder = dedup(tmp_path, chain, threshold=0.7, bands=40, rows=3, taken_down=["u0"])
    assert kept_urls(folder) == ["u2"]  # too unlike the one that was asked for


def test_a_later_corpus_inherits_the_requests(tmp_path: Path):
    texts = family()
    first, folder = dedup(tmp_path, texts, taken_down=["u0", "elsewhere"])
    lines = (folder / "taken_down.txt").read_text().split()
    assert lines == sorted(["u0", "elsewhere", *(document_id(text) for text in texts[:3])])
    again = [texts[0] + "!", texts[2], " ".join(prose(random.Random(9)))]
    _, second = dedup(tmp_path, again, name="again", url="n", against=[first.uri])
    assert ledger(second)["n1"][0] == "taken_down"
    assert kept_urls(second) == ["n2"]


def test_the_older_one_itself_was_asked_for(tmp_path: Path):
    texts = family()
    first, _ = dedup(tmp_path, texts)
    new = [texts[2].upper() + ".", texts[4].upper(), " ".join(prose(random.Random(9)))]
    for asked in ("u2", hashlib.sha256(texts[2].encode()).hexdigest()):
        _, folder = dedup(tmp_path, new, name="new", url="n", against=[first.uri], taken_down=[asked])
        assert {url: reason for url, (reason, _, _) in ledger(folder).items()} == {
            "n0": "taken_down",
            "n1": "in an older corpus",
        }


def test_clean_drops_it_too_and_keeps_no_sample(tmp_path: Path):
    texts = [f"{name} sat by the old mill that year.\n\n{PROSE}" for name in ("Ann", "Ben", "Cora")]
    texts += [texts[0], "too short a text"]
    made = corpus(tmp_path / "store", texts)
    store = (tmp_path / "store").as_uri()
    manifest = clean(CleanConfig(store=store, corpus=made.uri, taken_down=["u0", "u4"], languages=()))
    folder = Path(manifest.uri.removeprefix("file://"))
    assert kept_urls(folder) == ["u1", "u2"]
    assert manifest.stats["dropped"]["taken_down"]["documents"] == 3  # the one with the same text too
    assert nowhere(folder, texts[0][:20])
    assert nowhere(folder, "too short a text")
    assert set(pl.read_parquet(folder / "rejects.parquet")["url"]) == {"u0", "u3", "u4"}


def test_lists_that_say_nothing(tmp_path: Path):
    (tmp_path / "empty.txt").write_text("# nothing yet\n")
    with pytest.raises(ValueError, match=r"taken_down_list: .*names no document"):
        dedup(tmp_path, ["a b"], taken_down_list=str(tmp_path / "empty.txt"))
    with pytest.raises(ValueError, match=r"taken_down_list.*no such file"):
        dedup(tmp_path, ["a b"], taken_down_list=str(tmp_path / "none.txt"))


def test_a_changed_list_is_another_artifact(tmp_path: Path):
    path = tmp_path / "list.txt"
    path.write_text("u9\n")
    first, _ = dedup(tmp_path, ["a b", "c d"], taken_down_list=str(path))
    path.write_text("u1\n")
    second, folder = dedup(tmp_path, ["a b", "c d"], taken_down_list=str(path))
    assert first.key != second.key
    assert kept_urls(folder) == ["u0"]


def test_what_an_entry_is():
    found = read_requests(["A" * 32, "b" * 64, " https://example.org/a ", "", "c" * 31])
    assert found.ids == {"a" * 32}
    assert found.digests == {"b" * 64}
    assert found.urls == {"https://example.org/a", "c" * 31}
    assert not read_requests([""])
