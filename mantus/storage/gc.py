"""Remove what crashed runs left behind: folders without a manifest, broken-off writes, stale work and half copies.

It does not touch artifacts, used or not.
"""

import re
import time
from collections import defaultdict
from pathlib import Path

from mantus.storage.artifact import MANIFEST, cache_root, discard
from mantus.storage.objects import PART, Object, Store, open_store
from mantus.storage.phase import lock_folder

KEY = re.compile(r"[0-9a-f]{32}")


def collect_garbage(store_uri: str, older_than_s: float) -> list[str]:
    """Remove what has no manifest and saw no write for `older_than_s` seconds.

    In the store: `<kind>/<key>/` folders and broken-off uploads.  On this machine: work folders that no process
    owns, and broken-off copies.  Returns what went, as URIs and paths, sorted.  StoreError when the store fails.
    """
    store, limit = open_store(store_uri), time.time() - older_than_s
    swept = [f"{store.uri}/{name}" for name in store.sweep(older_than_s)]
    return sorted([*swept, *_half_written(store, limit), *_stale_work(limit), *_half_copies(limit)])


def _half_written(store: Store, limit: float) -> list[str]:
    folders: dict[str, list[Object]] = defaultdict(list)
    for item in store.list():
        kind, _, rest = item.name.partition("/")
        key, slash, _ = rest.partition("/")
        if slash and KEY.fullmatch(key):  # anything else in the bucket is not ours to judge
            folders[f"{kind}/{key}"].append(item)
    removed = []
    for folder, items in folders.items():
        complete = any(item.name == f"{folder}/{MANIFEST}" for item in items)
        if complete or max(item.modified for item in items) > limit:
            continue
        for item in items:
            store.delete(item.name)
        removed.append(f"{store.uri}/{folder}")
    return removed


def _stale_work(limit: float) -> list[str]:
    removed = []
    for folder in sorted((cache_root() / "work").glob("*/*")):
        if folder.name.startswith(PART) or _last_write(folder) > limit:
            continue
        with lock_folder(folder) as owned:
            if owned:
                discard(folder)
                removed.append(str(folder))
    return removed


def _half_copies(limit: float) -> list[str]:
    removed = []
    for area in ("artifacts", "work"):
        for folder in sorted((cache_root() / area).glob(f"*/{PART}*")):
            if _last_write(folder) <= limit:
                discard(folder)
                removed.append(str(folder))
    return removed


def _last_write(folder: Path) -> float:
    """The latest modification beneath a folder, itself included; 0 when it is gone."""
    latest = 0.0
    for path in [folder, *folder.rglob("*")]:
        try:
            latest = max(latest, path.stat().st_mtime)
        except FileNotFoundError:
            continue
    return latest
