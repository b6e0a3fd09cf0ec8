"""Export: token shards in the formats of other trainers, Megatron-LM's and that of Hugging Face `datasets`.

It knows shards and those formats, not how shards are made. One shard is in memory at a time.
"""

import shutil
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np

from mantus import console
from mantus.data.shards import TokenShards
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute

SPLITS = ("train", "heldout")
MAGIC, VERSION = b"MMIDIDX\x00\x00", 1
CODES = {2: 8, 4: 4}
"""Bytes of a token -> Megatron's code of its type: uint16, int32 (it has no uint32; ids are far below 2**31)."""
BATCH_DOCUMENTS = 1000


class ExportConfig(PhaseConfig):
    """Write token shards in the formats of other trainers."""

    tokens: ArtifactURI
    """The token shards to write."""
    formats: tuple[Literal["megatron", "datasets"], ...] = ("megatron", "datasets")
    """megatron: `.bin` and `.idx` for Megatron-LM, a pair a shard. datasets: for `datasets.load_from_disk`."""


def run(config: ExportConfig) -> Manifest:
    """Make the export, or find it. ValueError when the shards are older than the list of their documents."""
    return execute("export", config, lambda work: _produce(work, config))


def _produce(work: Work, config: ExportConfig) -> dict[str, Any]:
    tokens = work.inputs["tokens"]
    if "megatron" in config.formats:
        with console.progress("megatron", len(SPLITS), "splits") as bar:
            for split in SPLITS:
                to_megatron(tokens / split, work.out / "megatron", split)
                bar.advance()
    if "datasets" in config.formats:
        to_datasets(tokens, work.out / "datasets", work.scratch, work.key)
    shards = {split: TokenShards.open(tokens / split) for split in SPLITS}
    return {name: {"documents": of.num_documents, "tokens": of.num_tokens} for name, of in shards.items()}


def to_megatron(folder: Path, out: Path, name: str) -> None:
    """Write a split as `<name>-%05d.bin` and `.idx`; a shard without documents is left out.

    The index: magic, version (uint64), type of a token (uint8), sequences and document marks (uint64 each), then tokens
    of each sequence (int32), where its bytes begin (int64), and for each document its first sequence, with their number
    at the end (int64). A document is one sequence.
    """
    out.mkdir(parents=True, exist_ok=True)
    for number, (index, (tokens, offsets)) in enumerate(_shards(folder)):
        num = len(offsets) - 1
        if num == 0:
            continue
        stem = out / f"{name}-{number:05d}"
        shutil.copyfile(index.with_suffix(".bin"), stem.with_suffix(".bin"))
        starts = offsets.astype(np.int64)
        with stem.with_suffix(".idx").open("wb") as file:
            file.write(MAGIC + struct.pack("<QBQQ", VERSION, CODES[tokens.itemsize], num, num + 1))
            file.write(np.diff(starts).astype("<i4").tobytes())
            file.write((starts[:-1] * tokens.itemsize).astype("<i8").tobytes())
            file.write(np.arange(num + 1, dtype="<i8").tobytes())


def to_datasets(tokens: Path, out: Path, scratch: Path, key: str) -> None:
    """Write both splits as a `datasets.DatasetDict` with columns input_ids (int32), id and source."""
    import datasets

    features = {
        "input_ids": [datasets.Value("int32")],
        "id": datasets.Value("string"),
        "source": datasets.Value("string"),
    }
    info = datasets.DatasetInfo(features=datasets.Features(features))
    splits, numbers = {}, {}
    for split in SPLITS:
        files = list(_arrow_files(tokens / split, scratch / split, info.features.arrow_schema))
        tables = [datasets.table.MemoryMappedTable.from_file(str(path)) for path in files]
        table = datasets.table.concat_tables(tables)
        splits[split] = datasets.Dataset(
            table, info=info, split=datasets.NamedSplit(split), fingerprint=f"{key[:12]}{split}"
        )
        numbers[split] = len(files)
    datasets.DatasetDict(splits).save_to_disk(out, num_shards=numbers)


def _arrow_files(folder: Path, scratch: Path, schema: Any) -> Iterator[Path]:
    """Each shard of a split as an arrow stream."""
    import pyarrow as pa

    scratch.mkdir(parents=True, exist_ok=True)
    for index, (tokens, offsets) in _shards(folder):
        path = scratch / index.with_suffix(".arrow").name
        with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, schema) as stream:
            for start, rows in _documents(index):
                ends = offsets[start : start + rows.num_rows + 1].astype(np.int64)
                ids = pa.array(np.asarray(tokens[ends[0] : ends[-1]], np.int32))
                lists = pa.ListArray.from_arrays(pa.array((ends - ends[0]).astype(np.int32)), ids)
                columns = [lists, *(rows[name].cast(pa.string()) for name in ("id", "source"))]
                stream.write_batch(pa.RecordBatch.from_arrays(columns, schema=schema))
        yield path


def _documents(index: Path) -> Iterator[tuple[int, Any]]:
    """Ids and sources of a shard's documents in batches, and the number of the first of each."""
    import pyarrow.parquet as parquet

    path, number = index.with_suffix(".documents.parquet"), 0
    if path.is_file():
        for batch in parquet.ParquetFile(path).iter_batches(BATCH_DOCUMENTS, columns=["id", "source"]):
            yield number, batch
            number += batch.num_rows
    elif len(np.fromfile(index, "<u8")) > 1:
        raise ValueError(
            f"tokens: {index.parent.parent}: has no {path.name}; make the shards anew with `mantus tokenize`"
        )


def _shards(folder: Path) -> Iterator[tuple[Path, Any]]:
    """Each shard's index, and its tokens and offsets."""
    yield from zip(sorted(folder.glob("shard-*.idx")), TokenShards.open(folder).shards, strict=True)
