"""Collecting from local files, a web server, git, installed packages and PyPI files, through the phase itself."""

import gzip
import http.server
import io
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from mantus.data.collect import CollectConfig, run
from mantus.data.corpus import document_id, read_rows
from mantus.data.sources.programs import detect_license
from mantus.processes import start_child, stop_child
from mantus.serving.local import free_port
from mantus.storage import Manifest, open_store
from mantus.storage.server import EmbeddedS3
from tests.waiting import wait_for

PROSE = "The river ran past the old mill, and nobody who lived there could say how long it had done so. "


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def collect(tmp_path: Path, *sources: dict[str, object], **fields: object) -> Manifest:
    store = (tmp_path / str(fields.pop("store", "store"))).as_uri()
    values = {"sources": list(sources), "store": store, **fields}
    return run(CollectConfig.parse(values, "collect"))  # type: ignore[arg-type]


def folder_of(manifest: Manifest) -> Path:
    return Path(manifest.uri.removeprefix("file://"))


def rows_of(manifest: Manifest) -> list[dict[str, str]]:
    return list(read_rows(folder_of(manifest)))


def write_rows(path: Path, num: int, start: int = 0) -> dict[str, object]:
    lines = (json.dumps({"text": f"{n} {PROSE}", "id": n}) for n in range(start, start + num))
    path.write_text("\n".join(lines))
    return {"type": "jsonl", "path": str(path), "name": path.stem, "license": "CC0-1.0"}


def test_columns_ids_and_ledger(tmp_path: Path):
    made = collect(tmp_path, write_rows(tmp_path / "a.jsonl", 3), write_rows(tmp_path / "b.jsonl", 2, 3))
    rows = rows_of(made)
    assert [row["source"] for row in rows] == ["a"] * 3 + ["b"] * 2
    assert all(row["id"] == document_id(row["text"]) for row in rows)
    assert set(rows[0]) == {"id", "text", "source", "url", "license", "lang", "added", "form"}
    assert made.stats["documents"] == 5
    assert made.stats["bytes"] == sum(len(row["text"]) for row in rows)
    ledger = json.loads((folder_of(made) / "licenses.json").read_text())["sources"]
    assert ledger[0]["licenses"] == {"CC0-1.0": {"documents": 3, "bytes": made.stats["sources"]["a"]["bytes"]}}
    assert len(ledger[0]["key"]) == 32


def test_the_same_bytes_whatever_the_number_of_workers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("mantus.data.collect.PIECE_BYTES", 2000)
    for number in range(12):
        write_rows(tmp_path / f"{number:02d}.jsonl", 30, number * 30)
    source = {"type": "jsonl", "path": str(tmp_path / "*.jsonl"), "name": "rows"}
    one = collect(tmp_path, source, workers=1, store="one")
    many = collect(tmp_path, source, workers=3, store="many")
    assert one.key == many.key
    assert one.files == many.files
    assert one.stats == many.stats
    assert one.stats["documents"] == 360


def test_the_second_run_finds_it_and_a_changed_file_does_not(tmp_path: Path):
    source = write_rows(tmp_path / "a.jsonl", 3)
    first = collect(tmp_path, source)
    assert collect(tmp_path, source).cached
    write_rows(tmp_path / "a.jsonl", 4)
    second = collect(tmp_path, source)
    assert not second.cached
    assert second.key != first.key


def test_a_cap_stops_in_the_middle(tmp_path: Path):
    source = write_rows(tmp_path / "a.jsonl", 1000) | {"max_mb": 0.01}
    made = collect(tmp_path, source)
    assert 10_000 <= made.stats["bytes"] < 10_200


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"type": "jsonl", "path": "/nowhere/x.jsonl"}, r"sources\[0\]\.path: /nowhere/x.jsonl: no such file"),
        ({"type": "text", "path": "/nowhere/*.txt"}, r"sources\[0\]\.path: /nowhere/\*\.txt"),
        ({"type": "text"}, r"sources\[0\]\.path: missing"),
        ({"type": "git", "path": "/nowhere"}, r"sources\[0\]\.path: /nowhere: .*No such file"),
        ({"type": "code"}, r"sources\[0\]\.packages: missing"),
        ({"type": "code", "packages": ["no-such-thing"]}, r"sources\[0\]\.packages: 'no-such-thing' is not installed"),
        ({"type": "text", "path": "pypi:x/y"}, r"sources\[0\]\.path: pypi:x/y: expected pypi:<name>==<version>"),
        ({"type": "pdf", "path": "x"}, r"collect\.sources\.0\.type: .*'pdf'"),
        ({"type": "text", "path": "x", "colour": "red"}, r"collect\.sources\.0\.colour: .*'red'"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, source: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        collect(tmp_path, source)
    assert not list(tmp_path.rglob("manifest.json"))


def test_no_source_and_a_source_without_documents(tmp_path: Path):
    with pytest.raises(ValueError, match="sources: empty"):
        collect(tmp_path)
    good = write_rows(tmp_path / "good.jsonl", 2)
    (tmp_path / "bad.jsonl").write_text("{\nnonsense\n")
    bad = {"type": "jsonl", "path": str(tmp_path / "bad.jsonl")}
    with pytest.raises(ValueError, match=r"sources\[1\] \(bad\.jsonl\): gave no documents: not json \(2\)"):
        collect(tmp_path, good, bad)


def test_a_repository(tmp_path: Path):
    repository = tmp_path / "house"
    repository.mkdir()
    license_text = "Apache License\n                           Version 2.0, January 2004\n"
    files = {"LICENSE": license_text, "a.py": "print('hello')\n" * 5, "docs/b.md": PROSE, "image.png": "\0", "e.py": ""}
    for name, text in files.items():
        (repository / name).parent.mkdir(exist_ok=True)
        (repository / name).write_text(text)
    (repository / "latin.py").write_bytes(b"# caf\xe9\n")
    git = ["git", "-C", str(repository), "-c", "user.name=n", "-c", "user.email=e@example.com"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    (repository / "untracked.py").write_text("x = 1\n")
    made = collect(tmp_path, {"type": "git", "path": str(repository)})
    rows = sorted(rows_of(made), key=lambda row: row["url"])
    assert [(r["url"].rpartition("@")[2][13:], r["form"], r["lang"], r["license"]) for r in rows] == [
        ("a.py", "code", "py", "Apache-2.0"),
        ("docs/b.md", "prose", "", "Apache-2.0"),
    ]
    assert rows[0]["url"].startswith("git:house@")
    assert made.stats["dropped"] == {"empty file": 1, "not utf-8": 1}


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[str]:
    """git's own server over `tmp_path`: its address."""
    port = free_port()
    words = ["--export-all", f"--base-path={tmp_path}", "--listen=127.0.0.1", f"--port={port}", "--reuseaddr"]
    process = start_child(
        [str(shutil.which("git")), "daemon", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        assert wait_for(lambda: socket.socket().connect_ex(("127.0.0.1", port)) == 0, 10)
        yield f"git://127.0.0.1:{port}"
    finally:
        stop_child(process)


def test_git_reads_the_revision_that_is_asked_for(tmp_path: Path, daemon: str):
    repository = tmp_path / "house"
    git = ["git", "-C", str(repository), "-c", "user.name=n", "-c", "user.email=e@example.com"]
    subprocess.run(["git", "init", "-q", str(repository)], check=True)
    for text in ("old words", "new words"):
        (repository / "a.md").write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", text], check=True)
    subprocess.run([*git, "tag", "first", "HEAD~1"], check=True)
    subprocess.run([*git, "tag", "-m", "with words of its own", "annotated", "HEAD~1"], check=True)
    for path in (str(repository), f"{daemon}/house"):
        for rev, text in (("first", "old words"), ("annotated", "old words"), ("", "new words")):
            made = collect(tmp_path, {"type": "git", "path": path, "rev": rev})
            assert [row["text"] for row in rows_of(made)] == [text]
    with pytest.raises(ValueError, match=r"sources\[0\]\.rev: .*house has no none; fetch it"):
        collect(tmp_path, {"type": "git", "path": str(repository), "rev": "none"})


def test_licences_are_told_by_their_texts():
    assert detect_license("Permission is hereby granted, free of charge, to any person obtaining a copy") == "MIT"
    assert detect_license("All rights reserved.") == ""


def test_sources_of_installed_packages(tmp_path: Path):
    made = collect(tmp_path, {"type": "code", "packages": ["jinja2", "httpx"], "max_mb": 0.3})
    rows = rows_of(made)
    assert {row["url"].split("==")[0] for row in rows} == {"pypi:jinja2", "pypi:httpx"}
    assert {row["license"] for row in rows} == {"BSD-3-Clause"}
    assert {row["form"] for row in rows} == {"code"}


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes packages from, with an sdist and a wheel of `books` 1.0; no other index."""
    folder = tmp_path / "index"
    folder.mkdir()
    metadata = "Metadata-Version: 2.1\nName: books\nVersion: 1.0\n"
    files = {
        "PKG-INFO": metadata,
        "setup.py": "from setuptools import setup\nsetup(name='books', version='1.0')\n",
        "texts/a.txt": PROSE,
    }
    with tarfile.open(folder / "books-1.0.tar.gz", "w:gz") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"books-1.0/{name}")
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    with zipfile.ZipFile(folder / "books-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("books/b.txt", PROSE * 2)
        wheel.writestr("books-1.0.dist-info/METADATA", metadata)
        wheel.writestr("books-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("books-1.0.dist-info/RECORD", "")
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


@pytest.mark.parametrize(("kind", "members", "num"), [("sdist", "texts/*.txt", 1), ("wheel", "books/*", 2)])
def test_a_file_of_a_release_is_fetched_once(tmp_path: Path, index: Path, kind: str, members: str, num: int):
    source = {"type": "text", "path": f"pypi:books==1.0/{members}", "kind": kind, "license": "CC0-1.0"}
    made = collect(tmp_path, source)
    assert [row["text"] for row in rows_of(made)] == [PROSE * num]
    entry = json.loads((folder_of(made) / "licenses.json").read_text())["sources"][0]
    assert entry["name"] == "books"
    assert len(entry["sha256"]) == 64
    for file in index.iterdir():
        file.unlink()
    again = collect(tmp_path, source | {"name": "other"})
    assert not again.cached
    assert rows_of(again)[0]["source"] == "other"


def test_a_release_that_is_not_there_or_another(tmp_path: Path, index: Path):
    with pytest.raises(ValueError, match=r"sources\[0\]\.path: pypi:books==2.0/\*: no sdist"):
        collect(tmp_path, {"type": "text", "path": "pypi:books==2.0/*"})
    with pytest.raises(ValueError, match=r"sources\[0\]\.sha256: books==1.0 has another digest"):
        collect(tmp_path, {"type": "text", "path": "pypi:books==1.0/*", "sha256": "0" * 64})
    with pytest.raises(ValueError, match=r"sources\[0\]\.path: .*no member matches"):
        collect(tmp_path, {"type": "text", "path": "pypi:books==1.0/nothing"})


@pytest.fixture
def web(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A web server on loopback: its address, its folder, the requests it saw."""
    folder, seen = tmp_path / "web", []
    folder.mkdir()

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments: object) -> None:
            super().__init__(*arguments, directory=str(folder))  # type: ignore[arg-type]

        def log_request(self, *_: object) -> None:
            seen.append(self.path)

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}", folder, seen
        server.shutdown()


def test_http(tmp_path: Path, web: tuple[str, Path, list[str]]):
    address, folder, seen = web
    (folder / "rows.jsonl.gz").write_bytes(gzip.compress(json.dumps({"text": PROSE}).encode()))
    source = {"type": "jsonl", "path": f"{address}/rows.jsonl.gz"}
    made = collect(tmp_path, source)
    assert rows_of(made)[0]["url"] == f"{address}/rows.jsonl.gz#1"
    assert len(seen) == 2
    assert collect(tmp_path, source).cached
    assert len(seen) == 3
    with pytest.raises(ValueError, match=r"sources\[0\]\.path: .*answers 404"):
        collect(tmp_path, {"type": "jsonl", "path": f"{address}/other"})
    with pytest.raises(OSError, match=r"sources\[0\]\.path: .*no answer"):
        collect(tmp_path, {"type": "jsonl", "path": "http://127.0.0.1:9/x"}, attempts=1)


def test_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with EmbeddedS3(tmp_path / "s3") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        store = open_store("s3://mantus")
        for name in ("in/a.jsonl", "in/b.jsonl", "in/c.txt"):
            store.put(name, json.dumps({"text": f"{name} {PROSE}"}).encode())
        made = collect(tmp_path, {"type": "jsonl", "path": "s3://mantus/in/*.jsonl"})
        assert [row["url"] for row in rows_of(made)] == ["s3://mantus/in/a.jsonl#1", "s3://mantus/in/b.jsonl#1"]
        assert collect(tmp_path, {"type": "jsonl", "path": "s3://mantus/in/*.jsonl"}).cached
        store.put("in/b.jsonl", json.dumps({"text": "other"}).encode())
        assert not collect(tmp_path, {"type": "jsonl", "path": "s3://mantus/in/*.jsonl"}).cached
        with pytest.raises(ValueError, match=r"sources\[0\]\.path: s3://mantus/none: no object"):
            collect(tmp_path, {"type": "jsonl", "path": "s3://mantus/none"})
    with pytest.raises(OSError, match=r"s3://mantus/in/a\.jsonl: cannot be listed"):
        collect(tmp_path, {"type": "jsonl", "path": "s3://mantus/in/a.jsonl"})


def test_killed_and_run_again_the_bytes_are_the_same(tmp_path: Path, cache: Path):
    source = write_rows(tmp_path / "a.jsonl", 60_000)
    whole = collect(tmp_path, source, store="whole")
    config = json.dumps({"sources": [source], "store": (tmp_path / "store").as_uri()})
    program = f"from mantus.data.collect import *; run(CollectConfig.parse({config}, ''))"
    child = subprocess.Popen([sys.executable, "-c", program], start_new_session=True)
    while not list((cache / "work").rglob("piece-00000")) and child.poll() is None:
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.wait()
    deadline = time.monotonic() + 10
    while _members(child.pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _members(child.pid), "workers outlive their parent"
    assert not list((tmp_path / "store").rglob("manifest.json"))
    again = collect(tmp_path, source)
    assert again.files == whole.files


def _members(session: int) -> list[int]:
    import psutil

    return [p.pid for p in psutil.process_iter() if _session(p.pid) == session and p.status() != psutil.STATUS_ZOMBIE]


def _session(pid: int) -> int:
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return 0
