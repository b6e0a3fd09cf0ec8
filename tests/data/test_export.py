"""Exports, read by a reader written from Megatron-LM's format, and by `datasets` itself."""

import struct
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mantus.data.shards import TokenShards, write_shards
from mantus.data.tokens import export
from mantus.data.tokens.export import ExportConfig, to_megatron
from mantus.storage import PhaseConfig, execute
from tests.data.test_shuffle import documents_of, folder_of, inputs, made, small_buckets

__all__ = ["inputs", "small_buckets"]

TYPES = {1: "u1", 2: "i1", 3: "i2", 4: "i4", 5: "i8", 6: "f8", 7: "f4", 8: "u2"}


class Made(PhaseConfig):
    name: str


def read_megatron(stem: Path) -> list[list[int]]:
    """The documents of a pair of files, checked for all that the format says of it."""
    index, data = stem.with_suffix(".idx").read_bytes(), stem.with_suffix(".bin").read_bytes()
    assert index[:9] == b"MMIDIDX\x00\x00"
    version, code, num_sequences, num_marks = struct.unpack_from("<QBQQ", index, 9)
    assert version == 1
    at = 9 + struct.calcsize("<QBQQ")
    assert at == 34
    lengths = np.frombuffer(index, "<i4", num_sequences, at)
    pointers = np.frombuffer(index, "<i8", num_sequences, at + 4 * num_sequences)
    marks = np.frombuffer(index, "<i8", num_marks, at + 12 * num_sequences)
    assert len(index) == at + 12 * num_sequences + 8 * num_marks
    assert marks[0] == 0
    assert marks[-1] == num_sequences
    kind = np.dtype(f"<{TYPES[code]}")
    assert pointers.tolist() == ((np.cumsum(lengths) - lengths) * kind.itemsize).tolist()
    assert sum(lengths) * kind.itemsize == len(data)
    sequences = [np.frombuffer(data, kind, n, p).tolist() for n, p in zip(lengths, pointers, strict=True)]
    return [[token for sequence in sequences[a:b] for token in sequence] for a, b in pairwise(marks)]


def documents(uri: str, split: str) -> list[list[int]]:
    return [document.tolist() for document in TokenShards.open(folder_of(uri) / split).documents()]


@pytest.fixture
def tokens(inputs: dict[str, str], tmp_path: Path) -> Any:
    return made(inputs, tmp_path, weights={"web": 1, "wiki": 1, "code": 1})


def test_megatrons_files_hold_the_shards(tokens, tmp_path: Path):
    manifest = export.run(ExportConfig(store=tmp_path.as_uri(), tokens=tokens.uri, formats=("megatron",)))
    folder = folder_of(manifest.uri) / "megatron"
    for split in ("train", "heldout"):
        stems = sorted(path.with_suffix("") for path in folder.glob(f"{split}-*.idx"))
        assert len(stems) == len(list((folder_of(tokens.uri) / split).glob("*.idx")))
        assert [document for stem in stems for document in read_megatron(stem)] == documents(tokens.uri, split)
        assert manifest.stats[split] == {name: tokens.stats[split][name] for name in ("documents", "tokens")}
    assert {path.name for path in folder_of(manifest.uri).iterdir()} == {"megatron", "manifest.json"}


def test_large_vocabularies_are_int32(tmp_path: Path):
    write_shards([[1, 70_000], [2]], 80_000, tmp_path / "train")
    to_megatron(tmp_path / "train", tmp_path / "out", "train")
    assert read_megatron(tmp_path / "out" / "train-00000") == [[1, 70_000], [2]]
    write_shards([], 512, tmp_path / "heldout")
    to_megatron(tmp_path / "heldout", tmp_path / "none", "heldout")
    assert not list((tmp_path / "none").iterdir())


def test_datasets_loads_both_splits(tokens, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import datasets

    monkeypatch.setattr(export, "BATCH_DOCUMENTS", 7)
    config = ExportConfig(store=tmp_path.as_uri(), tokens=tokens.uri, formats=("datasets",))
    manifest = export.run(config)
    loaded = datasets.load_from_disk(str(folder_of(manifest.uri) / "datasets"))
    assert set(loaded) == {"train", "heldout"}
    for split, rows in loaded.items():
        assert rows.column_names == ["input_ids", "id", "source"]
        assert rows["input_ids"][:] == documents(tokens.uri, split)
        listed = documents_of(tokens, split)
        assert (rows["id"][:], rows["source"][:]) == (listed["id"].to_list(), listed["source"].to_list())
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    again = export.run(config.model_copy(update={"store": (tmp_path / "again").as_uri()}))
    assert (again.files, again.cached) == (manifest.files, False)


def test_a_split_without_documents(inputs: dict[str, str], tmp_path: Path):
    import datasets

    tokens = made(inputs, tmp_path, heldout_fraction=0, min_heldout=0)
    manifest = export.run(ExportConfig(store=tmp_path.as_uri(), tokens=tokens.uri))
    loaded = datasets.load_from_disk(str(folder_of(manifest.uri) / "datasets"))
    assert (len(loaded["heldout"]), len(loaded["train"])) == (0, 800)


def test_shards_without_a_list_of_their_documents_are_named(tmp_path: Path):
    def produce(work: Any) -> dict[str, int]:
        for split in ("train", "heldout"):
            write_shards([[1, 2]], 512, work.out / split)
        return {}

    old = execute("tokens", Made(store=tmp_path.as_uri(), name="old"), produce)
    with pytest.raises(ValueError, match=r"tokens: .*: has no shard-00000.documents.parquet; make the shards anew"):
        export.run(ExportConfig(store=tmp_path.as_uri(), tokens=old.uri))
    export.run(ExportConfig(store=tmp_path.as_uri(), tokens=old.uri, formats=("megatron",)))
