"""Data sets in the Hugging Face `datasets` library, streamed: a name on a hub or a folder here -> rows.

It knows the library, not the rows. A data set is divided by its files; code that a data set brings is never run.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mantus.data.sources.cache import digest
from mantus.data.sources.read import from_row
from mantus.data.sources.source import Drop, File, Item, Source
from mantus.storage import Reference
from mantus.storage.artifact import digest_file


def fingerprint(source: Source, where: str) -> Reference:
    """The commit of a data set on a hub, or the digest of its files here. ValueError names `where` when it is none."""
    folder = Path(source.path).expanduser()
    choice = f"{source.config}/{source.split}"
    if folder.is_dir():
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        names = (f"{path.relative_to(folder).as_posix()} {digest_file(path)}" for path in files)
        return Reference(f"huggingface:{source.path}", digest((choice, *names)))
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", source.path):
        raise ValueError(f"{where}.path: {source.path}: no such folder, nor is it a data set's name (owner/name)")
    return Reference(f"huggingface:{source.path}", f"{choice}@{_commit(source, where)}")


def _commit(source: Source, where: str) -> str:
    if re.fullmatch(r"[0-9a-f]{40}", source.revision):
        return source.revision
    from huggingface_hub import HfApi

    with _one_line(source, where):
        return str(HfApi().dataset_info(source.path, revision=source.revision, timeout=60).sha)


def shards(source: Source, where: str) -> list[File]:
    """One File a shard of the split, in order. ValueError names `where` when there is no such split."""
    commit = fingerprint(source, where).key.partition("@")[2]
    with _one_line(source, where):
        number = max(1, int(_open(source, commit).num_shards))
    url = f"huggingface:{source.path}{f'@{commit[:12]}' if commit else ''}/{source.config or 'default'}/{source.split}"
    return [File(Path(source.path), f"{url}/{at}", commit=commit, shard=(at, number)) for at in range(number)]


def read_shard(file: File, source: Source) -> Iterator[Item]:
    """Rows of one shard as documents. What the library cannot read ends the shard with a Drop."""
    number = 0
    try:
        rows = _open(source, file.commit)
        if file.shard[1] > 1:
            rows = rows.shard(num_shards=file.shard[1], index=file.shard[0])
        for number, row in enumerate(rows, 1):
            yield from_row(row, source, file.url, number)
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:
            raise
        yield Drop("damaged data set")
    else:
        if number == 0:
            yield Drop("empty file")


def _open(source: Source, commit: str) -> Any:
    from datasets import load_dataset

    folder = Path(source.path).expanduser()
    path = str(folder.absolute()) if folder.is_dir() else source.path
    return load_dataset(path, source.config or None, split=source.split, revision=commit or None, streaming=True)


@contextmanager
def _one_line(source: Source, where: str) -> Iterator[None]:
    """What the libraries raise, as one line that names the source and the way out."""
    offline = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("HF_DATASETS_OFFLINE")
    try:
        yield
    except Exception as error:  # noqa: BLE001 - the hub's and the library's errors have no common base
        first = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        way_out = "the environment says offline" if offline else "check its name, config, split and revision"
        raise ValueError(f"{where}.path: {source.path}: {first} ({type(error).__name__}); {way_out}") from None
