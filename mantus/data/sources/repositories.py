"""A list of git repositories as one source: each looked up, cloned, read and removed by itself.

It knows lists and limits, not how a repository is read (programs.py). One that fails costs itself, not the run.
"""

import re
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from mantus.data.corpus import Document
from mantus.data.sources.cache import digest
from mantus.data.sources.programs import clone, git, is_address, license_of, read_git
from mantus.data.sources.source import Drop, File, Item, Source
from mantus.storage import Reference
from mantus.storage.artifact import cache_root

LOOK_UPS = 8
"""Repositories that are asked for their HEAD at once."""
COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


def listed_repositories(source: Source, where: str) -> tuple[Reference, list[File]]:
    """The fingerprint of all commits that are meant, and one File a repository.

    A repository that cannot be reached has the commit '' and becomes a drop. ValueError names `where` when the list is
    missing or empty.
    """
    entries = _entries(source, where)
    with ThreadPoolExecutor(LOOK_UPS) as pool:
        commits = list(pool.map(lambda entry: entry[1] or _head(entry[0], source.clone_s), entries))
    addresses = [address for address, _ in entries]
    key = digest(f"{address} {commit}" for address, commit in zip(addresses, commits, strict=True))
    title = f"repositories:{source.path or source.title}"
    pairs = zip(addresses, commits, strict=True)
    return Reference(title, key), [File(Path(address), address, commit=commit) for address, commit in pairs]


def _entries(source: Source, where: str) -> list[tuple[str, str]]:
    """(path or URL, commit or '') of each repository of the list, in order, each once."""
    lines = [*source.repositories]
    if source.path:
        try:
            lines = [*Path(source.path).expanduser().read_text(encoding="utf-8").splitlines(), *lines]
        except (OSError, UnicodeError) as error:
            problem = f"cannot be read ({type(error).__name__}); expected a text file, one repository a line"
            raise ValueError(f"{where}.path: {source.path}: {problem}") from None
    entries: dict[str, str] = {}
    for line in lines:
        address, _, commit = line.partition("#")[0].strip().partition(" ")
        if not address:
            continue
        commit = commit.strip()
        if address.startswith("-") or (commit and not COMMIT.fullmatch(commit)):
            raise ValueError(f"{where}: {line.strip()!r}: expected a path or URL, then a whole commit or nothing")
        entries.setdefault(address, commit)
    if not entries:
        raise ValueError(f"{where}.repositories: empty; name repositories, or a file with one a line in path")
    return list(entries.items())


def _head(address: str, timeout_s: float) -> str:
    """The commit that HEAD of a repository is; '' where nobody says."""
    try:
        return git(".", "ls-remote", "--", address, "HEAD", timeout_s=timeout_s).partition("\t")[0]
    except ValueError:
        return ""


def read_repository(repository: File, source: Source) -> Iterator[Item]:
    """Documents of one repository of the list: cloned, judged by its licence, read, removed."""
    if not repository.commit:
        yield Drop("repository out of reach")
        return
    home = cache_root() / "clones"
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="clone-", dir=home) as temporary:
        folder = Path(temporary) / "repository"
        address = repository.url if is_address(repository.url) else str(Path(repository.url).absolute())
        try:
            clone(address, repository.commit, folder, source.history, source.clone_s)
            found = source.license or license_of(folder, repository.commit)
        except ValueError:
            yield Drop("repository out of reach")
            return
        if source.licenses and not set(found.split(" OR ")) & set(source.licenses):
            yield Drop("licence not wanted")
            return
        yield from _limited(replace(repository, path=folder, url=f"git:{_short(repository.url)}"), source)


def _limited(repository: File, source: Source) -> Iterator[Item]:
    num_bytes = 0.0
    try:
        for item in read_git(repository, source):
            yield item
            num_bytes += len(item.text.encode(errors="replace")) if isinstance(item, Document) else 0
            if source.repository_mb and num_bytes >= source.repository_mb * 1e6:
                return
    except ValueError:
        yield Drop("damaged repository")


def _short(address: str) -> str:
    """A repository's address without scheme, credentials and .git: host/owner/name."""
    bare = re.sub(r"^[a-z+]+://", "", address).rpartition("@")[2]
    return bare.replace(":", "/", 1).rstrip("/").removesuffix(".git") if is_address(address) else address
