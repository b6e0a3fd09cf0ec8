"""Divide one piece of work among pods of an Indexed Job or tasks of Ray: each makes its share, the last one gathers.

It knows numbered folders and a store, not what is in them. Alone, a process has the whole share and nothing is moved.
"""

import json
import time
from collections.abc import Sequence
from pathlib import Path

from mantus.processes import shard
from mantus.storage.artifact import MANIFEST
from mantus.storage.objects import Store
from mantus.storage.phase import MadeElsewhere, Work

DONE = "files.json"
"""Written last into a shared folder: its files and their sizes."""


def share(num: int, work: Work | None = None) -> list[int]:
    """Which of `num` pieces this process makes (JOB_COMPLETION_INDEX of MANTUS_SHARDS; alone: all).

    work: leaves out those that were made and given by an earlier attempt.
    """
    index, count = shard()
    mine = list(range(index, num, count))
    return mine if work is None or count == 1 else [n for n in mine if not _is_there(work.store, _prefix(work, n))]


def gather(work: Work, folders: Sequence[Path]) -> None:
    """Return when every folder is here; this process has made those of its share.

    Raises MadeElsewhere when others are still at theirs: the last of them finds everything and goes on alone. Two that
    end together both go on and commit the same bytes.
    """
    if len(share(len(folders))) == len(folders):
        return
    mine = share(len(folders), work)
    for number in mine:
        _give(work.store, folders[number], _prefix(work, number))
    missing = [number for number in range(len(folders)) if number not in mine]
    if not all(_is_there(work.store, _prefix(work, number)) for number in missing):
        raise MadeElsewhere
    for number in missing:
        _take(work.store, _prefix(work, number), folders[number])


def wait_for_commit(work: Work, kind: str, seconds: float = 600) -> None:
    """Return when another process has committed this work's artifact, or after so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            work.store.get(f"{kind}/{work.key}/{MANIFEST}")
            return
        except FileNotFoundError:
            time.sleep(0.3)


def forget(store: Store, key: str) -> None:
    """Remove the shared folders of an artifact that is committed."""
    for item in list(store.list(f"shares/{key}/")):
        store.delete(item.name)


def _prefix(work: Work, number: int) -> str:
    return f"shares/{work.key}/{number:05d}"


def _give(store: Store, folder: Path, prefix: str) -> None:
    files = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.is_file()}
    for name in files:
        store.upload(folder / name, f"{prefix}/{name}")
    store.put(f"{prefix}/{DONE}", json.dumps(files).encode())


def _is_there(store: Store, prefix: str) -> bool:
    try:
        store.get(f"{prefix}/{DONE}")
    except FileNotFoundError:
        return False
    return True


def _take(store: Store, prefix: str, folder: Path) -> None:
    files: dict[str, int] = json.loads(store.get(f"{prefix}/{DONE}"))
    folder.mkdir(parents=True, exist_ok=True)
    for name, size in files.items():
        store.download(f"{prefix}/{name}", folder / name)
        if (folder / name).stat().st_size != size:
            raise OSError(f"{store.uri}/{prefix}/{name}: has not the size that was written; run again")
