"""Documents from git repositories (tracked text files at HEAD) and from the sources of installed packages.

It knows files and licences, not corpora.
"""

import hashlib
import importlib.metadata
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from mantus.data.corpus import Document
from mantus.data.sources import Drop, Item, Source
from mantus.storage import Reference

SUFFIXES = (
    ".py",
    ".md",
    ".rst",
    ".txt",
    ".toml",
    ".yaml",
    ".yml",
    ".sh",
    ".c",
    ".h",
    ".cpp",
    ".go",
    ".rs",
    ".js",
    ".ts",
    ".java",
)
MAX_FILE_BYTES = 256 << 10
LICENSES = (
    ("Apache License", "Apache-2.0"),
    ("MIT License", "MIT"),
    ("Permission is hereby granted, free of charge", "MIT"),
    ("Redistribution and use in source and binary forms", "BSD-3-Clause"),
    ("Mozilla Public License", "MPL-2.0"),
    ("GNU LESSER GENERAL PUBLIC LICENSE", "LGPL-3.0"),
    ("GNU GENERAL PUBLIC LICENSE", "GPL-3.0"),
)


def fingerprint(source: Source, where: str) -> Reference:
    """HEAD's commit, or the versions of the packages. ValueError when a repository or package is not there."""
    if source.type == "git":
        done = _git(source.path, "rev-parse", "HEAD")
        if done.returncode:
            raise ValueError(f"{where}.path: {source.path}: not a git repository with a commit")
        return Reference(f"git:{source.path}", done.stdout.decode().strip())
    versions = []
    for name in source.packages:
        try:
            versions.append(f"{name}=={importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            raise ValueError(f"{where}.packages: {name!r} is not installed") from None
    if not versions:
        raise ValueError(f"{where}.packages: expected names of installed packages")
    return Reference("code", ",".join(versions))


def read(source: Source) -> Iterator[Item]:
    """Documents of the source, in the order of a hash of their paths, up to `max_mb`."""
    files = _git_files(source) if source.type == "git" else _package_files(source)
    suffixes = source.suffixes or SUFFIXES
    ordered = sorted((hashlib.sha256(name.encode()).digest(), name, license, data) for name, license, data in files)
    left = source.max_mb * 1e6 or float("inf")
    for _, name, license, data in ordered:
        suffix = PurePosixPath(name).suffix
        if suffix not in suffixes or left <= 0:
            continue
        try:
            text = data.decode()
        except UnicodeDecodeError:
            yield Drop("not utf-8")
            continue
        if len(data) > MAX_FILE_BYTES or "\0" in text:
            yield Drop("too large or binary")
        elif text.strip():
            left -= len(data)
            form = "prose" if suffix in (".md", ".rst", ".txt") else "code"
            yield Document(text, name, source.license or license, suffix.lstrip("."), form=form)


Found = tuple[str, str, bytes]
"""(URL, licence, bytes)"""


def _git_files(source: Source) -> Iterator[Found]:
    done = _git(source.path, "archive", "--format=tar", "HEAD")
    import io

    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        members = [member for member in archive if member.isfile()]
        license = ""
        for member in members:
            if PurePosixPath(member.name).name.upper().startswith(("LICENSE", "COPYING")):
                stream = archive.extractfile(member)
                assert stream is not None
                license = license or identify(stream.read().decode(errors="replace"))
        for member in members:
            stream = archive.extractfile(member)
            assert stream is not None
            yield f"git:{Path(source.path).name}/{member.name}", license, stream.read()


def _package_files(source: Source) -> Iterator[Found]:
    for name in source.packages:
        distribution = importlib.metadata.distribution(name)
        license = distribution.metadata.get("License-Expression") or distribution.metadata.get("License") or ""
        short = license.splitlines()[0][:40] if license else ""
        for file in sorted(distribution.files or (), key=str):
            path = Path(str(file.locate()))
            if file.suffix in (source.suffixes or SUFFIXES) and path.is_file():
                yield f"pypi:{name}=={distribution.version}/{file}", short or "unknown", path.read_bytes()


def identify(text: str) -> str:
    """The SPDX name of a licence text, 'unknown' when it is none that is known."""
    return next((name for phrase, name in LICENSES if phrase.lower() in text.lower()), "unknown")


def _git(path: str, *words: str) -> subprocess.CompletedProcess[bytes]:
    command = ["git", "-c", "safe.directory=*", "-C", path or ".", *words]
    return subprocess.run(command, capture_output=True, check=False)
