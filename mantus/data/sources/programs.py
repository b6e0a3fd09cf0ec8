"""Readers of program text: the tracked files of a git repository and the sources of installed packages.

It knows files, suffixes and licences, not parsing: what is worth keeping is decided in clean.py.
"""

import hashlib
import os
import re
import subprocess
from collections.abc import Generator, Iterator
from contextlib import closing
from dataclasses import dataclass
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, cast

from mantus.data.corpus import Document
from mantus.data.sources.source import Drop, File, Item, Source

MAX_FILE_BYTES = 1 << 20
PROSE = (".md", ".rst", ".txt")
CODE_SUFFIXES = (".py", ".md")
GIT_SUFFIXES = (
    *(".py", ".md", ".rst", ".txt", ".toml", ".yaml", ".yml", ".sh", ".c", ".h", ".cc", ".cpp", ".hpp", ".rs"),
    *(".go", ".java", ".js", ".ts", ".rb", ".sql", ".css", ".proto"),
)

LICENSE_MARKS = (
    ("Apache-2.0", r"Apache License\s+Version 2\.0"),
    ("AGPL-3.0", r"GNU AFFERO GENERAL PUBLIC LICENSE"),
    ("LGPL", r"GNU LESSER GENERAL PUBLIC LICENSE"),
    ("GPL-3.0", r"GNU GENERAL PUBLIC LICENSE\s+Version 3"),
    ("GPL-2.0", r"GNU GENERAL PUBLIC LICENSE\s+Version 2"),
    ("MPL-2.0", r"Mozilla Public License,? (?:v\. |version )?2\.0"),
    ("BSD-3-Clause", r"Redistributions? (?s:.*)(?:endorse or promote|used to\s+endorse)"),
    ("BSD-2-Clause", r"Redistributions? of source code must retain"),
    ("MIT", r"Permission is hereby granted, free of charge, to any person obtaining a copy"),
    ("ISC", r"Permission to use, copy, modify, and(?:/or)? distribute this software"),
    ("Unlicense", r"This is free and unencumbered software"),
)
"""Licence -> a phrase only its text has; the first that matches counts."""

CLASSIFIERS = {"MIT License": "MIT", "Apache Software License": "Apache-2.0", "BSD License": "BSD-3-Clause"}


LFS_MARK = b"version https://git-lfs.github.com/spec/"
"""How a file begins that only points to its content in Git LFS."""
SAFELY = ("-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never", "-c", "core.fsmonitor=false")
SLOW = ("-c", "http.lowSpeedLimit=1000", "-c", "http.lowSpeedTime=60")


@dataclass(frozen=True, slots=True)
class Version:
    """One file of a repository at one commit."""

    name: str
    blob: str
    commit: str
    added: str
    """When it was committed, ISO 8601."""


def read_git(repository: File, source: Source) -> Iterator[Item]:
    """Text files tracked by the repository at `repository.path`, or all their versions where `history` is set.

    They are those of `repository.commit`, or of HEAD; `repository.url` stands before their paths. Links, submodules,
    LFS pointers and files too large are drops.
    """
    commit, added = git(repository.path, "log", "-1", "--format=%H %cI", repository.commit or "HEAD", "--").split()
    license_name = source.license or license_of(repository.path, commit)
    suffixes = source.suffixes or GIT_SUFFIXES
    known: dict[str, Version] = {}
    for item in _tracked(repository.path, commit, suffixes):
        if isinstance(item, Drop):
            yield item
        else:
            known[item[0]] = Version(*item, commit, added)
    versions = [known[name] for name in spread(list(known))]
    if source.history:
        versions += _earlier(repository.path, commit, suffixes, {version.blob for version in versions})
    if not versions:
        yield Drop("no text files")
    with closing(_contents(repository.path, versions)) as contents:
        for version, data in contents:
            url = f"{repository.url}@{version.commit[:12]}/{version.name}"
            if data is None:
                yield Drop("too large or missing")
            elif data.startswith(LFS_MARK):
                yield Drop("lfs pointer")
            else:
                yield from_file(data, version.name, url, license_name, version.added)


def is_address(repository: str) -> bool:
    """Whether a repository is named by an address rather than a path of this machine."""
    return re.match(r"(https?|ssh|git|file)://|[\w.-]+@[\w.-]+:", repository) is not None


def git(repository: Path | str, *words: str, timeout_s: float | None = None) -> str:
    """The output of a git command, which asks nobody and runs nothing of the repository's.

    ValueError with git's own last line when it refuses, or when it takes longer than `timeout_s`.
    """
    command = ["git", "-C", str(repository), *SAFELY, *SLOW, *words]
    quiet = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "GIT_LFS_SKIP_SMUDGE": "1", "GIT_NO_LAZY_FETCH": "1"}
    quiet.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", env=quiet, timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise ValueError(f"{repository}: git {words[0]} takes longer than {timeout_s:.0f} s") from None
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["git failed"]
        raise ValueError(f"{repository}: {lines[-1].removeprefix('fatal: ')}")
    return done.stdout


def clone(address: str, commit: str, folder: Path, history: bool, timeout_s: float) -> None:
    """A bare repository in `folder` whose HEAD is `commit`: that commit alone, or with its history. No submodules.

    ValueError with git's last line when it is not to be had, in one sentence.
    """
    git(".", "init", "--quiet", "--bare", "--", str(folder))
    depth = () if history else ("--depth", "1")
    try:
        fetched = ("fetch", "--quiet", "--no-tags", *depth, "--", address)
        try:
            git(folder, *fetched, commit, timeout_s=timeout_s)
        except ValueError:  # some servers give only what has a name
            git(folder, *fetched, "HEAD", timeout_s=timeout_s)
        git(folder, "update-ref", "--no-deref", "HEAD", f"{commit}^{{commit}}")
    except ValueError as error:
        reason = str(error).partition(": ")[2]
        raise ValueError(f"{address}: {commit[:12]} is not to be had ({reason})") from None


def _tracked(repository: Path, commit: str, suffixes: tuple[str, ...]) -> Iterator[tuple[str, str] | Drop]:
    """(path, blob) of text files of a commit; a Drop for what looks like one but is none, and for each submodule."""
    for line in git(repository, "ls-tree", "-r", "-z", "-l", commit).split("\0"):
        facts, _, name = line.partition("\t")
        mode, kind, blob, size = facts.split() if facts else ("", "", "", "")
        if kind == "commit":
            yield Drop("submodule")
        elif not name.endswith(suffixes):
            continue
        elif not mode.startswith("100"):
            yield Drop("symbolic link")
        elif not size.isdigit() or int(size) > MAX_FILE_BYTES:
            yield Drop("too large or missing")
        else:
            yield name, blob


def _earlier(repository: Path, commit: str, suffixes: tuple[str, ...], seen: set[str]) -> Iterator[Version]:
    """Versions of text files that a commit no longer has, newest commit first; each content once."""
    words = ("--no-renames", "--raw", "--no-abbrev", "-z", "-m", "--format=%x01%H %cI")
    log = git(repository, "log", *words, commit, "--")
    for entry in log.split("\x01")[1:]:
        head, _, changes = entry.partition("\0")
        at, added = head.split()
        fields = changes.strip("\n").split("\0")
        for facts, name in zip(fields[::2], fields[1::2], strict=False):
            mode, blob = facts.split()[1], facts.split()[3]
            if mode.startswith("100") and name.endswith(suffixes) and blob not in seen:
                seen.add(blob)
                yield Version(name, blob, at, added)


def _contents(repository: Path, versions: list[Version]) -> Generator[tuple[Version, bytes | None], None, None]:
    """Each file's bytes, through one git process; None where it is not there or too large."""
    command = ["git", "-C", str(repository), *SAFELY, "cat-file", "--batch"]
    quiet = {**os.environ, "GIT_NO_LAZY_FETCH": "1"}
    streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, env=quiet, **streams) as process:  # type: ignore[call-overload]
        ask, answer = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
        try:
            for version in versions:
                ask.write(version.blob.encode() + b"\n")
                ask.flush()
                head = answer.readline().split()
                size = int(head[2]) if len(head) == 3 else -1
                data = answer.read(min(size, MAX_FILE_BYTES)) if size >= 0 else None
                _skip(answer, size + 1 - len(data) if data is not None else 0)
                yield version, data if size <= MAX_FILE_BYTES else None
        except BrokenPipeError:
            raise ValueError(f"{repository}: git cannot read it; clone it anew") from None
        finally:
            process.kill()


def _skip(stream: BinaryIO, num: int) -> None:
    while num > 0 and (chunk := stream.read(min(num, 1 << 20))):
        num -= len(chunk)


def license_of(repository: Path, commit: str) -> str:
    """The SPDX expression of the licence texts at a repository's top; '' where there is none that is known."""
    found = []
    for name in git(repository, "ls-tree", "--name-only", commit).splitlines():
        if re.match(r"(?i)(licen[cs]e|copying)(\.|-|$)", name):
            found.append(detect_license(git(repository, "show", f"{commit}:{name}")[:MAX_FILE_BYTES]))
    return " OR ".join(dict.fromkeys(name for name in found if name))


def detect_license(text: str) -> str:
    """The SPDX name of a licence text; '' when it is none of the common ones."""
    return next((name for name, mark in LICENSE_MARKS if re.search(mark, text)), "")


def read_code(source: Source) -> Iterator[Item]:
    """Source files of installed distributions, those of all packages mixed by hash so that a cap takes some of each."""
    files = {}
    licenses = {}
    for package in source.packages:
        found = metadata.distribution(package)
        licenses[package] = source.license or _declared_license(found)
        for entry in found.files or ():
            is_part = ".." not in entry.parts and not entry.parts[0].endswith(".dist-info")
            if is_part and entry.name.endswith(source.suffixes or CODE_SUFFIXES):
                files[f"pypi:{package}=={found.version}/{entry.as_posix()}"] = (package, Path(str(entry.locate())))
    if not files:
        yield Drop("no source files")
    for url in spread(list(files)):
        package, path = files[url]
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            yield Drop("too large or missing")
        else:
            yield from_file(path.read_bytes(), path.name, url, licenses[package], "")


def _declared_license(found: metadata.Distribution) -> str:
    fields = cast(Message, found.metadata)
    declared = fields.get("License-Expression") or ""
    classifiers = (line.rpartition(" :: ")[2] for line in fields.get_all("Classifier") or ())
    known = [CLASSIFIERS[name] for name in classifiers if name in CLASSIFIERS]
    written = (fields.get("License") or "").strip()
    return declared or (known[0] if known else "") or (written if len(written) < 40 else detect_license(written))


def spread(names: list[str]) -> list[str]:
    """The same names in the order of their hashes."""
    return sorted(names, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())


def from_file(data: bytes, name: str, url: str, license_name: str, added: str) -> Item:
    """A file as a document: prose, or code in the language that its suffix says; a Drop where it is no text."""
    try:
        text = data.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError:
        return Drop("not utf-8")
    if "\0" in text:
        return Drop("binary")
    if not text.strip():
        return Drop("empty file")
    if name.endswith(PROSE):
        return Document(text, url, license_name, added=added)
    return Document(text, url, license_name, lang=name.rpartition(".")[2], added=added, form="code")
