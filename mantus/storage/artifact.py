"""An artifact is a folder of objects plus `manifest.json`, written last: no manifest, no artifact.

It knows how artifacts are named, committed, found and read, not what is in them.
"""

import errno
import hashlib
import json
import mmap
import os
import shutil
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mantus
from mantus.storage.objects import PART, FileStore, Store, check_name, open_store

MANIFEST = "manifest.json"
DIGEST_BYTES = 1 << 22
"""Bytes hashed at once: for each piece a thread waits for the interpreter's lock again."""


def now() -> str:
    """This second in UTC, as ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One file of an artifact: path relative to it, size, and sha256 as hex."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Reference:
    """An input: where it was read from and the content key it had."""

    uri: str
    key: str


@dataclass(frozen=True, slots=True)
class Manifest:
    """What an artifact is, what made it and from what."""

    kind: str
    key: str
    uri: str
    code_digest: str
    config: dict[str, Any]
    inputs: list[Reference]
    files: list[FileEntry]
    stats: dict[str, Any]
    mantus_version: str = mantus.__version__
    created: str = field(default_factory=now)
    cached: bool = False
    """True when this run found the artifact instead of making it; never stored."""

    def to_json(self) -> bytes:
        """The stored form; `uri` and `cached` are facts of the reader, not of the artifact."""
        fields = asdict(self)
        del fields["uri"], fields["cached"]
        return json.dumps(fields, indent=1, sort_keys=True).encode()


def artifact_key(kind: str, code_digest: str, config: dict[str, Any], input_keys: list[str]) -> str:
    """The content key: blake2b over what decides the bytes, 16 bytes as hex."""
    canonical = json.dumps([kind, code_digest, config, input_keys], sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(canonical.encode(), digest_size=16).hexdigest()


def read_manifest(uri: str) -> Manifest:
    """The manifest of the artifact at `uri`. FileNotFoundError when there is no artifact, ValueError on damage."""
    store = open_store(uri)
    try:
        data = store.get(MANIFEST)
    except FileNotFoundError:
        raise FileNotFoundError(f"{uri}: no artifact here (it has no {MANIFEST})") from None
    try:
        stored = json.loads(data)
        stored["inputs"] = [Reference(**entry) for entry in stored["inputs"]]
        stored["files"] = [FileEntry(check_name(entry.pop("path")), **entry) for entry in stored["files"]]
        return Manifest(uri=store.uri, **stored)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{uri}/{MANIFEST} is damaged ({error}); delete the folder and run again") from None


def digest_file(path: Path) -> str:
    """The sha256 of a file, as hex."""
    digest = hashlib.sha256()
    # not malloc's memory: glibc takes a large piece that is freed for a sign to give no more of its size back
    with path.open("rb", buffering=0) as stream, mmap.mmap(-1, DIGEST_BYTES) as buffer, memoryview(buffer) as view:
        while size := stream.readinto(buffer):
            digest.update(view[:size])
    return digest.hexdigest()


def describe_files(folder: Path) -> list[FileEntry]:
    """Every file beneath `folder`, in path order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [FileEntry(p.relative_to(folder).as_posix(), p.stat().st_size, digest_file(p)) for p in paths]


def commit(store: Store, manifest: Manifest, staging: Path) -> None:
    """Upload an artifact's files, then its manifest; afterwards keep the files as the local copy."""
    prefix, stored = f"{manifest.kind}/{manifest.key}", manifest.to_json()
    for entry in manifest.files:
        store.upload(staging / entry.path, f"{prefix}/{entry.path}")
    store.put(f"{prefix}/{MANIFEST}", stored)
    if not isinstance(store, FileStore):
        _keep(staging, _cache_path(manifest))


def fetch(uri: str, verify: bool = False) -> Path:
    """A local folder with the artifact's files: the folder itself for `file://`, else a cached copy.

    Sizes are always checked, digests with `verify` (or MANTUS_VERIFY=1). ValueError on damage in the store;
    a damaged copy is fetched again.
    """
    manifest, store = read_manifest(uri), open_store(uri)
    verify = verify or os.environ.get("MANTUS_VERIFY") == "1"
    if isinstance(store, FileStore):
        if damage := find_damage(manifest, store.root, verify):
            raise ValueError(f"{manifest.uri}: {damage}; delete this folder and run again")
        return store.root
    copy = _cache_path(manifest)
    if copy.is_dir():
        if not find_damage(manifest, copy, verify):
            return copy
        discard(copy)
    copy.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PART, dir=copy.parent) as temporary:
        fresh = Path(temporary) / "files"
        fresh.mkdir()
        for entry in manifest.files:
            _download(store, entry, fresh, manifest.uri)
        if damage := find_damage(manifest, fresh, verify=True):
            raise ValueError(f"{manifest.uri}: {damage}; delete it there and run again")
        _keep(fresh, copy)
    return copy


def find_damage(manifest: Manifest, folder: Path, verify: bool) -> str:
    """What is wrong with an artifact's files in `folder`, '' when nothing is; digests are read with `verify`."""
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file() or path.stat().st_size != entry.bytes:
            return f"{entry.path} is missing or has the wrong size"
        if verify and digest_file(path) != entry.sha256:
            return f"{entry.path} does not match its digest"
    return ""


def cache_root() -> Path:
    """Where local copies and scratch live: MANTUS_CACHE, else ~/.cache/mantus."""
    return Path(os.environ.get("MANTUS_CACHE") or Path.home() / ".cache" / "mantus").absolute()


def _download(store: Store, entry: FileEntry, folder: Path, uri: str) -> None:
    try:
        store.download(entry.path, folder / entry.path)
    except FileNotFoundError:
        raise ValueError(f"{uri}: {entry.path} is missing; delete the folder and run again") from None


def _cache_path(manifest: Manifest) -> Path:
    """Where the local copy lies: named by its files too, since two stores may hold other bytes under one key."""
    files = json.dumps([asdict(entry) for entry in manifest.files], sort_keys=True)
    digest = hashlib.blake2b(files.encode(), digest_size=4).hexdigest()
    return cache_root() / "artifacts" / manifest.kind / f"{manifest.key}-{digest}"


def _keep(source: Path, target: Path) -> None:
    """Move a complete folder into the cache. A copy that is there already has the same bytes, and readers: it stays."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.rename(source, target)
    except OSError as error:
        if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
            raise


def discard(folder: Path) -> None:
    """Take a folder out of the cache at once, whatever another process does with it."""
    doomed = Path(tempfile.mkdtemp(prefix=PART, dir=folder.parent))
    with suppress(FileNotFoundError):  # another process was first
        os.rename(folder, doomed / "files")
    shutil.rmtree(doomed, ignore_errors=True)
