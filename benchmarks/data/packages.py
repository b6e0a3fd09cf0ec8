"""Text of Debian's documentation packages and of the installed Python packages, as it comes.

It knows packages and their files, not what a corpus is made of them for. Licences: each package's own, in its
`copyright` file; nothing of them is kept outside the folder that is given.
"""

import gzip
import hashlib
import re
import subprocess
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

PACKAGES = {
    "linux-doc-6.1": 42,
    "perl-doc": 24,
    "openjdk-17-doc": 20,
    "libstdc++-12-doc": 16,
    "dict-wn": 14,
    "dict-gcide": 18,
    "anarchism": 16,
    "vim-doc": 13,
    "python3.11-doc": 14,
    "rust-doc": 16,
    "postgresql-doc-15": 12,
    "dict-foldoc": 7,
    "sqlite3-doc": 8,
    "freebsd-manpages": 9,
    "python-pandas-doc": 9,
    "python-scipy-doc": 9,
    "python-django-doc": 8,
    "manpages-dev": 8,
    "libreoffice-help-en-us": 6,
    "git-doc": 6,
    "maxima-doc": 5,
    "fortunes": 4,
    "apache2-doc": 5,
    "cmake-doc": 6,
    "octave-doc": 5,
    "manpages": 4,
    "r-doc-html": 4,
    "zsh-doc": 4,
    "dict-jargon": 3,
}
"""Packages of Debian 12's main section, and the MB of text that are read from each, before any is dropped."""
QUICK = {"git-doc": 4, "manpages-dev": 3, "r-doc-html": 1, "fortunes": 1}
CODE = "python-packages"
"""What the sources of installed Python packages are called."""
CODE_MB, QUICK_CODE_MB = 55, 2

MIN_TEXT, MAX_TEXT = 200, 64_000
"""Characters of a document; longer texts are cut."""
CUT = 8_000
"""Characters of a piece of a longer text, about; it ends with a line."""
PAGES = (".html", ".htm")
PLAIN = (".txt", ".rst", ".pod", ".md", ".text")
MANUAL = re.compile(r"/man/(?:[a-z]{2}/)?man\d/")
MAX_FILE = 40 << 20


def download(names: Iterable[str], folder: Path) -> dict[str, Path]:
    """Each package's .deb in `folder`, fetched where it is missing. RuntimeError names those that cannot be had."""
    folder.mkdir(parents=True, exist_ok=True)
    found = {name: next(iter(sorted(folder.glob(f"{name}_*.deb"))), None) for name in names}
    if missing := [name for name, path in found.items() if path is None]:
        try:
            done = subprocess.run(["apt-get", "download", *missing], cwd=folder, capture_output=True, text=True)
        except FileNotFoundError:
            raise RuntimeError("apt-get: not found; this benchmark reads packages of Debian 12") from None
        if done.returncode:
            raise RuntimeError(f"apt-get download: {done.stderr.strip().splitlines()[0]}; try `apt-get update`")
    return {name: sorted(folder.glob(f"{name}_*.deb"))[0] for name in found}


def unpack(deb: Path, folder: Path) -> Path:
    """The folder with a package's files; unpacked where it is missing."""
    out = folder / deb.stem
    if not out.is_dir():
        folder.mkdir(parents=True, exist_ok=True)  # dpkg-deb makes one folder only
        temporary = out.with_name(out.name + ".part")
        subprocess.run(["dpkg-deb", "-x", deb, temporary], check=True)
        temporary.replace(out)
    return out


def hashed(paths: Iterable[str]) -> list[str]:
    """Paths in the order of their hashes: the same on every machine, and a sample wherever it is cut off."""
    return sorted(paths, key=lambda path: hashlib.blake2b(path.encode()).digest())


def files(folder: Path) -> list[str]:
    """The package's files that may have text, as paths within it, in the order of their hashes."""
    found = (path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return hashed(path.relative_to(folder).as_posix() for path in found if path.stat().st_size < MAX_FILE)


def texts(folder: Path, megabytes: float) -> Iterator[tuple[str, str]]:
    """(path within the package, text) of documents, until there are so many MB."""
    size = 0
    for name in files(folder):
        for number, text in enumerate(pieces(text_of(folder / name, f"/{name}"))):
            size += len(text)
            yield f"{name}#{number}" if number else name, text
            if size >= megabytes * 1e6:
                return


def text_of(path: Path, name: str) -> str:
    """The text of a file, '' where it has none.  name: its path once installed."""
    if "/_sources/" in name or name.endswith(("/copyright", "/changelog.gz", "/changelog.Debian.gz")):
        return ""  # what the pages were made of; what every package has
    if name.endswith(PAGES):
        return page_text(path.read_bytes())
    if name.endswith(".dz"):
        return gzip.decompress(path.read_bytes()).decode("utf-8", "replace")
    bare = name.removesuffix(".gz")
    if MANUAL.search(bare):
        return manual_text(plain(path))
    if "/games/fortunes/" in name and "." not in Path(name).name:
        return plain(path).replace("\n%\n", "\n\n")
    return plain(path) if bare.endswith(PLAIN) else ""


def plain(path: Path) -> str:
    data = path.read_bytes()
    return (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8", "replace")


def page_text(html: bytes) -> str:
    """The text of a page's main content."""
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    text: str = extract_plain_text(bytes_to_str(html, detect_encoding(html) or "utf-8"), main_content=True)
    return text


def manual_text(source: str) -> str:
    """A manual page without its troff: requests and font changes out, their arguments kept."""
    lines = []
    for line in source.splitlines():
        if line.startswith(('.\\"', "'\\\"", ".so ", ".TH ", ".de ", ".if ", ".ie ", ".el ", ".nr ", ".ds ")):
            continue
        line = re.sub(r"^[.'][A-Za-z]{1,3}\b ?", "", line)
        line = re.sub(r"\\f(?:\[[^\]]*\]|\([A-Z]{2}|.)", "", line)
        lines.append(re.sub(r"\\[-&e/|^,:%]|\\\(..|\\\[[^\]]*\]", lambda found: {"\\-": "-"}.get(found[0], ""), line))
    return "\n".join(lines)


def pieces(text: str) -> Iterator[str]:
    """The text, in pieces of about CUT characters where it is longer than MAX_TEXT; too short ones left out."""
    text = text.replace("\x00", "").strip()
    if len(text) <= MAX_TEXT:
        if len(text) >= MIN_TEXT:
            yield text
        return
    start = 0
    while start < len(text):
        end = text.find("\n", start + CUT)
        piece = text[start : end if end > 0 else len(text)].strip()
        if MIN_TEXT <= len(piece) <= MAX_TEXT:
            yield piece
        start = end if end > 0 else len(text)


def code(megabytes: float) -> Iterator[tuple[str, str]]:
    """(path, text) of the sources of installed Python packages, until there are so many MB."""
    found = {}
    for package in metadata.distributions():
        for entry in package.files or ():
            if entry.suffix == ".py" and ".." not in entry.parts:
                found[entry.as_posix()] = Path(str(entry.locate()))
    size = 0
    for name in hashed(found):
        if not found[name].is_file():
            continue
        for number, text in enumerate(pieces(plain(found[name]))):
            size += len(text)
            yield f"{name}#{number}" if number else name, text
            if size >= megabytes * 1e6:
                return


def licences(debs: dict[str, Path], unpacked: dict[str, Path]) -> dict[str, dict[str, str]]:
    """For each package its file and where its licence is written."""
    found = {}
    for name, deb in debs.items():
        path = unpacked[name] / "usr" / "share" / "doc" / name / "copyright"
        found[name] = {"file": deb.name, "licence": path.as_posix() if path.is_file() else "that of its source package"}
    return {**found, CODE: {"file": "", "licence": "each package's own; see its METADATA"}}
