"""An artifact is a folder of objects plus `manifest.json`, written last: no manifest, no artifact.

It knows how artifacts are named, committed, found and read, not what is in them.
"""

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import mantus
from mantus.storage.objects import Store, open_store

MANIFEST = "manifest.json"


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
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
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
    """The manifest of the artifact at `uri`. FileNotFoundError when there is no artifact."""
    try:
        stored = json.loads(open_store(uri).get(MANIFEST))
    except FileNotFoundError:
        raise FileNotFoundError(f"{uri}: no artifact here (it has no {MANIFEST})") from None
    stored["inputs"] = [Reference(**entry) for entry in stored["inputs"]]
    stored["files"] = [FileEntry(**entry) for entry in stored["files"]]
    return Manifest(uri=uri, **stored)


def digest_file(path: Path) -> str:
    """The sha256 of a file, as hex."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def describe_files(folder: Path) -> list[FileEntry]:
    """Every file beneath `folder`, in path order."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [FileEntry(p.relative_to(folder).as_posix(), p.stat().st_size, digest_file(p)) for p in paths]


def commit(store: Store, manifest: Manifest, staging: Path) -> None:
    """Upload an artifact's files, then its manifest; afterwards keep the files as the local copy."""
    prefix = f"{manifest.kind}/{manifest.key}"
    for entry in manifest.files:
        store.upload(staging / entry.path, f"{prefix}/{entry.path}")
    store.put(f"{prefix}/{MANIFEST}", manifest.to_json())
    if not store.uri.startswith("file://"):
        _keep(staging, _cache_path(manifest))


def fetch(uri: str, verify: bool = False) -> Path:
    """A local folder with the artifact's files: the folder itself for `file://`, else a cached copy.

    Sizes are always checked, digests with `verify` (or MANTUS_VERIFY=1). ValueError on damage.
    """
    manifest = read_manifest(uri)
    store = open_store(uri)
    verify = verify or os.environ.get("MANTUS_VERIFY") == "1"
    if store.uri.startswith("file://"):
        folder = Path(store.root)  # type: ignore[attr-defined]
        _check(manifest, folder, verify)
        return folder
    folder = _cache_path(manifest)
    if folder.is_dir():
        _check(manifest, folder, verify)
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=folder.parent) as temporary:
        for entry in manifest.files:
            store.download(entry.path, Path(temporary) / entry.path)
        _check(manifest, Path(temporary), verify=True)
        _keep(Path(temporary), folder)
        Path(temporary).mkdir(exist_ok=True)
    return folder


def cache_root() -> Path:
    """Where local copies and scratch live: MANTUS_CACHE, else ~/.cache/mantus."""
    return Path(os.environ.get("MANTUS_CACHE") or Path.home() / ".cache" / "mantus")


def _cache_path(manifest: Manifest) -> Path:
    return cache_root() / "artifacts" / manifest.kind / manifest.key


def _keep(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir():
        shutil.rmtree(target)
    os.rename(source, target)


def _check(manifest: Manifest, folder: Path, verify: bool) -> None:
    for entry in manifest.files:
        path = folder / entry.path
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise ValueError(f"{manifest.uri}: {entry.path} is missing or has the wrong size; delete it and run again")
        if verify and digest_file(path) != entry.sha256:
            raise ValueError(f"{manifest.uri}: {entry.path} does not match its digest; delete it and run again")
