"""What this machine, or this container, has for a run. It looks for packages without loading any."""

import importlib.util
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

from mantus.launch.doctor.checks import Check
from mantus.storage import StoreError
from mantus.storage.artifact import cache_root

GIB = 1 << 30
PACKAGES = {
    "data": ("polars", "pyarrow", "tokenizers", "rustbpe", "rensa", "resiliparse", "fastwarc"),
    "train": ("torch", "safetensors"),
    "release": ("openvino_genai", "onnxruntime_genai", "gguf", "transformers"),
    "serve": ("kserve",),
    "eval": ("lm_eval",),
    "pipeline": ("kfp", "kubernetes"),
    "report": ("matplotlib",),
}
"""Extra -> modules that it brings."""
LEAST_MEMORY_GIB, WANTED_MEMORY_GIB = 0.5, 4
LEAST_DISK_GIB, WANTED_DISK_GIB = 0.5, 5


def laptop() -> Iterator[Check]:
    """Python, packages, processors, memory, disk, tools and what is cached."""
    found = ".".join(map(str, sys.version_info[:3]))
    fits = (3, 11) <= sys.version_info[:2] < (3, 13)
    yield Check("python", "ok" if fits else "lacks", found, "" if fits else "use Python 3.11 or 3.12")
    yield _packages()
    cores = len(os.sched_getaffinity(0))
    yield Check("cores", "ok" if cores > 1 else "note", f"{cores}", "" if cores > 1 else "the recipes expect 2")
    yield _amount("memory", _memory(), LEAST_MEMORY_GIB, WANTED_MEMORY_GIB, "close something, or take a larger machine")
    place = _existing(cache_root())
    free = shutil.disk_usage(place).free
    yield _amount("disk", free, LEAST_DISK_GIB, WANTED_DISK_GIB, f"free some in {place}, or set MANTUS_CACHE")
    has_git = shutil.which("git") is not None
    yield Check("git", "ok" if has_git else "note", "found" if has_git else "absent", "" if has_git else WITHOUT_GIT)
    yield _object_store()
    yield _cached()


WITHOUT_GIT = "sources of type git cannot be collected; install it"


def _packages() -> Check:
    missing = {
        extra: [name for name in names if importlib.util.find_spec(name) is None] for extra, names in PACKAGES.items()
    }
    absent = [name for names in missing.values() for name in names]
    if not absent:
        return Check("packages", "ok", f"all {sum(map(len, PACKAGES.values()))} found")
    extras = ",".join(extra for extra, names in missing.items() if names)
    return Check("packages", "lacks", f"absent: {', '.join(absent)}", f"pip install 'mantus[{extras}]'")


def _amount(name: str, found: int, least: float, wanted: float, way_out: str) -> Check:
    text = f"{found / GIB:.1f} GiB free"
    if found < least * GIB:
        return Check(name, "lacks", f"{text}, at least {least} are needed", way_out)
    return Check(name, "ok", text) if found >= wanted * GIB else Check(name, "note", f"{text}, {wanted} are better")


def _memory() -> int:
    """Bytes that this process may still take: the machine's, or its control group's where that is less."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    values = {line.split(":")[0]: int(line.split()[1]) << 10 for line in lines}
    limits = [_number("memory.max"), _number("memory/memory.limit_in_bytes")]
    return min(values["MemAvailable"], *(limit for limit in limits if limit), values["MemTotal"])


def _number(name: str) -> int:
    """A figure of this process's control group as a container sees it, 0 when there is none."""
    try:
        return int((Path("/sys/fs/cgroup") / name).read_text(encoding="ascii"))
    except (OSError, ValueError):  # absent, or 'max'
        return 0


def _existing(path: Path) -> Path:
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def _object_store() -> Check:
    from mantus.storage.server import find_program

    try:
        find_program()
    except StoreError as error:
        return Check("s3 server", "note", str(error))
    return Check("s3 server", "ok", "the embedded one is there for runs without --store")


def _cached() -> Check:
    folder = cache_root()
    if not folder.is_dir():
        return Check("cache", "ok", f"{folder} is empty; the first run downloads what its recipe names")
    entries = sum(1 for _ in folder.iterdir())
    return Check("cache", "ok", f"{folder}, {entries} folders")
