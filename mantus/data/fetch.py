"""Bring a source's bytes to this machine: local paths, http(s), s3, git remotes, files of PyPI releases.

It knows addresses, fingerprints and the cache, not formats. What is cached is never fetched again.
"""

import fnmatch
import glob
import hashlib
import os
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mantus.data.programs import git
from mantus.data.sources import File, Source
from mantus.processes import run_child
from mantus.storage import Reference, StoreError, open_store
from mantus.storage.artifact import cache_root, digest_file
from mantus.storage.objects import s3_client

PYPI = re.compile(r"pypi:(?P<name>[\w.-]+)==(?P<version>[\w.!+-]+)/(?P<members>.+)")
TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Resolved:
    """A source whose existence is known: its fingerprint, and how to get its files here."""

    source: Source
    reference: Reference
    fetch: Callable[[], list[File]]
    """Local files of the source, fetched if they are not cached; one entry for a repository, none for `code`."""


def resolve(source: Source, where: str) -> Resolved:
    """Look a source up without fetching it. ValueError names `where` when it is not there.

    The fingerprint is the digest of local files, the ETag at http and s3, the commit of a repository,
    and name and version of packages.
    """
    if source.type == "code":
        return _resolve_packages(source, where)
    if not source.path:
        raise ValueError(f"{where}.path: missing; a path, a URL or pypi:<name>==<version>/<members>")
    if source.type == "git":
        return _resolve_git(source, where)
    scheme = urlsplit(source.path).scheme if ":" in source.path else ""
    known = {"pypi": _resolve_pypi, "http": _resolve_http, "https": _resolve_http, "s3": _resolve_s3}
    return known.get(scheme, _resolve_local)(source, where)


def _digest(parts: Iterator[str]) -> str:
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def _resolve_local(source: Source, where: str) -> Resolved:
    path = unquote(urlsplit(source.path).path) if source.path.startswith("file://") else source.path
    paths = _local_paths(Path(path).expanduser())
    if not paths:
        raise ValueError(f"{where}.path: {source.path}: no such file, nor does it match any")
    try:
        key = _digest(f"{digest_file(file)} {name if len(paths) > 1 else ''}" for name, file in paths)
    except PermissionError:
        raise ValueError(f"{where}.path: {source.path}: not readable by this user") from None
    files = [File(file, f"file:{name}") for name, file in paths]
    return Resolved(source, Reference(source.path, key), lambda: files)


def _local_paths(path: Path) -> list[tuple[str, Path]]:
    """(path as given, file) of a file, of everything beneath a folder, or of what a glob matches; in name order."""
    if path.is_file():
        return [(path.as_posix(), path)]
    if path.is_dir():
        found = (file for file in path.rglob("*") if not any(part.startswith(".") for part in file.parts[1:]))
    else:
        found = (Path(name) for name in glob.iglob(str(path), recursive=True))
    return sorted((file.as_posix(), file) for file in found if file.is_file())


def _resolve_packages(source: Source, where: str) -> Resolved:
    if not source.packages:
        raise ValueError(f"{where}.packages: missing; names of installed distributions")
    versions = []
    for package in source.packages:
        try:
            versions.append(f"{package}=={metadata.version(package)}")
        except metadata.PackageNotFoundError:
            raise ValueError(f"{where}.packages: {package!r} is not installed") from None
    return Resolved(source, Reference("code:" + ",".join(source.packages), ",".join(versions)), lambda: [])


def _resolve_git(source: Source, where: str) -> Resolved:
    title, wanted = f"git:{source.title}", source.rev or "HEAD"
    try:
        if not re.match(r"(https?|ssh|git)://|git@", source.path):
            commit = git(source.path, "rev-parse", "--verify", "--end-of-options", f"{wanted}^{{commit}}").strip()
            return Resolved(source, Reference(source.path, commit), lambda: [File(Path(source.path), title)])
        listed = git(".", "ls-remote", source.path, wanted).partition("\t")[0]
        commit = listed or (wanted if re.fullmatch("[0-9a-f]{40}", wanted) else "")
    except ValueError as error:
        if source.rev and "single revision" in str(error):
            raise ValueError(f"{where}.rev: {source.path} has no {wanted}; fetch it (git fetch --unshallow)") from None
        raise ValueError(f"{where}.path: {error}") from None
    if not commit:
        raise ValueError(f"{where}.path: {source.path}: a repository without {wanted}")

    def clone() -> list[File]:
        with _cached("git", source.path, commit) as (folder, is_new):
            if is_new:
                bare = str(folder / "repository")
                git(".", "init", "--quiet", "--bare", bare)
                git(bare, "fetch", "--quiet", "--depth", "1", source.path, commit)
                git(bare, "update-ref", "--no-deref", "HEAD", "FETCH_HEAD^{commit}")
        return [File(_cache_folder("git", source.path, commit) / "repository", title)]

    return Resolved(source.model_copy(update={"rev": ""}), Reference(source.path, commit), clone)


def _resolve_http(source: Source, where: str) -> Resolved:
    import httpx

    url = source.path
    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_S) as answer:
            if answer.status_code >= 400:
                raise ValueError(f"{where}.path: {url}: the server answers {answer.status_code}")
            facts = [answer.headers.get(name, "") for name in ("etag", "last-modified", "content-length")]
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise OSError(f"{where}.path: {url}: no answer ({type(error).__name__})") from None
    key = facts[0] or _digest(iter(facts[1:]))
    name = unquote(urlsplit(url).path).rpartition("/")[2] or "index"

    def download() -> list[File]:
        with _cached("http", url, key) as (folder, is_new):
            if is_new:
                _download(url, folder / name)
        return [File(_cache_folder("http", url, key) / name, url)]

    return Resolved(source, Reference(url, key), download)


def _download(url: str, target: Path) -> None:
    import httpx

    try:
        with httpx.stream("GET", url, follow_redirects=True, timeout=TIMEOUT_S) as answer, target.open("wb") as file:
            answer.raise_for_status()
            for chunk in answer.iter_bytes(1 << 20):
                file.write(chunk)
    except httpx.HTTPError as error:
        raise OSError(f"{url}: the download broke off ({type(error).__name__})") from None


def _resolve_s3(source: Source, where: str) -> Resolved:
    parts = urlsplit(source.path)
    pattern = source.path.partition("://")[2].partition("/")[2]
    objects = _list_s3(parts.netloc, pattern)
    if not objects:
        raise ValueError(f"{where}.path: {source.path}: no object there")
    key = _digest(f"{name} {etag}" for name, etag in objects)

    def download() -> list[File]:
        store = open_store(f"s3://{parts.netloc}")
        with _cached("s3", source.path, key) as (folder, is_new):
            if is_new:
                for name, _ in objects:
                    store.download(name, folder / name)
        home = _cache_folder("s3", source.path, key)
        return [File(home / name, f"s3://{parts.netloc}/{name}") for name, _ in objects]

    return Resolved(source, Reference(source.path, key), download)


def _list_s3(bucket: str, pattern: str) -> list[tuple[str, str]]:
    """(name, ETag) of the objects beneath a prefix, or of those a glob matches."""
    from botocore.exceptions import BotoCoreError, ClientError

    prefix = re.split(r"[*?\[]", pattern, maxsplit=1)[0]
    try:
        pages = s3_client().get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        found = [(item["Key"], item["ETag"].strip('"')) for page in pages for item in page.get("Contents", ())]
    except (BotoCoreError, ClientError) as error:
        raise StoreError(f"s3://{bucket}/{pattern}: cannot be listed ({type(error).__name__}); is it up?") from error
    if prefix != pattern:
        return sorted(item for item in found if fnmatch.fnmatchcase(item[0], pattern))
    folder = pattern.rstrip("/") + "/"
    return sorted(item for item in found if item[0] == pattern or item[0].startswith(folder) or not pattern)


def _resolve_pypi(source: Source, where: str) -> Resolved:
    given = PYPI.fullmatch(source.path)
    if given is None:
        raise ValueError(f"{where}.path: {source.path}: expected pypi:<name>==<version>/<members>")
    release = f"{given['name']}=={given['version']}"

    def download() -> list[File]:
        with _cached("pypi", release, source.kind) as (folder, is_new):
            if is_new:
                _pip_download(source, release, folder, where)
        file = next(_cache_folder("pypi", release, source.kind).iterdir())
        if source.sha256 and digest_file(file) != source.sha256:
            raise ValueError(f"{where}.sha256: {file.name} has {digest_file(file)}")
        return [File(file, f"pypi:{release}", given["members"])]

    return Resolved(source, Reference(f"pypi:{release}", f"{release} {source.kind} {source.sha256}"), download)


def _pip_download(source: Source, release: str, folder: Path, where: str) -> None:
    """Fetch one file of a release with pip.

    pip asks an sdist for its metadata, which runs the sdist's own build backend; a digest in `sha256` is checked
    by pip before that. Without build isolation nothing else is fetched; where that fails, with it.
    """
    name = release.partition("==")[0]
    choice = ["--no-binary" if source.kind == "sdist" else "--only-binary", name]
    with tempfile.TemporaryDirectory() as temporary:
        wanted = Path(temporary) / "requirements.txt"
        wanted.write_text(release + (f" --hash=sha256:{source.sha256}" if source.sha256 else ""))
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--disable-pip-version-check", *choice]
        command += ["--dest", str(folder), "--requirement", str(wanted)]
        for isolation in (["--no-build-isolation"], []):
            done = run_child([*command, *isolation])
            if done.returncode == 0:
                return
            for file in folder.iterdir():
                file.unlink()
    if "DO NOT MATCH THE HASHES" in done.stderr:
        raise ValueError(f"{where}.sha256: {release} has another digest than {source.sha256}")
    if "No matching distribution" in done.stderr:
        raise ValueError(f"{where}.path: {source.path}: no {source.kind} of that release is to be had")
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or ["pip failed"]
    raise OSError(f"{where}.path: {release}: {lines[-1]}")


def _cache_folder(scheme: str, address: str, key: str) -> Path:
    stem = re.sub(r"[^\w.=-]+", "-", address)[-60:]
    return cache_root() / "sources" / scheme / f"{stem}-{_digest(iter((address, key)))[:12]}"


@contextmanager
def _cached(scheme: str, address: str, key: str) -> Iterator[tuple[Path, bool]]:
    """A folder to fill and True, moved into the cache at the end; or what is cached and False."""
    final = _cache_folder(scheme, address, key)
    if final.is_dir():
        yield final, False
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=final.parent) as temporary:
        folder = Path(temporary) / "files"
        folder.mkdir()
        yield folder, True
        try:
            os.rename(folder, final)
        except OSError:
            if not final.is_dir():  # another process may have been first
                raise
