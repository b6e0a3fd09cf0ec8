"""A served release as a child process on a free loopback port, for as long as a `with` block lasts.

It knows processes and ports, not what is asked of the server.
"""

import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx

from mantus.processes import start_child, stop_child

START_TIMEOUT_S = 120


@contextmanager
def served(
    release: Path, name: str = "mantus", cache_gib: float = 1.0, allow_refused: bool = False, **settings: Any
) -> Iterator[str]:
    """Serve a release; yields `http://127.0.0.1:<port>/v1`. RuntimeError with the log's last line when it dies.

    settings: further fields of ServeConfig.
    """
    port = free_port()
    command = [sys.executable, "-m", "mantus.serving.server", "--model_dir", str(release), "--model_name", name]
    command += ["--http_port", str(port), "--host", "127.0.0.1", "--cache_gib", str(cache_gib)]
    command += ["--allow_refused"] if allow_refused else []
    command += [f"--{field}={value}" for field, value in settings.items()]
    with tempfile.TemporaryFile() as log:
        child = start_child(command, stdout=log, stderr=log, env={**os.environ, "MANTUS_CHILD": "1"})
        try:
            deadline = time.monotonic() + START_TIMEOUT_S
            while not _is_ready(port):
                if child.poll() is not None or time.monotonic() > deadline:
                    log.seek(0)
                    lines = log.read().decode(errors="replace").strip().splitlines() or ["no message"]
                    raise RuntimeError(f"the server did not start: {lines[-1]}")
                time.sleep(0.05)
            yield f"http://127.0.0.1:{port}/v1"
        finally:
            stop_child(child)


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _is_ready(port: int) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/v2/health/ready", timeout=1).status_code == 200
    except httpx.TransportError:
        return False
