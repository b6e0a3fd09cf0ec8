"""What a tool may touch: files beneath one folder, and a child process with limits, a clean environment and a deadline.

It does not know tools or models. Covered: paths (.., absolute, symbolic and hard links, devices), time, processor time,
sizes of files and of the reply, secrets in the environment, orphans; and what a tool has not declared: without `writes`
its process can change no file, without `network` it can make no socket (where the kernel has Landlock and seccomp).
Not covered: what a tool reads; see docs/security.md.
"""

import importlib
import json
import os
import resource
import selectors
import signal
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from mantus.agent.confine import confine
from mantus.agent.tools import ToolError
from mantus.processes import die_with_parent

MAX_FILE_BYTES = 1 << 16
MAX_RESULT_CHARS = 1 << 20
MAX_REPLY_BYTES = 6 * MAX_RESULT_CHARS + 1024
"""JSON writes a character in six bytes at most."""
MAX_DEPTH = 8
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DeadlineExceeded(Exception):
    """The child process did not end in time and was killed."""


def open_beneath(root: Path, path: str, flags: int, make_folders: bool = False) -> int:
    """Open a regular file beneath `root`; the descriptor. No component is followed when it is a link.

    Each folder is opened relative to the one above it, so nothing can be exchanged between a check and its use.
    Never pass O_TRUNC: a hard link is refused only once it is open. ToolError says in short what is wrong.
    """
    *folders, name = _components(path)
    opened = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for folder in folders:
            if make_folders:
                _make_folder(folder, opened)
            inner = os.open(folder, FOLDER_FLAGS, dir_fd=opened)
            os.close(opened)
            opened = inner
        leaf_flags = flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        leaf = os.open(name, leaf_flags, 0o644, dir_fd=opened)
    except FileNotFoundError:
        raise ToolError(f"no such file: {path}") from None
    except (OSError, ValueError):
        raise ToolError(f"cannot open: {path}") from None
    finally:
        os.close(opened)
    status = os.fstat(leaf)
    if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
        os.close(leaf)
        raise ToolError(f"not a plain file: {path}")
    return leaf


def _components(path: str) -> list[str]:
    parts = list(PurePosixPath(path).parts)
    if not parts or path.startswith("/") or path.endswith("/") or ".." in parts or "\0" in path:
        raise ToolError("path must name a file in the working folder, such as notes.txt")
    if len(parts) > MAX_DEPTH:
        raise ToolError(f"path is deeper than {MAX_DEPTH} folders")
    return parts


def _make_folder(name: str, parent: int) -> None:
    with suppress(FileExistsError):
        os.mkdir(name, 0o755, dir_fd=parent)


def run_child(
    target: str,
    settings: Mapping[str, Any],
    arguments: Mapping[str, Any],
    timeout_s: float,
    *,
    writes: bool = True,
    network: bool = True,
) -> str:
    """Call the function `target` ('module:name') in a child process; its result.

    writes, network: whether the child may change files and make sockets.
    ToolError is passed on. DeadlineExceeded when it took longer than `timeout_s`; ChildProcessError when it died,
    failed, or said too much, with the kind of failure as its message. The child and its own children are killed in
    every case.
    """
    deadline = time.monotonic() + timeout_s
    rights = {"writes": writes, "network": network}
    request = json.dumps({"target": target, "settings": dict(settings), "arguments": dict(arguments), "rights": rights})
    with tempfile.TemporaryFile() as stream:  # not a pipe: a child that does not read must not hold up its parent
        stream.write(request.encode())
        stream.seek(0)
        child = subprocess.Popen(
            [sys.executable, "-P", "-m", "mantus.agent.sandbox"],
            stdin=stream,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=_environment(timeout_s),
            start_new_session=True,
        )
    try:
        output = _listen(child, deadline)
    finally:
        kill_group(child)
    return _read_reply(output)


def _listen(child: subprocess.Popen[bytes], deadline: float) -> bytes:
    """What a child says until it has said all, within a deadline and a size."""
    assert child.stdout is not None
    said = bytearray()
    with selectors.DefaultSelector() as selector:
        selector.register(child.stdout, selectors.EVENT_READ)
        while True:
            left = deadline - time.monotonic()
            if left <= 0 or not selector.select(left):
                raise DeadlineExceeded
            data = os.read(child.stdout.fileno(), 1 << 16)
            if not data:
                return bytes(said)
            said += data
            if len(said) > MAX_REPLY_BYTES:
                raise ChildProcessError("said too much")


def _environment(timeout_s: float) -> dict[str, str]:
    """Nothing of the host's environment but what Python needs: a tool sees no credentials."""
    kept = {name: os.environ[name] for name in ("PATH", "LANG", "TMPDIR") if name in os.environ}
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    return {**kept, "PYTHONPATH": paths, "PYTHONUTF8": "1", "MANTUS_CHILD_SECONDS": str(int(timeout_s) + 2)}


def kill_group(child: subprocess.Popen[bytes]) -> None:
    """End a child that leads its own session, with all that it has started; close its pipes."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    for stream in (child.stdin, child.stdout):
        if stream is not None:
            with suppress(OSError):
                stream.close()


def _read_reply(output: bytes) -> str:
    try:
        reply = json.loads(output)
    except ValueError:
        raise ChildProcessError("died") from None
    if "refused" in reply:
        raise ToolError(reply["refused"])
    if "failed" in reply:
        raise ChildProcessError(reply["failed"])
    return str(reply["result"])


def _serve_one_call() -> None:
    """The child's side: one request on standard input, one reply on what was standard output."""
    _limit_this_process()
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    request = json.load(sys.stdin)
    rights = request["rights"]
    confine(writable=None if rights["writes"] else [], network=rights["network"])
    module, _, name = request["target"].partition(":")
    function = getattr(importlib.import_module(module), name)
    function = getattr(function, "function", function)
    try:
        result = str(function(**request["arguments"], **request["settings"]))
        reply = {"result": result[:MAX_RESULT_CHARS]}
    except ToolError as error:
        reply = {"refused": str(error)}
    except Exception as error:  # noqa: BLE001  a tool is foreign code: whatever it raises is a failed call
        reply = {"failed": type(error).__name__}
    json.dump(reply, replies)
    replies.flush()


def _limit_this_process() -> None:
    seconds = int(os.environ["MANTUS_CHILD_SECONDS"])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds * 4, seconds * 4))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    die_with_parent()


if __name__ == "__main__":
    _serve_one_call()
