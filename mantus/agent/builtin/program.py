"""Run a Python program that nobody has read: no network, no processes, no files but Python's own, little memory.

It knows what the kernel lets a process give up (confine.py), not what programs do.
"""

import contextlib
import io
import os
import resource
import sys
import traceback
from typing import Any

from mantus.agent.confine import confine
from mantus.agent.tools import ToolError, tool

MAX_CODE_CHARS, MAX_OUTPUT_CHARS = 20_000, 100_000
MAX_MEMORY_BYTES = 1 << 30
LIBRARIES = ("/usr/lib", "/usr/lib64", "/lib", "/lib64", "/usr/share/zoneinfo", "/etc/localtime")


@tool(timeout_s=10.0)
def run_python(code: str) -> str:
    """Run a Python program and get what it prints."""
    if len(code) > MAX_CODE_CHARS:
        raise ToolError(f"the program is longer than {MAX_CODE_CHARS} characters")
    try:
        program = compile(code, "program.py", "exec")
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise ToolError(f"not a Python program: {_last_line(error)}") from None
    _give_up_rights()
    printed = _Printed()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        try:
            exec(program, {"__name__": "__main__"})
        except SystemExit:
            pass
        except BaseException as error:  # noqa: BLE001  whatever the program raises is its result
            raise ToolError(f"{printed.getvalue()}{_last_line(error)}") from None
    return printed.getvalue() or "(nothing printed)"


class _Printed(io.StringIO):
    """Keeps the first MAX_OUTPUT_CHARS of what is printed."""

    def write(self, text: str) -> int:
        super().write(text[: max(0, MAX_OUTPUT_CHARS - self.tell())])
        return len(text)


def _give_up_rights() -> None:
    os.environ.clear()
    os.chdir("/")
    sys.path[:] = [path for path in sys.path if path.startswith((sys.prefix, sys.base_prefix))]
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY_BYTES, MAX_MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    missing = confine(readable=_readable(), writable=[], network=False, processes=False)
    if missing:
        raise ToolError("this machine cannot hold a program back, so none is run")


def _readable() -> list[str]:
    """Where Python and its libraries lie."""
    return [*(f"{prefix}/{part}" for prefix in (sys.prefix, sys.base_prefix) for part in ("lib", "lib64")), *LIBRARIES]


def _last_line(error: BaseException) -> Any:
    return traceback.format_exception_only(error)[-1].strip()[:500]
