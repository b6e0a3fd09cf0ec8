"""Bad input, as a user meets it: a counted drop, or one clear line with exit 2 or 1; nothing half-written stays."""

import bz2
import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

PROSE = "The river ran past the old mill, and nobody who lived there could say how long it had done so. " * 12
PAGE = "<page><title>{title}</title><ns>0</ns><id>{number}</id><revision><text>{text}</text></revision></page>"
DUMP = '<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{pages}</mediawiki>'


def mantus(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mantus.cli", *words]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, **environment}, timeout=300)


def collect(folder: Path, kind: str, path: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    source = {"type": kind, "path": str(path), "name": "bad", "license": "CC0-1.0"}
    store = (folder / "store").as_uri()
    environment.setdefault("MANTUS_CACHE", str(folder / "cache"))
    return mantus("collect", "--store", store, "--sources", json.dumps([source]), "--json", **environment)


def is_one_line(text: str) -> bool:
    lines = [line for line in text.splitlines() if line.strip()]
    return len(lines) == 1 and lines[0].startswith("mantus: ")


def assert_refused(done: subprocess.CompletedProcess[str], code: int, folder: Path, *named: str) -> None:
    assert done.returncode == code, (done.returncode, done.stderr)
    assert is_one_line(done.stderr), done.stderr
    for part in named:
        assert part in done.stderr
    assert not list((folder / "store").rglob("manifest.json"))


def wikipedia(num_pages: int) -> str:
    pages = (PAGE.format(title=f"River {n}", number=n, text=f"{n}. {PROSE}") for n in range(num_pages))
    return DUMP.format(pages="".join(pages))


def truncated_bz2(path: Path) -> None:
    whole = bz2.compress((wikipedia(400) + os.urandom(200_000).hex()).encode(), compresslevel=1)
    path.write_bytes(whole[: len(whole) * 2 // 3])


def broken_xml(path: Path) -> None:
    path.write_text(wikipedia(20).replace("</mediawiki>", "<page><title>no end"))


def not_utf8(path: Path) -> None:
    rows = [json.dumps({"text": PROSE + str(n)}).encode() for n in range(3)]
    path.write_bytes(b"\n".join([rows[0], b'{"text": "\xff\xfe\xfa"}', rows[1], b"{not json", rows[2]]) + b"\n")


def corrupt_warc(path: Path) -> None:
    body = f"<html><body><main><p>{PROSE}</p></main></body></html>"
    response = f"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    record = (
        "WARC/1.0\r\nWARC-Type: response\r\nWARC-Target-URI: http://example.org/{n}\r\n"
        "WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Record-ID: <urn:uuid:00000000-0000-0000-0000-00000000000{n}>\r\n"
        f"Content-Type: application/http; msgtype=response\r\nContent-Length: {len(response)}\r\n\r\n{response}\r\n\r\n"
    )
    members = [gzip.compress(record.replace("{n}", str(n)).encode()) for n in range(4)]
    members[2] = members[2][:60] + b"\0" * 40 + members[2][100:]
    path.write_bytes(b"".join(members))


@pytest.mark.parametrize(
    ("kind", "name", "make"),
    [
        ("wikipedia", "dump.xml.bz2", truncated_bz2),
        ("wikipedia", "dump.xml", broken_xml),
        ("jsonl", "rows.jsonl", not_utf8),
        ("warc", "crawl.warc.gz", corrupt_warc),
    ],
)
def test_damage_is_counted_and_the_rest_is_kept(tmp_path: Path, kind: str, name: str, make: Callable[[Path], None]):
    make(tmp_path / name)
    done = collect(tmp_path, kind, tmp_path / name)
    assert done.returncode == 0, done.stderr
    stats = json.loads(done.stdout)["stats"]
    assert stats["documents"] >= 1
    assert sum(stats["dropped"].values()) >= 1, stats


def test_an_empty_file_is_named(tmp_path: Path):
    (tmp_path / "empty.jsonl").touch()
    assert_refused(collect(tmp_path, "jsonl", tmp_path / "empty.jsonl"), 2, tmp_path, "sources")


def test_a_missing_path_is_named(tmp_path: Path):
    missing = tmp_path / "missing.jsonl"
    assert_refused(collect(tmp_path, "jsonl", missing), 2, tmp_path, "sources", "missing.jsonl")


def test_a_wrong_field_is_named(tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("clean: {min_wordz: 3}\n")
    done = mantus("run", "--config", str(recipe), "--home", str(tmp_path / "home"))
    assert done.returncode == 2
    assert is_one_line(done.stderr)
    assert "clean.min_wordz" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_full_disk_is_one_line(tmp_path: Path):
    """A small file system of its own, filled by the artifact."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        rows = "".join(json.dumps({"text": os.urandom(3000).hex()}) + "\n" for _ in range(400))
        (tmp_path / "rows.jsonl").write_text(rows)
        source = {"type": "jsonl", "path": str(tmp_path / "rows.jsonl"), "name": "big", "license": "CC0-1.0"}
        words = ("collect", "--store", (disk / "store").as_uri(), "--sources", json.dumps([source]))
        done = mantus(*words, MANTUS_CACHE=str(tmp_path / "cache"))
        assert done.returncode == 1, done.stderr
        assert is_one_line(done.stderr), done.stderr
        assert "No space left" in done.stderr
        assert not list(disk.rglob("manifest.json"))
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_store_that_is_gone_is_one_line(tmp_path: Path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"text": PROSE}) + "\n")
    source = {"type": "jsonl", "path": str(rows), "name": "rows", "license": "CC0-1.0"}
    environment = {
        "AWS_ENDPOINT_URL": "http://127.0.0.1:9",
        "AWS_ACCESS_KEY_ID": "nobody",
        "AWS_SECRET_ACCESS_KEY": "nothing",
        "MANTUS_CACHE": str(tmp_path / "cache"),
    }
    done = mantus("collect", "--store", "s3://gone", "--sources", json.dumps([source]), **environment)
    assert done.returncode == 1
    assert is_one_line(done.stderr), done.stderr
    assert "127.0.0.1:9" in done.stderr
