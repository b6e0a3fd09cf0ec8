"""Broken archives, folders and repositories."""

import gzip
import io
import os
import random
import subprocess
import tarfile
import zipfile
from pathlib import Path

from tests.data.broken.case import MB, PROSE, Case, case, write


def zipped(folder: Path, files: dict[str, bytes], **options: object) -> dict[str, object]:
    with zipfile.ZipFile(folder / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return {"type": "text", "path": str(folder / "a.zip"), "members": "*", **options}


def tarred(folder: Path, *entries: tuple[tarfile.TarInfo, bytes]) -> dict[str, object]:
    with tarfile.open(folder / "a.tar.gz", "w:gz") as archive:
        for info, data in entries:
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return {"type": "text", "path": str(folder / "a.tar.gz"), "members": "*"}


def link(name: str, target: str, kind: bytes) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@case
def zip_that_leads_out(folder: Path, _: int) -> Case:
    names = ["../evil.txt", "/etc/evil.txt", "a/../../evil.txt", "..\\evil.txt", "C:\\evil.txt"]
    source = zipped(folder, {name: PROSE.encode() for name in [*names, "good.txt"]})
    return Case(source, {"path out of the archive": 5}, 1)


@case
def zip_that_is_a_bomb(folder: Path, size: int) -> Case:
    files = {"bomb.txt": b" " * (size + 70) * MB, "good.txt": PROSE.encode()}
    return Case(zipped(folder, files), {"compression bomb": 1}, 1)


@case
def zip_in_zip_in_zip(folder: Path, _: int) -> Case:
    inner = folder / "inner"
    inner.mkdir()
    zipped(inner, {"a.txt": PROSE.encode()})
    data = (inner / "a.zip").read_bytes()
    (inner / "a.zip").unlink()
    return Case(zipped(folder, {"a.zip": data, "b.txt": PROSE.encode()}), {"unopened archive": 1}, 1)


@case
def zip_with_a_password(folder: Path, _: int) -> Case:
    source = zipped(folder, {"a.txt": PROSE.encode()})
    return Case(flagged(source, at=6, value=1), {"encrypted": 1})


@case
def zip_with_an_unknown_compression(folder: Path, _: int) -> Case:
    source = zipped(folder, {"a.txt": PROSE.encode()})
    return Case(flagged(source, at=8, value=97), {"unknown compression": 1})


def flagged(source: dict[str, object], at: int, value: int) -> dict[str, object]:
    """Set a field of a zip's local header and of its directory, where it stands two bytes further on."""
    path = Path(str(source["path"]))
    data = bytearray(path.read_bytes())
    data[at] = value
    data[data.index(b"PK\x01\x02") + at + 2] = value
    path.write_bytes(data)
    return source


@case
def zip_cut_off(folder: Path, _: int) -> Case:
    source = zipped(folder, {"a.txt": PROSE.encode() * 50})
    path = Path(str(source["path"]))
    path.write_bytes(path.read_bytes()[:-30])
    return Case(source, {"damaged archive": 1})


@case
def zip_with_a_wrong_checksum(folder: Path, _: int) -> Case:
    source = zipped(folder, {"a.txt": PROSE.encode()})
    return Case(flagged(source, at=14, value=7), {"damaged compression": 1})


@case
def zip_with_a_link(folder: Path, _: int) -> Case:
    info = zipfile.ZipInfo("link.txt")
    info.create_system, info.external_attr = 3, 0o120777 << 16
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        archive.writestr(info, "/etc/passwd")
        archive.writestr("good.txt", PROSE)
    return Case({"type": "text", "path": str(folder / "a.zip"), "members": "*"}, {"link in an archive": 1}, 1)


@case
def tar_that_leads_out(folder: Path, _: int) -> Case:
    entries = [(tarfile.TarInfo(name), PROSE.encode()) for name in ("a/../../evil", "/etc/evil", "../evil", "a/good")]
    return Case(tarred(folder, *entries), {"path out of the archive": 3}, 1)


@case
def tar_of_links_in_a_loop(folder: Path, _: int) -> Case:
    entries = [
        (link("r/a", "b", tarfile.SYMTYPE), b""),
        (link("r/b", "a", tarfile.SYMTYPE), b""),
        (link("r/c", "r/c", tarfile.LNKTYPE), b""),
        (link("r/d", "", tarfile.FIFOTYPE), b""),
        (link("r/e", "", tarfile.CHRTYPE), b""),
        (tarfile.TarInfo("r/good"), PROSE.encode()),
    ]
    return Case(tarred(folder, *entries), {"link in an archive": 5}, 1)


@case
def tar_with_a_name_of_gigabytes(folder: Path, size: int) -> Case:
    info = tarfile.TarInfo("././@LongLink")
    info.type, info.size = tarfile.GNUTYPE_LONGNAME, (size + 200) * MB
    data = gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes((size + 200) * MB), 6)
    path = write(folder, "a.tar.gz", data)
    return Case({"type": "text", "path": path, "members": "*"}, {"compression bomb": 1})


@case
def tar_cut_off(folder: Path, _: int) -> Case:
    source = tarred(
        folder, *((tarfile.TarInfo(f"r/{n}"), random.Random(n).randbytes(30_000).hex().encode()) for n in range(4))
    )
    path = Path(str(source["path"]))
    path.write_bytes(path.read_bytes()[:-40_000])
    return Case(source | {"document_kb": 10_000}, {"damaged compression": 1, "damaged archive": 1}, 2)


@case
def tar_of_nonsense(folder: Path, _: int) -> Case:
    path = write(folder, "a.tar", bytes(range(256)) * 40)
    return Case({"type": "text", "path": path, "members": "*"}, {"damaged archive": 1})


@case
def archive_whose_members_nobody_named(folder: Path, _: int) -> Case:
    source = tarred(folder, (tarfile.TarInfo("r/good"), PROSE.encode()))
    return Case({**source, "members": ""}, {"unopened archive": 1})


@case
def folder_of_links_in_loops(folder: Path, _: int) -> Case:
    home = folder / "house"
    home.mkdir()
    (home / "good.txt").write_text(PROSE)
    for name, target in (("up", ".."), ("self", "."), ("itself", "itself"), ("one", "two"), ("two", "one")):
        (home / name).symlink_to(target)
    os.mkfifo(home / "pipe.txt")
    return Case({"type": "text", "path": f"{folder}/**/*.txt"}, {}, 1)


def repository(folder: Path, files: dict[str, bytes]) -> Path:
    home = folder / "house"
    home.mkdir()
    for name, data in files.items():
        (home / name).parent.mkdir(parents=True, exist_ok=True)
        (home / name).write_bytes(data)
    git(home, "init", "-q")
    git(home, "add", ".")
    git(home, "commit", "-q", "-m", "x")
    return home


def git(home: Path, *words: str) -> str:
    names = ("-c", "user.name=n", "-c", "user.email=e@example.org", "-c", "core.symlinks=true")
    return subprocess.run(["git", "-C", str(home), *names, *words], check=True, capture_output=True, text=True).stdout


@case
def repository_with_a_submodule(folder: Path, _: int) -> Case:
    home = repository(folder, {"a.py": b"print(1)\n"})
    commit = git(home, "rev-parse", "HEAD").strip()
    git(home, "update-index", "--add", "--cacheinfo", f"160000,{commit},vendor/thing")
    git(home, "commit", "-q", "-m", "y")
    return Case({"type": "git", "path": str(home)}, {"submodule": 1}, 1)


@case
def repository_with_lfs(folder: Path, _: int) -> Case:
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 12345\n"
    home = repository(folder, {"a.py": b"print(1)\n", "data.txt": pointer})
    return Case({"type": "git", "path": str(home)}, {"lfs pointer": 1}, 1)


@case
def repository_with_links(folder: Path, _: int) -> Case:
    home = repository(folder, {"a.py": b"print(1)\n"})
    (home / "loop.py").symlink_to("loop.py")
    (home / "secret.txt").symlink_to("/etc/passwd")
    git(home, "add", ".")
    git(home, "commit", "-q", "-m", "y")
    return Case({"type": "git", "path": str(home)}, {"symbolic link": 2}, 1)


@case
def repository_of_odd_files(folder: Path, size: int) -> Case:
    files = {"large.txt": b"x" * (2 * MB), "zeros.py": b"a\0b", "latin.py": b"# caf\xe9", "a\nb.py": b"print(1)\n"}
    home = repository(folder, files)
    return Case(
        {"type": "git", "path": str(home)}, {"too large or missing": 1, "binary": 1, "not utf-8": 1}, documents=1
    )


@case
def repository_that_lost_a_file(folder: Path, _: int) -> Case:
    home = repository(folder, {"a.py": b"print(1)\n", "b.py": b"print(2)\n"})
    blob = git(home, "rev-parse", "HEAD:b.py").strip()
    (home / ".git" / "objects" / blob[:2] / blob[2:]).unlink()
    return Case({"type": "git", "path": str(home)}, {"too large or missing": 1}, 1)


@case
def repositories_of_which_some_are_none(folder: Path, _: int) -> Case:
    home = repository(folder, {"a.py": b"print(1)\n"})
    lost = folder / "lost"
    git(folder, "clone", "-q", str(home), str(lost))
    for path in (lost / ".git" / "objects").rglob("*"):
        if path.is_file():
            path.unlink()
    listed = [str(home), str(lost), str(folder / "nowhere"), f"{home} {'0' * 40}", "https://127.0.0.1:9/x.git"]
    return Case({"type": "repositories", "repositories": listed}, {"repository out of reach": 3}, 1)
