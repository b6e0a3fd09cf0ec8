"""The two-pass shuffle: the order of one plain sort, the same bytes for any number of workers and pods, provenance."""

import hashlib
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mantus.data import corpus as corpora
from mantus.data import tokenize
from mantus.data.corpus import Row, document_id, write_rows
from mantus.data.shards import TokenShards
from mantus.data.tokens import buckets
from mantus.data.tokens.census import TOP, Bound, census, threshold, trained
from mantus.storage import Manifest, PhaseConfig, execute
from mantus.storage.phase import MadeElsewhere
from mantus.text.tokenizer import Tokenizer, train
from tests.data.planted import prose

SOURCES = {"web": 0.7, "wiki": 0.2, "code": 0.1}
FIELDS: dict[str, Any] = {"shard_tokens": 4000, "seed": 3, "min_heldout": 40, "workers": 1}


class Made(PhaseConfig):
    name: str


def rows(num: int) -> list[Row]:
    """Documents of three sources, of very different lengths, each twentieth a copy of another."""
    chance = random.Random(4)
    texts = [" ".join(prose(chance, chance.choice((3, 30, 90)))) + "\n  - end\n" for _ in range(num)]
    texts[::20] = [texts[n + 7] for n in range(0, num, 20)]
    names = chance.choices([*SOURCES], [*SOURCES.values()], k=num)
    found = zip(texts, names, strict=True)
    return [Row(document_id(t), t, name, f"u{n}", "MIT", "en", "", "prose") for n, (t, name) in enumerate(found)]


ROWS = rows(800)


@pytest.fixture(scope="module")
def inputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """URIs of a corpus in many parts and of a tokenizer."""
    store = tmp_path_factory.mktemp("store").as_uri()

    def corpus(work: Any) -> dict[str, int]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(corpora, "PART_BYTES", 12_000)
            assert write_rows(ROWS, work.out) > 10
        return {"bytes": sum(len(row.text) for row in ROWS)}

    def tokenizer(work: Any) -> dict[str, int]:
        train([row.text for row in ROWS], 400, work.out)
        return {}

    made = execute("dedup", Made(store=store, name="c"), corpus)
    return {"corpus": made.uri, "tokenizer": execute("tokenizer", Made(store=store, name="t"), tokenizer).uri}


@pytest.fixture(autouse=True)
def small_buckets(monkeypatch: pytest.MonkeyPatch):
    """Eight buckets and groups of two parts."""
    monkeypatch.setattr(buckets, "BUCKET_BYTES", 30_000)
    monkeypatch.setattr(buckets, "SLICE_BYTES", 3_000)


def made(inputs: dict[str, str], store: Path, **fields: Any) -> Manifest:
    return tokenize.run(tokenize.TokenizeConfig(**{**FIELDS, **inputs, "store": store.as_uri(), **fields}))


def folder_of(uri: str) -> Path:
    return Path(uri.removeprefix("file://"))


def hash64(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def texts_of(manifest: Manifest, split: str, inputs: dict[str, str]) -> list[str]:
    tokenizer = Tokenizer.load(folder_of(inputs["tokenizer"]))
    shards = TokenShards.open(folder_of(manifest.uri) / split)
    return [tokenizer.decode(document[:-1].tolist()) for document in shards.documents()]


def documents_of(manifest: Manifest, split: str) -> Any:
    return pl.concat(map(pl.read_parquet, sorted((folder_of(manifest.uri) / split).glob("*.documents.parquet"))))


@pytest.mark.parametrize("seed", [3, 4])
def test_the_order_is_that_of_one_plain_sort(inputs: dict[str, str], tmp_path: Path, seed: int):
    assert buckets.num_buckets(sum(len(row.text) for row in ROWS)) == 8
    manifest = made(inputs, tmp_path, seed=seed)
    lowest = sorted({hash64(f"held out {row.id}") for row in ROWS})[39]
    held = {row.id for row in ROWS if hash64(f"held out {row.id}") <= max(lowest, 0.02 * 2**64)}
    order = sorted(range(len(ROWS)), key=lambda number: hash64(f"{seed} {ROWS[number].id} {number}"))
    ordered = [ROWS[number] for number in order]
    assert texts_of(manifest, "train", inputs) == [row.text for row in ordered if row.id not in held]
    assert texts_of(manifest, "heldout", inputs) == [row.text for row in ordered if row.id in held]
    assert len(held) == 40


def test_beside_each_shard_are_its_documents(inputs: dict[str, str], tmp_path: Path):
    manifest = made(inputs, tmp_path)
    tokenizer = Tokenizer.load(folder_of(inputs["tokenizer"]))
    by_url = {row.url: row for row in ROWS}
    seen = 0
    for split in ("train", "heldout"):
        for index in sorted((folder_of(manifest.uri) / split).glob("*.idx")):
            offsets = np.fromfile(index, "<u8").tolist()
            tokens = np.fromfile(index.with_suffix(".bin"), "<u2")
            listed = pl.read_parquet(index.with_suffix(".documents.parquet"))
            assert listed.columns == ["id", "source", "url", "license", "tokens"]
            for row, (start, end) in zip(listed.to_dicts(), pairwise(offsets), strict=True):
                stored = by_url[row["url"]]
                assert (row["id"], row["source"], row["license"]) == (stored.id, stored.source, stored.license)
                assert row["tokens"] == end - start
                assert tokenizer.decode(tokens[start : end - 1].tolist()) == stored.text
                seen += 1
    assert seen == len(ROWS)
    assert len(list((folder_of(manifest.uri) / "train").glob("*.bin"))) > 5


WEIGHTS = {"web": 1, "wiki": 2, "code": 1}


def test_any_number_of_workers_gives_the_same_bytes(inputs: dict[str, str], tmp_path: Path):
    alone = made(inputs, tmp_path / "1")
    for workers in (2, 7):
        other = made(inputs, tmp_path / str(workers), workers=workers)
        assert (other.files, other.stats, other.cached) == (alone.files, alone.stats, False)


@pytest.mark.parametrize("weights", [{}, WEIGHTS], ids=["as it comes", "weights"])
def test_pods_that_share_the_work_commit_what_one_would(inputs, tmp_path: Path, monkeypatch, weights):
    alone = made(inputs, tmp_path / "1", weights=weights)
    monkeypatch.setenv("MANTUS_SHARDS", "3")
    for index in (2, 0):
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / f"pod {index}"))
        with pytest.raises(MadeElsewhere):
            made(inputs, tmp_path / "shared", weights=weights)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "pod 1"))
    together = made(inputs, tmp_path / "shared", weights=weights)
    assert (together.files, together.stats) == (alone.files, alone.stats)


def test_what_a_killed_process_left_half_done_is_done_anew(inputs, tmp_path: Path, monkeypatch):
    whole = made(inputs, tmp_path / "whole")
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    calls = 0

    def killed(*given: Any) -> None:
        nonlocal calls
        calls += 1
        scatter(*given)
        if calls == 5:
            raise KeyboardInterrupt

    scatter = buckets.scatter
    monkeypatch.setattr(buckets, "scatter", killed)
    with pytest.raises(KeyboardInterrupt):
        made(inputs, tmp_path / "again")
    monkeypatch.setattr(buckets, "scatter", scatter)
    (left,) = (tmp_path / "cache" / "work" / "tokens").iterdir()
    assert len(list((left / "scratch").glob("group-*/counts.parquet"))) == 2  # of two parts each; the third is a half
    assert list((left / "scratch" / "group-00002").glob("bucket-*"))
    assert made(inputs, tmp_path / "again").files == whole.files


SIDES = st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 40)), min_size=1, max_size=30)


@settings(max_examples=300, deadline=None)
@given(st.lists(SIDES, min_size=1, max_size=4), st.integers(0, 12), st.integers(0, 40))
def test_a_census_tells_who_is_held_out_as_a_list_of_all_would(groups: list[Any], least: int, share: int):
    step = TOP // 50
    bound = Bound(share * step / 2**64, least)
    everyone = [(source, side * step) for group in groups for source, side in group]

    def frame(pairs: list[tuple[str, int]]) -> Any:
        sources, sides = zip(*pairs, strict=True)
        sizes = {name: [1] * len(pairs) for name in ("documents", "bytes", "tokens")}
        schema = {"source": pl.String, "side": pl.UInt64, **dict.fromkeys(sizes, pl.Int64)}
        return pl.DataFrame({"source": sources, "side": sides, **sizes}, schema=schema)

    counts = pl.concat([census(frame([(s, side * step) for s, side in group]), bound) for group in groups])
    limit = threshold(counts, bound)
    lowest = sorted({side for _, side in everyone})[:least]
    held = [(s, side) for s, side in everyone if side < bound.side or side in lowest or len(lowest) < least]
    assert [pair for pair in everyone if pair[1] < limit] == held
    kept = trained(counts, limit).group_by("source").agg(pl.col("tokens").sum())
    left = [source for source, _ in everyone if limit <= TOP]
    for source, _ in held if limit <= TOP else []:
        left.remove(source)
    assert dict(kept.iter_rows()) == {source: left.count(source) for source in set(left)}


def test_the_number_of_buckets_is_a_power_of_two_that_holds_the_corpus(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(buckets, "BUCKET_BYTES", 100)
    assert [buckets.num_buckets(size) for size in (0, 1, 100, 101, 200, 201, 400, 401, 800)] == [
        *(1, 1, 1, 2, 2, 4, 4, 8, 8)
    ]


@pytest.mark.parametrize("num_bytes", [10**8, 2 * 10**9, 10**11, 4 * 10**12])
def test_slices_of_a_large_corpus_are_no_crumbs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_bytes: int):
    monkeypatch.undo()
    write_rows(ROWS[:1], tmp_path)
    num = buckets.num_buckets(num_bytes)
    parts = [tmp_path / "part-00000.parquet"] * min(20_000, num_bytes // (16 << 20))
    found = buckets.groups(parts, num_bytes, tmp_path)
    assert len(found) <= 130
    assert num == 1 or 32 << 20 < num_bytes / num <= 64 << 20
    if num > 32:
        assert num_bytes / num / len(found) > 200_000  # bytes of text in a slice


def test_a_corpus_without_documents_is_named(inputs, tmp_path: Path):
    empty = execute("dedup", Made(store=tmp_path.as_uri(), name="empty"), lambda work: {"bytes": 0})
    with pytest.raises(ValueError, match=r"corpus: file://.*: has no documents"):
        made({**inputs, "corpus": empty.uri}, tmp_path)
