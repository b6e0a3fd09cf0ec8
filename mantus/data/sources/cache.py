"""The cache of fetched sources: where a thing lies, how it comes there once, and how a file is had for reading.

It knows addresses and this machine's disk, not formats.
"""

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

from mantus.data.sources import http
from mantus.data.sources.source import File, Remote
from mantus.storage import StoreError
from mantus.storage.artifact import cache_root
from mantus.storage.objects import s3_client
from mantus.storage.phase import lock_folder


def digest(parts: Iterable[str]) -> str:
    """A fingerprint of strings in order: 32 hex digits."""
    return hashlib.blake2b("\n".join(parts).encode(), digest_size=16).hexdigest()


def cache_folder(scheme: str, address: str, key: str) -> Path:
    """Where what `address` had under fingerprint `key` lies, or will lie."""
    stem = re.sub(r"[^\w.=-]+", "-", address)[-60:]
    return cache_root() / "sources" / scheme / f"{stem}-{digest((address, key))[:12]}"


@contextmanager
def cached(scheme: str, address: str, key: str) -> Iterator[tuple[Path, bool]]:
    """A folder to fill and True, moved into the cache at the end; or what is cached and False."""
    final = cache_folder(scheme, address, key)
    if final.is_dir():
        yield final, False
        return
    final.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".part-", dir=final.parent) as temporary:
        folder = Path(temporary) / "files"
        folder.mkdir()
        yield folder, True
        try:
            os.rename(folder, final)
        except OSError:
            if not final.is_dir():  # another process may have been first
                raise


@contextmanager
def here(file: File) -> Iterator[Path]:
    """The file on this machine's disk for the length of the block, fetched where it is not there yet.

    ValueError or OSError of the fetching, in one line.
    """
    remote = file.remote
    if remote is None or (remote.kept and file.path.is_file()):
        yield file.path
        return
    with _alone(file.path):
        if not file.path.is_file():
            fetch(remote, file.path, file.size)
        if not remote.kept:
            try:
                yield file.path
            finally:
                file.path.unlink(missing_ok=True)
                with suppress(OSError):
                    file.path.parent.rmdir()  # when it was the last in its folder
            return
    yield file.path


def fetch(remote: Remote, target: Path, size: int = 0) -> None:
    """Bring what is remote to `target`; size: bytes it must have, 0 = unknown."""
    if remote.url.startswith("s3://"):
        _fetch_s3(remote, target)
    else:
        http.download(remote, target, size)


def _fetch_s3(remote: Remote, target: Path) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    parts = urlsplit(remote.url)
    wanted = {"Range": f"bytes={remote.span[0]}-{remote.span[1] - 1}"} if remote.span else {}
    part = target.with_name(target.name + ".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    try:
        body = s3_client().get_object(Bucket=parts.netloc, Key=parts.path.lstrip("/"), **wanted)["Body"]
        with part.open("wb") as file:
            shutil.copyfileobj(body, file, 1 << 20)
    except (BotoCoreError, ClientError) as error:
        problem = f"{remote.url}: cannot be read ({type(error).__name__}); is it there, and may these credentials?"
        raise StoreError(problem) from error
    part.replace(target)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """No other process fetches `path` until the block ends."""
    folder = path.with_name(f".{path.name}.lock")
    while True:
        with lock_folder(folder) as owned:
            if owned:
                try:
                    yield
                finally:
                    shutil.rmtree(folder, ignore_errors=True)
                return
        time.sleep(0.2)
