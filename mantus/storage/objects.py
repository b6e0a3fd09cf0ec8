"""Turn a store URI into bytes: `file://` folders and `s3://` buckets behind one small surface.

It knows names and bytes, not what they mean; manifests are in artifact.py.
"""

import errno
import functools
import os
import re
import secrets
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit

PART = ".part-"
"""A last path component that starts with this is a write under way, not an object."""

BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


class StoreError(OSError):
    """The store could not be reached or refused; the message is one line for the user."""


@dataclass(frozen=True, slots=True)
class Object:
    """One stored object: its name relative to the store, and its size."""

    name: str
    bytes: int
    modified: float
    """Unix seconds of the last write."""


class Store(Protocol):
    """Named bytes beneath one URI. Every write is atomic: readers see the old object or the new one.

    A name is a relative path with `/`; ValueError when it leads out of the store. StoreError when the store fails.
    """

    uri: str

    def get(self, name: str) -> bytes:
        """The whole object. FileNotFoundError when it is absent."""

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole."""

    def upload(self, source: Path, name: str) -> None:
        """Write an object from a local file (multipart where the store has it)."""

    def download(self, name: str, target: Path) -> None:
        """Write an object to a local file. FileNotFoundError when it is absent."""

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Objects whose names start with `prefix`, in name order."""

    def delete(self, name: str) -> None:
        """Remove an object; absent is fine."""

    def sweep(self, older_than_s: float) -> Sequence[str]:
        """Remove what broken-off writes left, untouched for so long; their names."""


def open_store(uri: str) -> Store:
    """The store at `file:///path`, a plain path, or `s3://bucket/prefix`.

    S3 credentials and endpoint come only from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_ENDPOINT_URL and AWS_DEFAULT_REGION. ValueError on any other scheme.
    """
    parts = urlsplit(uri)
    if parts.scheme == "s3" and BUCKET.fullmatch(parts.netloc):
        return S3Store(parts.netloc, uri.split("://", 1)[1][len(parts.netloc) :].strip("/"))
    if parts.scheme == "file" and parts.netloc in ("", "localhost") and parts.path.startswith("/"):
        return FileStore(Path(unquote(parts.path)))
    if not parts.scheme and uri:
        return FileStore(Path(uri))
    raise ValueError(f"store {uri!r}: expected s3://bucket/prefix, file:///path or a path")


def check_name(name: str) -> str:
    """The name of an object, as given. ValueError when it is empty, absolute or leads out of its folder."""
    parts = name.split("/")
    if not name or "\0" in name or "\\" in name or any(part in ("", ".", "..") for part in parts):
        raise ValueError(f"{name!r} is not the name of an object: expected a relative path without '..'")
    return name


class FileStore:
    """A folder. Writes go to a temporary name in the same folder and are renamed into place."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = self.root.as_uri()

    def get(self, name: str) -> bytes:
        """The whole object."""
        with self._errors(name):
            return (self.root / check_name(name)).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole."""
        with self._errors(name), self._atomic(name) as temporary:
            temporary.write_bytes(data)

    def upload(self, source: Path, name: str) -> None:
        """Write an object from a local file."""
        with self._errors(name), self._atomic(name) as temporary:
            shutil.copyfile(source, temporary)

    def download(self, name: str, target: Path) -> None:
        """Write an object to a local file."""
        with self._errors(name):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(self.root / check_name(name), target)

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Objects whose names start with `prefix`, in name order."""
        for name in sorted(self._names(prefix)):
            try:
                status = (self.root / name).stat()
            except FileNotFoundError:
                continue  # deleted since it was seen
            if not PurePosixPath(name).name.startswith(PART):
                yield Object(name, status.st_size, status.st_mtime)

    def delete(self, name: str) -> None:
        """Remove an object and the folders it leaves empty."""
        path = self.root / check_name(name)
        with self._errors(name):
            path.unlink(missing_ok=True)
        for parent in path.relative_to(self.root).parents[:-1]:
            try:
                (self.root / parent).rmdir()
            except OSError:
                break  # another object lives there

    def sweep(self, older_than_s: float) -> Sequence[str]:
        """Remove temporary files of writers that died."""
        limit = time.time() - older_than_s
        names = [name for name in self._names("") if PurePosixPath(name).name.startswith(PART)]
        old = [name for name in names if (self.root / name).stat().st_mtime <= limit]
        for name in old:
            self.delete(name)
        return sorted(old)

    def _names(self, prefix: str) -> Iterator[str]:
        base = self.root / prefix.rpartition("/")[0]
        for folder, _, files in os.walk(base):
            here = Path(folder).relative_to(self.root)
            for file in files:
                name = (here / file).as_posix()
                if name.startswith(prefix):
                    yield name

    @contextmanager
    def _atomic(self, name: str) -> Iterator[Path]:
        target = self.root / check_name(name)
        path = target.with_name(PART + secrets.token_hex(8))
        _create(path)
        try:
            yield path
            with path.open("rb") as written:
                os.fsync(written.fileno())
            path.replace(target)
            _sync_folder(target.parent)
        finally:
            path.unlink(missing_ok=True)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        try:
            yield
        except (FileNotFoundError, IsADirectoryError, NotADirectoryError):
            raise FileNotFoundError(f"{self.uri}/{name}: no such object") from None
        except OSError as error:
            raise StoreError(f"{self.uri}/{name}: {error.strerror or error}") from error


def _create(path: Path) -> None:
    """Make an empty file and its folders, even while another process deletes the folders as empty."""
    for _ in range(100):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)  # makes folder after folder: any may be gone again
            path.touch(exist_ok=False)
            return
        except (FileNotFoundError, FileExistsError):
            if path.parent.exists() and not path.parent.is_dir():
                raise
    raise StoreError(f"{path.parent}: another process keeps deleting this folder")


def _sync_folder(folder: Path) -> None:
    """Make a rename durable, so that a manifest never survives a power cut that its files did not."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return  # the object is deleted again already
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class S3Store:
    """A prefix in an S3 bucket, through boto3."""

    def __init__(self, bucket: str, prefix: str, client: Any = None) -> None:
        self.bucket, self.prefix = bucket, prefix
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self.client = client or s3_client()

    def get(self, name: str) -> bytes:
        """The whole object."""
        with self._errors(name):
            body: bytes = self.client.get_object(Bucket=self.bucket, Key=self._key(name))["Body"].read()
            return body

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole."""
        with self._errors(name):
            self.client.put_object(Bucket=self.bucket, Key=self._key(name), Body=data)

    def upload(self, source: Path, name: str) -> None:
        """Write an object from a local file, in parts and in parallel when it is large."""
        with self._errors(name):
            self.client.upload_file(str(source), self.bucket, self._key(name))

    def download(self, name: str, target: Path) -> None:
        """Write an object to a local file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        with self._errors(name):
            self.client.download_file(self.bucket, self._key(name), str(target))

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Objects whose names start with `prefix`, in name order."""
        pages = self.client.get_paginator("list_objects_v2")
        start = f"{self.prefix}/" if self.prefix else ""
        found = []
        with self._errors(prefix):
            for page in pages.paginate(Bucket=self.bucket, Prefix=start + prefix):
                for item in page.get("Contents", ()):
                    found.append(Object(item["Key"][len(start) :], item["Size"], item["LastModified"].timestamp()))
        # SeaweedFS lists folder by folder: "a/1" before "a-b"
        yield from sorted(found, key=lambda item: item.name)

    def delete(self, name: str) -> None:
        """Remove an object; absent is fine."""
        with self._errors(name):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(name))

    def sweep(self, older_than_s: float) -> Sequence[str]:
        """Abort multipart uploads that nobody finished."""
        limit, start = time.time() - older_than_s, f"{self.prefix}/" if self.prefix else ""
        swept = []
        with self._errors(""):
            pages = self.client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket, Prefix=start)
            for item in [item for page in pages for item in page.get("Uploads", ())]:
                if item["Initiated"].timestamp() <= limit:
                    self.client.abort_multipart_upload(Bucket=self.bucket, Key=item["Key"], UploadId=item["UploadId"])
                    swept.append(item["Key"][len(start) :])
        return sorted(swept)

    def ensure_bucket(self) -> None:
        """Create the bucket when it does not exist."""
        from botocore.exceptions import ClientError

        with self._errors(""):
            try:
                self.client.head_bucket(Bucket=self.bucket)
            except ClientError:
                self.client.create_bucket(Bucket=self.bucket)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{check_name(name)}" if self.prefix else check_name(name)

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"{self.uri}/{name}"
        try:
            yield
        except (ClientError, BotoCoreError, Boto3Error) as error:
            # boto3's transfer errors wrap what happened
            cause = error.__context__ if isinstance(error, Boto3Error) and error.__context__ else error
            raise _explain(where, cause, self.client.meta.endpoint_url) from error
        except FileNotFoundError:
            raise  # the local file of a transfer
        except OSError as error:
            raise StoreError(f"{where}: {error.strerror or error}") from error


def _explain(where: str, error: BaseException, endpoint: str) -> OSError:
    from botocore.exceptions import ClientError, NoCredentialsError, PartialCredentialsError

    if isinstance(error, ClientError):
        code = error.response.get("Error", {}).get("Code", "")
        if code == "NoSuchKey" or (code == "404" and error.operation_name == "HeadObject"):
            return FileNotFoundError(f"{where}: no such object")
        if code == "404":  # S3 itself says what is missing, except to HEAD; a gateway on the way does not know
            return StoreError(f"{where}: {endpoint} answered 404, but not as S3 does; is that the store's address?")
        if error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0) >= 500:
            return StoreError(f"{where}: {endpoint} failed ({code}); is its disk full?")
        return StoreError(f"{where}: {endpoint} refused ({code}); check bucket and credentials")
    if isinstance(error, NoCredentialsError | PartialCredentialsError):
        return StoreError(f"{where}: no credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    if isinstance(error, OSError) and error.errno == errno.ENOSPC:
        return StoreError(f"{where}: {error.strerror}")
    return StoreError(f"{where}: no answer from {endpoint} ({type(error).__name__}); is it up?")


SETTINGS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_ENDPOINT_URL", "AWS_DEFAULT_REGION")


def s3_client(environment: Mapping[str, str] | None = None) -> Any:
    """A boto3 S3 client from the AWS_* environment, with bounded retries and path-style addresses.

    environment: instead of os.environ.  The client is shared by callers of this process with the same settings.
    """
    found = os.environ if environment is None else environment
    return _client(os.getpid(), *(found.get(name) for name in SETTINGS))


@functools.lru_cache(maxsize=8)
def _client(
    pid: int,
    access_key: str | None,
    secret_key: str | None,
    token: str | None,
    endpoint: str | None,
    region: str | None,
) -> Any:
    """One client a process: connections must not be shared across a fork."""
    import boto3
    from botocore.config import Config

    settings = Config(
        retries={"max_attempts": 4, "mode": "standard"},
        connect_timeout=5,
        read_timeout=60,
        s3={"addressing_style": "path"},
        # Not every S3 server knows the newer checksum headers; manifests carry sha256 of every file.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
    )
    return boto3.session.Session().client(
        "s3",
        config=settings,
        aws_access_key_id=access_key,
        aws_secret_access_key=secret_key,
        aws_session_token=token,
        endpoint_url=endpoint,
        region_name=region or "us-east-1",
    )
