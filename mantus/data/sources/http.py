"""A polite HTTP client: paced per host, patient with servers that are busy, and sure of what it has brought.

It knows requests, ranges and digests, not what is in the files.
"""

import base64
import fcntl
import functools
import hashlib
import json
import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import mantus
from mantus.data.sources.source import Manners, Remote
from mantus.storage.artifact import cache_root

Result = TypeVar("Result")
BUSY = {408, 425, 429, 500, 502, 503, 504}
"""Answers after which the same request may be made again."""
PROGRESS = 1 << 20
"""Bytes that a broken transfer must have brought for the count of attempts to begin anew."""
SLOWEST = 1000
"""Bytes a second under which a transfer counts as stalled, once `timeout_s` has passed."""
MAX_SMALL = 256 << 20
"""Bytes of an answer that is held in memory."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a server says of a file."""

    etag: str = ""
    modified: str = ""
    size: int = -1
    """Bytes; -1 where it does not say."""
    sha256: str = ""
    """Hex, from Repr-Digest."""
    md5: str = ""
    """Hex, from Content-MD5, or from S3's ETag where that is one."""

    @property
    def validator(self) -> str:
        """What If-Range may name: a strong ETag, else the date; '' where there is neither."""
        return self.etag if self.etag.startswith('"') else "" if self.etag else self.modified


class _Again(Exception):
    """The attempt failed in a way that another may not."""

    def __init__(self, reason: str, wait_s: float | None = None, brought: int = 0) -> None:
        super().__init__(reason)
        self.wait_s, self.brought = wait_s, brought


def facts_of(url: str, manners: Manners) -> Facts:
    """What the server says of a file, by HEAD, or by GET where HEAD is not allowed.

    ValueError when it is not there; OSError when the server does not answer, with URL and way out in one line.
    """

    def ask() -> Facts:
        for method in ("HEAD", "GET"):
            with _request(method, url, manners, {}) as answer:
                if method == "HEAD" and answer.status_code in (400, 403, 405, 501):
                    continue
                _check(url, answer)
                return _facts(answer.headers)
        raise AssertionError("GET is checked")

    return _patiently(url, manners, ask)


def get(url: str, manners: Manners, span: tuple[int, int] | None = None) -> bytes:
    """A small file, or some bytes of one (first, behind the last), into memory. Errors as `facts_of`."""

    def ask() -> bytes:
        with _request("GET", url, manners, _range(span) if span else {}) as answer:
            _check(url, answer)
            if span and answer.status_code != 206:
                raise OSError(_no_ranges(url))
            data = bytearray()
            for chunk in answer.iter_raw():
                data += chunk
                if len(data) > MAX_SMALL:
                    raise OSError(f"{url}: answers with more than {MAX_SMALL >> 20} MiB; ask for less")
            if span and len(data) != span[1] - span[0]:
                raise _Again(f"{len(data)} of {span[1] - span[0]} bytes")
            return bytes(data)

    return _patiently(url, manners, ask)


def download(remote: Remote, target: Path, size: int = 0) -> None:
    """Bring a file, or a span of it, to `target`; what an earlier try left in `<target>.part` is gone on from.

    size: bytes that it must have, 0 = unknown.  ValueError when the server has no such file or one of another digest;
    OSError when it is given up, which leaves the part, or when the file is another than was looked up.
    """
    url = remote.url
    wrong: list[str] = []

    def fetch() -> None:
        part = _Part(target)
        _transfer(remote, part, size)
        problem = part.problem(remote)
        if not problem:
            part.finish()
            return
        part.drop()
        wrong.append(problem)
        if len(wrong) > 1:
            raise ValueError(f"{url}: {problem}, twice; give the digest of the file that is there, or another address")
        raise _Again(problem)

    target.parent.mkdir(parents=True, exist_ok=True)
    _patiently(url, remote.manners, fetch)


class _Part:
    """A file that has come in part: its bytes, and beside them what the server said of it."""

    def __init__(self, target: Path) -> None:
        self.target = target
        self.path = target.with_name(target.name + ".part")
        self.notes = target.with_name(target.name + ".part.json")

    def facts(self) -> Facts:
        try:
            return Facts(**json.loads(self.notes.read_bytes()))
        except (FileNotFoundError, ValueError, TypeError):
            return Facts()

    def size(self) -> int:
        """Bytes that may be gone on from: none when nothing tells whether the server still has the same file."""
        return self.path.stat().st_size if self.path.is_file() and self.facts().validator else 0

    def begin(self, facts: Facts) -> None:
        self.path.write_bytes(b"")
        self.notes.write_text(json.dumps(asdict(facts)))

    def problem(self, remote: Remote) -> str:
        """What is wrong with the whole file; '' when nothing is."""
        facts = self.facts()
        wanted = [("sha256", remote.sha256)]
        if remote.span is None:
            wanted += [("sha256", facts.sha256), ("md5", facts.md5)]
        for name, value in wanted:
            if value:
                found = hashlib.new(name, usedforsecurity=False)
                with self.path.open("rb") as file:
                    while chunk := file.read(1 << 20):
                        found.update(chunk)
                if found.hexdigest() != value:
                    return f"has the {name} {found.hexdigest()}, not {value}"
        return ""

    def finish(self) -> None:
        self.notes.unlink(missing_ok=True)
        self.path.replace(self.target)

    def drop(self) -> None:
        self.notes.unlink(missing_ok=True)
        self.path.unlink(missing_ok=True)


def _transfer(remote: Remote, part: _Part, size: int) -> None:
    """One attempt to bring the rest of a file."""
    have, known = part.size(), part.facts()
    start, stop = remote.span or (0, None)
    if have and have == (known.size if stop is None else stop - start):
        return  # all of it had come before
    headers = _range((start + have, stop)) if have or remote.span else {}
    if have:
        headers["If-Range"] = known.validator
    with _request("GET", remote.url, remote.manners, headers) as answer:
        if answer.status_code == 416:
            part.drop()
            raise _Again("416, there is less than was asked for")
        _check(remote.url, answer)
        etag = answer.headers.get("etag", "")
        if remote.etag and etag not in ("", remote.etag):
            part.drop()
            raise OSError(f"{remote.url}: has changed since it was looked up; run again")
        if remote.span and answer.status_code != 206:
            raise OSError(_no_ranges(remote.url))
        if have and answer.status_code == 206 and etag not in ("", known.etag):
            part.drop()
            raise _Again("it changed midway")
        if not have or answer.status_code != 206:
            have = 0
            part.begin(_facts(answer.headers))
        total = _expected(answer, part, start + have)
        expected = stop - start if stop is not None else size or total
        _receive(answer, part, remote.manners, have, expected)


def _expected(answer: Any, part: _Part, first: int) -> int:
    """Bytes of the whole file by this answer, -1 where unknown; a part that does not join on is dropped."""
    if answer.status_code != 206:
        return int(answer.headers.get("content-length", -1))
    given = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+|\*)", answer.headers.get("content-range", ""))
    if given is None or int(given[1]) != first:
        part.drop()
        raise _Again("another range than was asked for")
    return -1 if given[3] == "*" else int(given[3])


def _receive(answer: Any, part: _Part, manners: Manners, have: int, expected: int) -> None:
    """Write what comes behind the `have` bytes of the part. _Again when it is not `expected` in the end."""
    import httpx

    at, begun = have, time.monotonic()
    try:
        with part.path.open("ab") as file:
            for chunk in answer.iter_raw():
                file.write(chunk)
                at += len(chunk)
                seconds = time.monotonic() - begun
                if seconds > manners.timeout_s and (at - have) / seconds < SLOWEST:
                    raise _Again(f"slower than {SLOWEST} bytes a second", brought=at - have)
                if 0 <= expected < at:
                    break
    except httpx.TransportError as error:
        raise _Again(f"{type(error).__name__} after {at} of {expected} bytes", brought=at - have) from None
    if expected >= 0 and at != expected:
        if at > expected:
            part.drop()
        raise _Again(f"{at} bytes came where {expected} were announced", brought=at - have)


def _patiently(url: str, manners: Manners, act: Callable[[], Result]) -> Result:
    """Do it until it is done, waiting in between; OSError once `attempts` in a row have failed."""
    import httpx

    failed, last = 0, ""
    while failed < manners.attempts:
        wait_s: float | None = None
        try:
            return act()
        except _Again as again:
            last, wait_s = str(again), again.wait_s
            failed = 0 if again.brought >= PROGRESS else failed
        except (httpx.UnsupportedProtocol, httpx.InvalidURL) as error:
            raise OSError(f"{url}: {error}; correct the address") from None
        except httpx.TransportError as error:
            last = f"no answer ({type(error).__name__})"
        except httpx.HTTPError as error:
            raise OSError(f"{url}: {error} ({type(error).__name__}); name the address that it leads to") from None
        if wait_s is not None and wait_s > manners.max_wait_s:
            raise OSError(f"{url}: the server asks to wait {wait_s:.0f} s; run again then, what has come is kept")
        failed += 1
        if failed < manners.attempts:
            time.sleep(backoff(url, manners, failed) if wait_s is None else wait_s)
    way_out = "run again later, what has come is kept; or allow more attempts"
    raise OSError(f"{url}: given up after {manners.attempts} attempts, the last: {last}; {way_out}")


def backoff(url: str, manners: Manners, failed: int) -> float:
    """Seconds to wait after so many failures in a row, from 1: doubled each time, of which up to a quarter is left out.

    How much differs from URL to URL, so that workers do not come back all at once.
    """
    jitter = hashlib.blake2b(f"{url} {failed}".encode(), digest_size=1).digest()[0] / 1024
    return float(manners.backoff_s * 2 ** (failed - 1) * (0.75 + jitter))


def _check(url: str, answer: Any) -> None:
    """_Again for an answer that may be better next time, ValueError for one that will not."""
    status = answer.status_code
    if status in BUSY:
        wait_s = _retry_after(answer.headers.get("retry-after", ""))
        if wait_s:
            _turn(urlsplit(url).netloc, 0, wait_s)
        raise _Again(f"the server answers {status}", wait_s)
    if status >= 400:
        raise ValueError(f"{url}: the server answers {status}")


def _retry_after(value: str) -> float | None:
    """Seconds that a Retry-After header asks for; None where it asks for nothing that can be understood."""
    if re.fullmatch(r"\s*\d{1,9}\s*", value):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError):
        return None


def _facts(headers: Any) -> Facts:
    etag, size = headers.get("etag", ""), headers.get("content-length", "")
    total = re.fullmatch(r"bytes \d+-\d+/(\d+)", headers.get("content-range", ""))
    size = total[1] if total else size
    repr_digest = re.search(r"sha-256=:([A-Za-z0-9+/=]+):", headers.get("repr-digest", ""))
    md5 = _hex(headers.get("content-md5", ""))
    plain = re.fullmatch(r'"([0-9a-f]{32})"', etag)
    if plain and headers.get("server") == "AmazonS3" and "kms" not in headers.get("x-amz-server-side-encryption", ""):
        md5 = plain[1]
    modified = headers.get("last-modified", "")
    digest = _hex(repr_digest[1]) if repr_digest else ""
    return Facts(etag, modified, int(size) if size.isdigit() else -1, digest, md5 if not total or plain else "")


def _hex(encoded: str) -> str:
    try:
        return base64.b64decode(encoded, validate=True).hex()
    except ValueError:
        return ""


def _range(span: tuple[int, int | None]) -> dict[str, str]:
    return {"Range": f"bytes={span[0]}-{'' if span[1] is None else span[1] - 1}"}


def _no_ranges(url: str) -> str:
    return f"{url}: the server gives no parts of files; name one that does, or read whole files"


def _request(method: str, url: str, manners: Manners, headers: dict[str, str]) -> Any:
    """A streaming request in its turn; bytes as they are stored, so that ranges and digests mean the same."""
    _turn(urlsplit(url).netloc, 1 / manners.requests_per_s)
    return _client(manners, os.getpid()).stream(method, url, headers={"Accept-Encoding": "identity", **headers})


@functools.cache
def _client(manners: Manners, process: int) -> Any:
    """One client a process: connections do not survive a fork."""
    import httpx

    agent = manners.user_agent or f"mantus/{mantus.__version__} (corpus building; polite)"
    return httpx.Client(follow_redirects=True, timeout=manners.timeout_s, headers={"User-Agent": agent})


def _turn(host: str, interval_s: float, hold_s: float = 0) -> None:
    """Wait for this machine's next turn at a host, `interval_s` behind the last; `hold_s` closes it to all so long."""
    file = cache_root() / "hosts" / (re.sub(r"[^\w.-]", "-", host).strip(".") or "nobody")
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("a+") as handle:
        fcntl.lockf(handle, fcntl.LOCK_EX)
        handle.seek(0)
        given, now = handle.read(), time.time()
        turn = float(given) if re.fullmatch(r"\d+\.\d+", given) else now
        turn = min(max(now, turn), now + 3600)  # a clock that was set back must not close a host for ever
        following = max(turn, now + hold_s) if hold_s else turn + interval_s
        handle.truncate(0)
        handle.write(f"{following:.6f}")
    if not hold_s:
        time.sleep(max(0.0, turn - now))
