"""The HTTP client against a real server that drops, truncates, throttles, lies and asks to wait."""

import base64
import hashlib
import os
import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mantus.data.sources import http
from mantus.data.sources.source import Manners, Remote
from tests.data.flaky import Fault, Site, serving

BODY = random.Random(5).randbytes(200_000)
QUICK = Manners(requests_per_s=1000, attempts=4, backoff_s=0.01, max_wait_s=2, timeout_s=5)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as made:
        made.files["/file"] = BODY
        yield made


def bring(site: Site, folder: Path, size: int = 0, **fields: object) -> bytes:
    target = folder / "got"
    http.download(Remote(f"{site.url}/file", manners=fields.pop("manners", QUICK), **fields), target, size)  # type: ignore[arg-type]
    assert not list(folder.glob("got.*")), "nothing but the file is left"
    return target.read_bytes()


def test_a_dropped_transfer_is_gone_on_from(site: Site, tmp_path: Path):
    site.faults["/file"] = [Fault(drop_at=50_000), Fault(drop_at=30_000)]
    assert bring(site, tmp_path) == BODY
    ranges = [seen.headers.get("Range") for seen in site.gets("/file")]
    assert ranges[0] is None
    assert all(int(text.removeprefix("bytes=").rstrip("-")) > 0 for text in ranges[1:])
    assert all(seen.headers.get("If-Range") for seen in site.gets("/file")[1:])


def test_what_a_killed_run_left_is_gone_on_from(site: Site, tmp_path: Path):
    site.faults["/file"] = [Fault(drop_at=30_000) for _ in range(4)]
    with pytest.raises(OSError, match=r"/file: given up after 4 attempts, the last: .* bytes; run again later"):
        bring(site, tmp_path)
    had = (tmp_path / "got.part").stat().st_size
    assert had >= 120_000
    assert bring(site, tmp_path) == BODY
    assert site.gets("/file")[-1].headers["Range"] == f"bytes={had}-"


def test_a_large_transfer_may_break_more_often_than_attempts_allow(site: Site, tmp_path: Path):
    site.files["/file"] = BODY * 50
    site.faults["/file"] = [Fault(drop_at=1_200_000) for _ in range(7)]
    assert bring(site, tmp_path) == BODY * 50


def test_a_file_that_changes_midway_begins_anew(site: Site, tmp_path: Path):
    other = BODY[::-1]
    site.faults["/file"] = [Fault(drop_at=50_000), Fault(swap=other)]
    assert bring(site, tmp_path) == other


def test_a_file_that_is_another_than_was_looked_up_is_refused(site: Site, tmp_path: Path):
    etag = http.facts_of(f"{site.url}/file", QUICK).etag
    assert bring(site, tmp_path, etag=etag) == BODY
    site.files["/file"] = BODY[::-1]
    with pytest.raises(OSError, match="has changed since it was looked up; run again"):
        bring(site, tmp_path, etag=etag)


@pytest.mark.parametrize(
    "fault",
    [Fault(ignore_range=True), Fault(shift=7), Fault(status=416), Fault(headers={"ETag": '"other"'})],
    ids=["ignores ranges", "another range", "416", "another etag"],
)
def test_a_server_that_gets_ranges_wrong_costs_a_new_beginning(site: Site, tmp_path: Path, fault: Fault):
    site.faults["/file"] = [Fault(drop_at=50_000), fault]
    assert bring(site, tmp_path) == BODY


def test_without_a_validator_nothing_is_joined(site: Site, tmp_path: Path):
    site.etags = False
    site.faults["/file"] = [Fault(drop_at=50_000)]
    assert bring(site, tmp_path) == BODY
    assert all("Range" not in seen.headers for seen in site.gets("/file"))


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_asked_again(site: Site, tmp_path: Path, status: int):
    site.faults["/file"] = [Fault(status=status), Fault(status=status)]
    manners = replace(QUICK, backoff_s=0.1)
    assert bring(site, tmp_path, manners=manners) == BODY
    first, second, third = (seen.at for seen in site.gets("/file"))
    assert second - first >= http.backoff(f"{site.url}/file", manners, 1)
    assert third - second >= http.backoff(f"{site.url}/file", manners, 2)


def test_waits_grow_and_differ_from_file_to_file():
    manners = replace(QUICK, backoff_s=0.1)
    for failed in range(1, 6):
        waits = {http.backoff(f"http://host/{number}", manners, failed) for number in range(100)}
        most = 0.1 * 2 ** (failed - 1)
        assert 0.75 * most <= min(waits) < 0.8 * most
        assert 0.95 * most < max(waits) < most


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_honoured(site: Site, tmp_path: Path, status: int):
    site.faults["/file"] = [Fault(status=status, retry_after="1")]
    assert bring(site, tmp_path) == BODY
    first, second = (seen.at for seen in site.gets("/file"))
    assert second - first >= 0.95


def test_retry_after_may_be_a_date(site: Site, tmp_path: Path):
    site.faults["/file"] = [Fault(status=503, retry_after="Wed, 21 Oct 2015 07:28:00 GMT")]
    assert bring(site, tmp_path) == BODY


def test_a_server_that_asks_for_too_long_a_wait_is_left(site: Site, tmp_path: Path):
    site.faults["/file"] = [Fault(status=503, retry_after="4000")]
    with pytest.raises(OSError, match=r"/file: the server asks to wait 4000 s; run again then"):
        bring(site, tmp_path)
    assert len(site.gets("/file")) == 1


def test_other_processes_keep_away_too(site: Site, tmp_path: Path):
    site.faults["/file"] = [Fault(status=503, retry_after="1")]
    with pytest.raises(OSError, match="given up after 1 attempts, the last: the server answers 503"):
        bring(site, tmp_path, manners=replace(QUICK, attempts=1))
    if os.fork() == 0:
        try:
            http.get(f"{site.url}/file", QUICK)
        finally:
            os._exit(0)
    os.wait()
    first, second = (seen.at for seen in site.gets("/file"))
    assert second - first >= 0.95


def test_requests_to_a_host_are_paced(site: Site):
    manners = replace(QUICK, requests_per_s=20)
    for _ in range(5):
        assert http.get(f"{site.url}/file", manners) == BODY
    times = [seen.at for seen in site.gets("/file")]
    assert times[-1] - times[0] > 0.14


def test_requests_say_who_sends_them(site: Site):
    http.get(f"{site.url}/file", QUICK)
    http.get(f"{site.url}/file", replace(QUICK, user_agent="corpus of N. N., n@example.org"))
    agents = [seen.headers["User-Agent"] for seen in site.seen]
    assert agents[0].startswith("mantus/")
    assert agents[1] == "corpus of N. N., n@example.org"


def test_throttled_to_a_trickle(site: Site, tmp_path: Path):
    site.files["/file"] = BODY[:600]
    site.faults["/file"] = [Fault(stall_s=0.05)]
    assert bring(site, tmp_path, manners=replace(QUICK, timeout_s=0.3)) == BODY[:600]
    assert len(site.gets("/file")) >= 2, "a transfer that crawls is a lost one"


def test_a_silent_server_is_given_up(site: Site, tmp_path: Path):
    site.faults["/file"] = [Fault(stall_s=2) for _ in range(2)]
    with pytest.raises(OSError, match=r"given up after 2 attempts, the last: ReadTimeout"):
        bring(site, tmp_path, manners=replace(QUICK, timeout_s=0.5, attempts=2))


def test_a_length_that_lies_is_seen_by_the_size_that_is_known(site: Site, tmp_path: Path):
    site.faults["/file"] = [Fault(announce=1000, drop_at=1000, headers={"ETag": 'W/"weak"'})]
    assert bring(site, tmp_path, size=len(BODY)) == BODY


def test_a_length_that_nobody_gives(site: Site, tmp_path: Path):
    site.faults["/file"] = [Fault(no_body_length=True)]
    assert bring(site, tmp_path) == BODY


def test_a_digest_is_checked(site: Site, tmp_path: Path):
    digest = hashlib.sha256(BODY).hexdigest()
    site.faults["/file"] = [Fault(garble=True)]
    assert bring(site, tmp_path, sha256=digest) == BODY
    with pytest.raises(ValueError, match=r"/file: has the sha256 [0-9a-f]{64}, not 0+, twice; give the digest"):
        bring(site, tmp_path, sha256="0" * 64)
    assert not (tmp_path / "got.part").exists()


@pytest.mark.parametrize("name", ["Repr-Digest", "Content-MD5", "ETag"])
def test_digests_that_a_server_gives_are_checked(site: Site, tmp_path: Path, name: str):
    md5, sha256 = hashlib.md5(BODY), hashlib.sha256(BODY)
    values = {
        "Repr-Digest": f"sha-256=:{base64.b64encode(sha256.digest()).decode()}:",
        "Content-MD5": base64.b64encode(md5.digest()).decode(),
        "ETag": f'"{md5.hexdigest()}"',
    }
    right, site.server = {name: values[name]}, "AmazonS3"
    site.faults["/file"] = [Fault(garble=True, headers=right), Fault(headers=right)]
    assert bring(site, tmp_path) == BODY
    assert len(site.gets("/file")) == 2


def test_a_span_of_a_file(site: Site, tmp_path: Path):
    site.faults["/file"] = [Fault(drop_at=100)]
    assert bring(site, tmp_path, span=(1000, 9000)) == BODY[1000:9000]
    assert http.get(f"{site.url}/file", QUICK, (5, 17)) == BODY[5:17]
    site.faults["/file"] = [Fault(ignore_range=True)]
    with pytest.raises(OSError, match=r"/file: the server gives no parts of files; name one that does"):
        bring(site, tmp_path, span=(1000, 9000))


@pytest.mark.parametrize("status", [401, 403, 404, 410])
def test_what_is_not_there_is_not_asked_for_twice(site: Site, tmp_path: Path, status: int):
    site.faults["/file"] = [Fault(status=status)]
    with pytest.raises(ValueError, match=f"/file: the server answers {status}"):
        bring(site, tmp_path)
    assert len(site.seen) == 1


def test_nobody_there():
    with pytest.raises(OSError, match=r"http://127\.0\.0\.1:9/x: given up after 4 attempts, .*no answer \(ConnectErr"):
        http.facts_of("http://127.0.0.1:9/x", QUICK)
    with pytest.raises(OSError, match=r"http://: .*correct the address"):
        http.facts_of("http://", QUICK)
