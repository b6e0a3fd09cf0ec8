"""SHA256SUMS: digests of every file of a folder, in the form that `sha256sum -c` reads, written once, checked on load.

It knows files, not what they are.
"""

from pathlib import Path

from mantus.storage.artifact import digest_file

SUMS = "SHA256SUMS"


def write_sums(folder: Path) -> str:
    """Write the digests of all files beneath `folder` to its SHA256SUMS; returns the digest of that file."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file() and path != folder / SUMS)
    lines = [f"{digest_file(path)}  {path.relative_to(folder).as_posix()}\n" for path in paths]
    (folder / SUMS).write_text("".join(lines), encoding="utf-8")
    return digest_file(folder / SUMS)


def check_sums(folder: Path) -> None:
    """Compare all files with SHA256SUMS where there is one. ValueError names the first that is damaged or missing."""
    sums = folder / SUMS
    if not sums.is_file():
        return
    for line in sums.read_text(encoding="utf-8", errors="replace").splitlines():
        digest, _, name = line.partition("  ")
        path = folder / name
        if not name or ".." in Path(name).parts or Path(name).is_absolute():
            raise ValueError(f"{sums}: damaged; fetch or make the release again")
        if not path.is_file():
            raise ValueError(f"{path}: missing; fetch or make the release again")
        if digest_file(path) != digest:
            raise ValueError(f"{path}: damaged, its digest is not that in {SUMS}; fetch or make the release again")
