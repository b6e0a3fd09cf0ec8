"""Divide one piece of work among the pods of an Indexed Job: each makes its share, the one that ends last gathers.

It knows numbered folders and a store, not what is in them. Alone, a process has the whole share and nothing is moved.
"""

import json
import os
import time
from collections.abc import Sequence
from pathlib import Path

from mantus.storage.artifact import MANIFEST
from mantus.storage.objects import Store
from mantus.storage.phase import MadeElsewhere, Work

DONE = "files.json"
"""Written last into a shared folder: its files and their sizes."""


def share(num: int) -> list[int]:
    """Which of `num` pieces this process makes (JOB_COMPLETION_INDEX of MANTUS_SHARDS; alone: all)."""
    count = int(os.environ.get("MANTUS_SHARDS", "1"))
    return list(range(int(os.environ.get("JOB_COMPLETION_INDEX", "0")), num, count)) if count > 1 else list(range(num))


def gather(work: Work, folders: Sequence[Path]) -> None:
    """Return when every folder is here; this process has made those of its share.

    Raises MadeElsewhere when others are still at theirs: the last of them finds everything and goes on alone. Two that
    end together both go on and commit the same bytes.
    """
    mine = share(len(folders))
    if len(mine) == len(folders):
        return
    prefix = f"shares/{work.key}"
    for number in mine:
        _give(work.store, folders[number], f"{prefix}/{number:05d}")
    missing = [number for number in range(len(folders)) if number not in mine]
    if not all(_is_there(work.store, f"{prefix}/{number:05d}") for number in missing):
        raise MadeElsewhere
    for number in missing:
        _take(work.store, f"{prefix}/{number:05d}", folders[number])


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
