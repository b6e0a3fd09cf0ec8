"""Turn a store URI into bytes: `file://` folders and `s3://` buckets behind one small surface.

It knows names and bytes, not what they mean; manifests are in artifact.py.
"""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import unquote, urlsplit


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
    """Named bytes beneath one URI. Every write is atomic: readers see the old object or the new one."""

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


def open_store(uri: str) -> Store:
    """The store at `file:///path`, a plain path, or `s3://bucket/prefix`.

    S3 credentials and endpoint come only from AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY,
    AWS_ENDPOINT_URL and AWS_DEFAULT_REGION. ValueError on any other scheme.
    """
    parts = urlsplit(uri)
    if parts.scheme == "s3" and parts.netloc:
        return S3Store(parts.netloc, parts.path.strip("/"))
    if parts.scheme == "file" and parts.netloc in ("", "localhost"):
        return FileStore(Path(unquote(parts.path)))
    if not parts.scheme and uri:
        return FileStore(Path(uri))
    raise ValueError(f"store {uri!r}: expected s3://bucket/prefix, file:///path or a path")


def split_uri(uri: str) -> tuple[str, str]:
    """Split an object's URI into its folder's URI and its name: 's3://b/x/y' -> ('s3://b/x', 'y')."""
    folder, _, name = uri.rstrip("/").rpartition("/")
    return folder, name


class FileStore:
    """A folder. Writes go to a temporary name in the same folder and are renamed into place."""

    def __init__(self, root: Path) -> None:
        self.root = root.absolute()
        self.uri = self.root.as_uri()

    def get(self, name: str) -> bytes:
        """The whole object."""
        return (self.root / name).read_bytes()

    def put(self, name: str, data: bytes) -> None:
        """Write an object whole."""
        with self._atomic(name) as temporary:
            temporary.write_bytes(data)

    def upload(self, source: Path, name: str) -> None:
        """Write an object from a local file."""
        with self._atomic(name) as temporary:
            shutil.copyfile(source, temporary)

    def download(self, name: str, target: Path) -> None:
        """Write an object to a local file."""
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.root / name, target)

    def list(self, prefix: str = "") -> Iterator[Object]:
        """Objects whose names start with `prefix`, in name order."""
        base = self.root / prefix.rpartition("/")[0]
        names = (path.relative_to(self.root).as_posix() for path in base.rglob("*") if path.is_file())
        for name in sorted(names):
            if name.startswith(prefix) and ".part-" not in name:
                status = (self.root / name).stat()
                yield Object(name, status.st_size, status.st_mtime)

    def delete(self, name: str) -> None:
        """Remove an object and the folders it leaves empty."""
        path = self.root / name
        path.unlink(missing_ok=True)
        for parent in path.parents:
            if parent == self.root or not parent.is_dir() or any(parent.iterdir()):
                break
            parent.rmdir()

    @contextmanager
    def _atomic(self, name: str) -> Iterator[Path]:
        target = self.root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".part-{target.name}-", dir=target.parent)
        os.close(handle)
        path = Path(temporary)
        try:
            yield path
            with path.open("rb") as written:
                os.fsync(written.fileno())
            path.chmod(0o644)
            path.replace(target)
        finally:
            path.unlink(missing_ok=True)


class S3Store:
    """A prefix in an S3 bucket, through boto3."""

    def __init__(self, bucket: str, prefix: str) -> None:
        self.bucket, self.prefix = bucket, prefix
        self.uri = f"s3://{bucket}/{prefix}".rstrip("/")
        self.client = s3_client()

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
        with self._errors(prefix):
            for page in pages.paginate(Bucket=self.bucket, Prefix=self._key(prefix)):
                for item in page.get("Contents", ()):
                    name = item["Key"][len(self.prefix) :].lstrip("/")
                    yield Object(name, item["Size"], item["LastModified"].timestamp())

    def delete(self, name: str) -> None:
        """Remove an object; absent is fine."""
        with self._errors(name):
            self.client.delete_object(Bucket=self.bucket, Key=self._key(name))

    def ensure_bucket(self) -> None:
        """Create the bucket when it does not exist."""
        from botocore.exceptions import ClientError

        try:
            self.client.head_bucket(Bucket=self.bucket)
        except ClientError:
            with self._errors(""):
                self.client.create_bucket(Bucket=self.bucket)

    def _key(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name

    @contextmanager
    def _errors(self, name: str) -> Iterator[None]:
        from boto3.exceptions import Boto3Error
        from botocore.exceptions import BotoCoreError, ClientError

        where = f"s3://{self.bucket}/{self._key(name)}"
        try:
            yield
        except ClientError as error:
            code = error.response.get("Error", {}).get("Code", "")
            if code in ("NoSuchKey", "404", "NotFound"):
                raise FileNotFoundError(f"{where}: no such object") from None
            raise StoreError(f"{where}: the store refused ({code}); check bucket and credentials") from error
        except (BotoCoreError, Boto3Error) as error:
            endpoint = self.client.meta.endpoint_url
            raise StoreError(f"{where}: no answer from {endpoint} ({type(error).__name__}); is it up?") from error


def s3_client() -> Any:
    """A boto3 S3 client from the AWS_* environment, with bounded retries and path-style addresses."""
    import boto3
    from botocore.config import Config

    settings = Config(
        retries={"max_attempts": 4, "mode": "standard"},
        connect_timeout=5,
        read_timeout=60,
        s3={"addressing_style": "path"},
    )
    return boto3.client("s3", config=settings, region_name=os.environ.get("AWS_DEFAULT_REGION", "us-east-1"))
