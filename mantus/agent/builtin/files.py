"""Read and write text files beneath one working folder.

It does not know where that folder is; the host binds it.
"""

import os
from pathlib import Path

from mantus.agent.sandbox import MAX_FILE_BYTES, open_beneath
from mantus.agent.tools import ToolError, tool


@tool(effects=["reads"])
def file_read(path: str, *, root: str) -> str:
    """Read a text file."""
    with os.fdopen(open_beneath(Path(root), path, os.O_RDONLY), "rb") as stream:
        data = stream.read(MAX_FILE_BYTES + 1)
    if len(data) > MAX_FILE_BYTES:
        raise ToolError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    return data.decode("utf-8", errors="replace")


@tool(effects=["writes"])
def file_write(path: str, content: str, *, root: str) -> str:
    """Write text to a file."""
    data = content.encode("utf-8", errors="replace")
    if len(data) > MAX_FILE_BYTES:
        raise ToolError(f"content is larger than {MAX_FILE_BYTES} bytes")
    opened = open_beneath(Path(root), path, os.O_WRONLY | os.O_CREAT, make_folders=True)
    with os.fdopen(opened, "wb") as stream:
        stream.truncate(0)
        stream.write(data)
    return f"wrote {len(content)} characters to {path}"
