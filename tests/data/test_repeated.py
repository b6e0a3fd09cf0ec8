"""Lines and paragraphs that many documents have: counted, removed, and kept where they mean something."""

import random
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.data.dedup.lines import repeated, without
from tests.data.planted import dedup, kept, kept_urls, ledger, prose

HEAD, FOOT = "Home | About", "Copyright the river people, all rights kept."


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))


def bodies(num: int) -> list[str]:
    chance = random.Random(6)
    return [" ".join(prose(chance, 40)) for _ in range(num)]


def cut(
    texts: list[str], form: str = "prose", least: int = 2, unit: str = "line", everywhere: bool = False
) -> list[str]:
    frame = pl.DataFrame({"text": texts, "form": [form] * len(texts)}, schema={"text": pl.String, "form": pl.String})
    scratch = Path(pytest.scratch)  # type: ignore[attr-defined]
    hashes = repeated([frame[:1], frame[1:]], unit, everywhere, least, scratch)
    return without(frame, hashes, unit, everywhere, remove=True)["text"].to_list()


@pytest.fixture(autouse=True)
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(pytest, "scratch", tmp_path, raising=False)


def test_what_is_removed_and_how_texts_close_up():
    one, two = bodies(2)
    assert cut([f"{FOOT}\n\n{one}\n{FOOT}\n{two}\n\n{FOOT}\n", f"{FOOT}\n{one} x"]) == [f"{one}\n{two}", f"{one} x"]
    assert cut([f"{one}\n\n{FOOT}\n\n{two}", FOOT]) == [f"{one}\n\n{two}", ""]
    assert cut([f"{one}\n\n\n{two}", f"{FOOT}\n{FOOT}"]) == [f"{one}\n\n\n{two}", f"{FOOT}\n{FOOT}"]


def test_paragraphs():
    one, two = bodies(2)
    pair = f"{FOOT}\nand more"
    assert cut([f"{one}\n\n{pair}\n\n{two}", f"{pair}\n\n{two} x\n{FOOT}"], unit="paragraph") == [
        f"{one}\n\n{two}",
        f"{two} x\n{FOOT}",
    ]


FIXED = [
    ("code", FOOT),
    ("prose", f"```\n{FOOT}\n```"),
    ("prose", f"    {FOOT}"),
    ("prose", f"| a | {FOOT} |"),
    ("prose", f"a\t{FOOT}"),
    ("prose", "+-----+-----+"),
]


@pytest.mark.parametrize(("form", "block"), FIXED)
def test_code_and_tables_stay_unless_asked(form: str, block: str):
    one, two = bodies(2)
    texts = [f"{one}\n{block}\n{two}", f"{two}\n{block}\n{one}"]
    for unit in ("line", "paragraph"):
        assert cut([text + " x" for text in texts], form, unit=unit) == [text + " x" for text in texts]
    without_it = [f"{one}\n{two} x", f"{two}\n{one} x"]
    assert cut([text + " x" for text in texts], form, everywhere=True) == without_it


@settings(max_examples=100, deadline=None)
@given(st.lists(st.text("ab\n \t|`", max_size=30), min_size=1, max_size=6), st.sampled_from(["line", "paragraph"]))
def test_texts_without_repeats_are_the_same(texts: list[str], unit: str):
    assert cut(texts, unit=unit, least=len(texts) + 1) == texts


def run(tmp_path: Path, texts: list[str], **fields: Any) -> tuple[Any, Path]:
    return dedup(tmp_path, texts, repeated_documents=5, **fields)


def test_counted_removed_and_copies_do_not_count(tmp_path: Path):
    unique = bodies(8)
    texts = [f"{HEAD}\n{body}\n{FOOT}" for body in unique[:6]] + [unique[6]] * 6 + [f"{FOOT}\n{FOOT}", unique[7]]
    off, folder = run(tmp_path, texts)
    assert "repeated" not in off.stats
    assert "repeated" not in kept(folder).columns
    counted, folder = run(tmp_path, texts, repeated="count")
    assert counted.stats["repeated"] == {"lines": 14, "bytes": 0}
    assert kept(folder).sort("url").filter(pl.col("url") == "u0")["repeated"].to_list() == [2]
    removed, folder = run(tmp_path, texts, repeated="remove")
    rows = kept(folder)
    assert {"u0", "u1", "u2", "u3", "u4", "u5", "u13"} < set(kept_urls(folder))
    assert not rows["text"].str.contains(FOOT, literal=True).any()
    assert unique[6] in rows["text"].to_list()
    assert ledger(folder)["u12"] == ("only repeated lines", "repeated", None)
    stats = removed.stats
    assert stats["bytes"] == rows["text"].str.len_bytes().sum()
    assert stats["bytes_read"] == sum(map(len, texts))
    assert (
        rows.filter(pl.col("url") == "u0")["id"].to_list()
        == kept(run(tmp_path, texts)[1]).filter(pl.col("url") == "u0")["id"].to_list()
    )
