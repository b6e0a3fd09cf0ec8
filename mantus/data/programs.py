"""Readers of program text: the tracked files of a git repository and the sources of installed packages.

It knows files, suffixes and licences, not parsing: what is worth keeping is decided in clean.py.
"""

import hashlib
import re
import subprocess
from collections.abc import Generator, Iterator
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import BinaryIO, cast

from mantus.data.corpus import Document
from mantus.data.sources import Drop, File, Item, Source

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


def read_git(repository: File, source: Source) -> Iterator[Item]:
    """Text files tracked by the repository at `repository.path`; its `url` stands before their paths."""
    commit, added = git(repository.path, "log", "-1", "--format=%H %cI", source.rev or "HEAD", "--").split()
    names = [name for name in _tracked(repository.path, commit) if name.endswith(source.suffixes or GIT_SUFFIXES)]
    license_name = source.license or _license_of(repository.path, commit)
    if not names:
        yield Drop("no text files")
    contents = _contents(repository.path, commit, _spread(names))
    try:
        for name, data in contents:
            url = f"{repository.url}@{commit[:12]}/{name}"
            yield _from_file(data, name, url, license_name, added)
    finally:
        contents.close()


def git(repository: Path | str, *words: str) -> str:
    """The output of a git command. ValueError with git's own last line when it refuses."""
    command = ["git", "-C", str(repository), *words]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace")
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["git failed"]
        raise ValueError(f"{repository}: {lines[-1].removeprefix('fatal: ')}")
    return done.stdout


def _tracked(repository: Path, commit: str) -> list[str]:
    """Paths of regular files of a commit that are not too large to be text."""
    names = []
    for line in git(repository, "ls-tree", "-r", "-z", "-l", commit).split("\0"):
        facts, _, name = line.partition("\t")
        if facts.startswith("100") and int(facts.split()[3]) <= MAX_FILE_BYTES and "\n" not in name:
            names.append(name)
    return names


def _contents(repository: Path, commit: str, names: list[str]) -> Generator[tuple[str, bytes], None, None]:
    """Each file's bytes, through one git process."""
    command = ["git", "-C", str(repository), "cat-file", "--batch"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        ask, answer = cast(BinaryIO, process.stdin), cast(BinaryIO, process.stdout)
        try:
            for name in names:
                ask.write(f"{commit}:{name}\n".encode())
                ask.flush()
                head = answer.readline().split()
                if len(head) == 3:
                    yield name, answer.read(int(head[2]) + 1)[:-1]
        finally:
            process.kill()


def _license_of(repository: Path, commit: str) -> str:
    for name in git(repository, "ls-tree", "--name-only", commit).splitlines():
        if re.match(r"(?i)(licen[cs]e|copying)(\.|-|$)", name):
            return detect_license(git(repository, "show", f"{commit}:{name}"))
    return ""


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
    for url in _spread(list(files)):
        package, path = files[url]
        if not path.is_file() or path.stat().st_size > MAX_FILE_BYTES:
            yield Drop("too large or missing")
        else:
            yield _from_file(path.read_bytes(), path.name, url, licenses[package], "")


def _declared_license(found: metadata.Distribution) -> str:
    fields = cast(Message, found.metadata)
    declared = fields.get("License-Expression") or ""
    classifiers = (line.rpartition(" :: ")[2] for line in fields.get_all("Classifier") or ())
    known = [CLASSIFIERS[name] for name in classifiers if name in CLASSIFIERS]
    written = (fields.get("License") or "").strip()
    return declared or (known[0] if known else "") or (written if len(written) < 40 else detect_license(written))


def _spread(names: list[str]) -> list[str]:
    """The same names in the order of their hashes."""
    return sorted(names, key=lambda name: hashlib.blake2b(name.encode(), digest_size=8).digest())


def _from_file(data: bytes, name: str, url: str, license_name: str, added: str) -> Item:
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
