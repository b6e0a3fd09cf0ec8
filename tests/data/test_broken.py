"""Every broken input is dropped or read with the reasons that its maker names: no crash, no hang, bounded memory."""

import bz2
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mantus.data.collect import Piece, Tally, read_piece
from mantus.data.sources.read import read_file
from mantus.data.sources.resolve import resolve
from mantus.data.sources.source import File, Manners, Source
from tests.data.broken import CASES
from tests.data.broken.crawls import page, record
from tests.data.broken.dumps import article, dumped
from tests.data.broken.rows import line

QUICK = Manners(requests_per_s=1000, attempts=1, backoff_s=0.01, timeout_s=5)
MAX_PEAK_MB = 800
"""Memory of a process that reads any of them, libraries included (about 150 MB)."""
MAX_SECONDS = 120


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))


def read(values: dict[str, object], out: Path) -> Tally:
    source = Source(name="broken", **values)  # type: ignore[arg-type]
    files = resolve(source, "sources[0]", QUICK).fetch()
    return read_piece(Piece(0, source, tuple(files)), out)


def test_there_are_enough_of_them():
    assert len(CASES) >= 40


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", CASES)
def test_each_has_its_reasons(name: str, tmp_path: Path):
    (tmp_path / "in").mkdir()
    case = CASES[name](tmp_path / "in", 50)
    tally = read(case.source, tmp_path / "out")
    assert (tally.dropped, tally.documents) == (case.drops, case.documents)
    assert not (tmp_path / "evil.txt").exists()


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", CASES)
def test_each_has_its_bounds_at_500_mb(name: str, tmp_path: Path):
    (tmp_path / "in").mkdir()
    case = CASES[name](tmp_path / "in", 500)
    program = (
        "import json, pathlib, sys; from tests.data.test_broken import read; "
        "tally = read(json.loads(sys.argv[1]), pathlib.Path(sys.argv[2])); "
        "peak = pathlib.Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0]; "
        "print(json.dumps([tally.dropped, tally.documents, int(peak) // 1024]))"
    )
    begun = time.monotonic()
    command = [sys.executable, "-c", program, json.dumps(case.source), str(tmp_path / "out")]
    done = subprocess.run(command, stdout=subprocess.PIPE, check=True, preexec_fn=no_more_than(8))
    seconds = time.monotonic() - begun
    dropped, documents, peak_mb = json.loads(done.stdout)
    print(f"{name}: {peak_mb} MB, {seconds:.1f} s")
    assert (dropped, documents) == (case.drops, case.documents)
    assert peak_mb < MAX_PEAK_MB
    assert seconds < MAX_SECONDS


def no_more_than(gigabytes: int):
    """A limit for the child, so that a trap that is not seen does not take the machine."""
    return lambda: resource.setrlimit(resource.RLIMIT_AS, (gigabytes << 30, gigabytes << 30))


GOOD = {
    "warc": record(1, page(1)) + record(2, page(2, b"5\r\nhello\r\n0\r\n\r\n", "Transfer-Encoding: chunked\r\n")),
    "wikipedia": dumped(article(1, "{{a|b}} [[c]] {| d |} <ref>e</ref> '''f'''"), article(2)),
    "jsonl": line() + line("two", url="u", lang="en"),
}


@settings(max_examples=150, deadline=None)
@given(st.sampled_from(sorted(GOOD)), st.data())
def test_no_damage_crashes_a_reader(tmp_path_factory, kind: str, data: st.DataObject):
    whole = bytearray(GOOD[kind])
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(whole) - 1))
        stop = data.draw(st.integers(at, min(len(whole), at + 40)))
        whole[at:stop] = data.draw(st.binary(max_size=12))
        whole += b"\n" * (not whole)
    path = tmp_path_factory.mktemp("fuzz") / "file"
    path.write_bytes(whole)
    assert list(read_file(File(path, "file"), Source(type=kind)))  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(["warc", "wikipedia", "jsonl", "text", "parquet"]), st.binary(max_size=300), st.booleans())
@example("warc", bz2.compress(b"WARC/a"), False)
def test_no_nonsense_crashes_a_reader(tmp_path_factory, kind: str, data: bytes, inside: bool):
    path = tmp_path_factory.mktemp("fuzz") / "file"
    path.write_bytes(data)
    try:
        assert list(read_file(File(path, "file", "*" if inside else ""), Source(type=kind)))  # type: ignore[arg-type]
    except ValueError as error:
        assert "no member matches" in str(error)  # noqa: PT017
