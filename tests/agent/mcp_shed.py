"""A foreign MCP server for tests, as a program: it offers what a file says and does what the tool's name says."""

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mantus.agent.mcp import Servers

Open = Callable[..., "Servers"]
"""The fixture `shed`: opens the file of a server that offers these definitions, pinned or not."""

ECHO = {
    "name": "echo",
    "description": "Say a text again.",
    "inputSchema": {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
}


def offered(name: str, **more: Any) -> dict[str, Any]:
    """The definition of a tool without arguments."""
    return {"name": name, "description": f"Do {name}.", "inputSchema": {"type": "object", "properties": {}}, **more}


def offer(path: Path, *definitions: dict[str, Any]) -> None:
    """Let the server of this folder offer something else from now on."""
    (path / "definitions.json").write_text(json.dumps(definitions))


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def perform(name: str, arguments: dict[str, Any], out: Path) -> dict[str, Any]:
    if name == "hang":
        (out / "pid").write_text(str(os.getpid()))
        time.sleep(60)
    if name == "flood":
        while True:
            sys.stdout.write("x" * (1 << 20))
    if name == "leave":
        os._exit(3)
    if name == "tell":
        say({"id": 99, "method": "sampling/createMessage", "params": {}})
        say({"method": "notifications/tools/list_changed"})
        print("noise, and no message")
    text = {"environment": json.dumps(dict(os.environ)), "echo": arguments.get("text")}.get(name, f"did {name}")
    return {"content": [{"type": "text", "text": text}, {"type": "image", "data": ""}], "isError": name == "fail"}


def main() -> None:
    definitions = Path(sys.argv[1])
    for line in sys.stdin:
        message = json.loads(line)
        method, params = message.get("method"), message.get("params") or {}
        if method == "initialize":
            about = {"name": "shed", "version": "1"}
            result = {"protocolVersion": params["protocolVersion"], "capabilities": {"tools": {}}, "serverInfo": about}
            say({"id": message["id"], "result": result})
        elif method == "tools/list":
            listed = json.loads(definitions.read_text())
            place = int(params.get("cursor", 0))
            page = {"tools": listed[place : place + 2]}
            say(
                {
                    "id": message["id"],
                    "result": page | ({"nextCursor": str(place + 2)} if place + 2 < len(listed) else {}),
                }
            )
        elif method == "tools/call":
            say({"id": message["id"], "result": perform(params["name"], params["arguments"], definitions.parent)})


if __name__ == "__main__":
    main()
