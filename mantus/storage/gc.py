"""Remove what crashed runs left: folders of a store without a manifest, and stale local work.

It knows manifests and ages, not what artifacts hold.
"""

import shutil
import time
from collections import defaultdict

from mantus.storage.artifact import MANIFEST, cache_root
from mantus.storage.objects import Object, open_store


def collect_garbage(store_uri: str, older_than_s: float) -> list[str]:
    """Remove every `<kind>/<key>/` without a manifest whose last write is older; what was removed."""
    store, limit = open_store(store_uri), time.time() - older_than_s
    folders: dict[str, list[Object]] = defaultdict(list)
    for item in store.list():
        if item.name.count("/") >= 2:
            folders["/".join(item.name.split("/")[:2])].append(item)
    removed = []
    for folder, items in sorted(folders.items()):
        whole = any(item.name == f"{folder}/{MANIFEST}" for item in items)
        if not whole and max(item.modified for item in items) < limit:
            for item in items:
                store.delete(item.name)
            removed.append(f"{store.uri}/{folder}")
    for work in sorted(cache_root().glob("work/*/*")):
        if work.stat().st_mtime < limit:
            shutil.rmtree(work)
            removed.append(str(work))
    return removed
