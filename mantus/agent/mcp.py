"""Use the tools of MCP servers (Model Context Protocol: JSON-RPC over a server's standard input and output), as pinned.

It knows the few messages that tools need, not what the tools do. The protocol's own client is not used here: it checks
a server's results, in this process, against schemas that the server wrote, and one pattern there would hold the agent.
"""

import hashlib
import json
import os
import selectors
import shutil
import subprocess
import threading
import time
import unicodedata
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

import mantus
from mantus.agent.sandbox import DeadlineExceeded, kill_group
from mantus.agent.tools import Effect, Tool, ToolError
from mantus.processes import start_child
from mantus.text.grammar import ANNOTATIONS, KNOWN, check_tools

PROTOCOL = "2025-06-18"
MAX_MESSAGE_BYTES, MAX_PAGES, MAX_TOOLS = 4 << 20, 16, 256
MAX_NAME_CHARS, MAX_TEXT_CHARS, MAX_SCHEMA_CHARS, MAX_SCHEMA_DEPTH = 64, 1024, 16_384, 8
START_S = 20.0


class Server(BaseModel):
    """How to start a server, and what its tools may be trusted not to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    command: str
    args: list[str] = []
    env: dict[str, str] = {}
    effects: list[Effect] = list(Effect)
    """What its tools touch. The server's own word on that counts for nothing."""
    timeout_s: float = Field(default=30.0, gt=0)


class Connection:
    """One server's process: started when needed, killed with its children when it is too slow or says too much."""

    def __init__(self, name: str, server: Server) -> None:
        self.name, self.server = name, server
        self.pins: dict[str, str] = {}
        self._child: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        # A child that dies with its parent dies with the thread that started it, so one thread starts them all.
        self._starter = ThreadPoolExecutor(1)
        self._lines: deque[bytes] = deque()
        self._in, self._out, self._last_id = b"", bytearray(), 0

    def definitions(self) -> list[dict[str, Any]]:
        """The tools that the server offers now, as it describes them. ValueError when it does not answer."""
        try:
            with self._lock:
                return self._definitions(time.monotonic() + START_S)
        except (DeadlineExceeded, OSError, ToolError, ValueError) as error:
            self.close()
            reason = f": {error}" if str(error) else " in time"
            raise ValueError(f"MCP server {self.name}: it does not answer{reason}") from None

    def call(self, tool: str, arguments: dict[str, Any], seconds: float) -> str:
        """Call a tool; what it says. ToolError, DeadlineExceeded; after a failure the next call starts it afresh.

        The server's definitions are held against the pins whenever it has been started.
        """
        deadline = time.monotonic() + seconds
        if not self._lock.acquire(timeout=max(seconds, 0)):
            raise DeadlineExceeded
        try:
            if self._child is None:
                changed = drift(self._definitions(deadline), self.pins)
                if changed:
                    raise ChildProcessError(f"changed: {', '.join(changed)}")
            return _text(self._request("tools/call", {"name": tool, "arguments": arguments}, deadline))
        except (DeadlineExceeded, OSError, ValueError, KeyError, TypeError):
            self._kill()
            raise
        finally:
            self._lock.release()

    def close(self) -> None:
        """End the server."""
        self._kill()
        self._starter.shutdown(wait=False)

    def _definitions(self, deadline: float) -> list[dict[str, Any]]:
        if self._child is None:
            self._start(deadline)
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            page = self._request("tools/list", params, deadline)
            found += [dict(tool) for tool in page.get("tools", ())]
            if not page.get("nextCursor") or len(found) > MAX_TOOLS:
                break
            params = {"cursor": page["nextCursor"]}
        return found[:MAX_TOOLS]

    def _start(self, deadline: float) -> None:
        program = shutil.which(self.server.command)
        if program is None:
            raise ValueError(f"no program {self.server.command!r}")
        kept = {name: os.environ[name] for name in ("PATH", "LANG", "HOME", "TMPDIR") if name in os.environ}
        options: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        start = partial(start_child, env={**kept, **self.server.env}, start_new_session=True, **options)
        child = self._child = self._starter.submit(start, [program, *self.server.args]).result()
        assert child.stdin is not None
        assert child.stdout is not None
        os.set_blocking(child.stdin.fileno(), False)
        os.set_blocking(child.stdout.fileno(), False)
        self._in, self._out = b"", bytearray()
        self._lines.clear()
        about = {"name": "mantus", "version": mantus.__version__}
        hello = {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": about}
        self._request("initialize", hello, deadline)
        self._say({"method": "notifications/initialized"})

    def _request(self, method: str, params: dict[str, Any], deadline: float) -> dict[str, Any]:
        self._last_id += 1
        self._say({"id": self._last_id, "method": method, "params": params})
        for message in self._messages(deadline):
            if "method" in message and "id" in message:
                refusal = {"code": -32601, "message": "not offered"}
                ping = message["method"] == "ping"
                self._say({"id": message["id"], **({"result": {}} if ping else {"error": refusal})})
            elif message.get("id") == self._last_id and "method" not in message:
                if "error" in message:
                    raise ToolError(f"refused: {str(message['error'].get('message'))[:300]}")
                return dict(message["result"])
        raise AssertionError("messages end by raising")

    def _say(self, message: dict[str, Any]) -> None:
        self._out += json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"

    def _messages(self, deadline: float) -> Iterator[dict[str, Any]]:
        """What the server says, while what there is to say is sent; DeadlineExceeded, ChildProcessError."""
        heard = 0
        while True:
            while self._lines:
                with suppress(ValueError, RecursionError):  # a server's noise between its messages
                    message = json.loads(self._lines.popleft())
                    if isinstance(message, dict):
                        yield message
            heard += self._exchange(deadline)
            if heard > MAX_MESSAGE_BYTES:
                raise ChildProcessError("said too much")

    def _exchange(self, deadline: float) -> int:
        """Wait for the pipes, write what they take, read what they give: so many bytes."""
        assert self._child is not None
        left = deadline - time.monotonic()
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]
            if self._out:
                selector.register(self._child.stdin, selectors.EVENT_WRITE)  # type: ignore[arg-type]
            ready = selector.select(max(left, 0))
        if not ready or left <= 0:
            raise DeadlineExceeded
        size = 0
        for key, event in ready:
            if event == selectors.EVENT_WRITE:
                del self._out[: os.write(key.fd, self._out[:4096])]
            else:
                data = os.read(key.fd, 1 << 16)
                if not data:
                    raise ChildProcessError("has gone")
                *lines, self._in = (self._in + data).split(b"\n")
                self._lines.extend(lines)
                size += len(data)
        return size

    def _kill(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            kill_group(child)


def _text(result: dict[str, Any]) -> str:
    """What a result says in text; ToolError when it is an error."""
    parts = [part for part in result.get("content", ()) if isinstance(part, dict)]
    text = "\n".join(str(part["text"]) if "text" in part else f"[{part.get('type')}]" for part in parts)
    if not parts and "structuredContent" in result:
        text = json.dumps(result["structuredContent"], ensure_ascii=False)
    if result.get("isError"):
        raise ToolError(text)
    return text


def digest(definition: Mapping[str, Any]) -> str:
    """What a pin holds: the hash of everything about a tool that a model gets to read."""
    shown = {name: definition.get(name) for name in ("name", "description", "inputSchema")}
    return hashlib.sha256(json.dumps(shown, sort_keys=True).encode()).hexdigest()


def drift(definitions: list[dict[str, Any]], pins: Mapping[str, str]) -> list[str]:
    """The pinned tools that are gone or are not what they were."""
    now = {str(definition.get("name")): digest(definition) for definition in definitions}
    return [name for name, pinned in pins.items() if now.get(name) != pinned]


class Servers:
    """The servers of one file, `{"mcpServers": {name: {command, args, env, effects}}}`, and the pins beside it."""

    def __init__(self, path: Path) -> None:
        """ValueError names what is wrong with the file."""
        self.path, self.pin_path = path, path.with_suffix(".pins.json")
        try:
            listed = json.loads(path.read_text(encoding="utf-8"))["mcpServers"]
            found = {str(name): Server(**entry) for name, entry in listed.items()}
            pins = json.loads(self.pin_path.read_text(encoding="utf-8")) if self.pin_path.exists() else {}
        except ValidationError as error:
            first = error.errors()[0]
            raise ValueError(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise ValueError(
                f'{path}: expected JSON such as {{"mcpServers": {{"name": {{"command": ...}}}}}}'
            ) from None
        self.connections = [Connection(name, server) for name, server in found.items()]
        for connection in self.connections:
            connection.pins = dict(pins.get(connection.name, {}))

    def pin(self) -> dict[str, list[dict[str, Any]]]:
        """Hold fast what the servers offer now, for a person to look at: their definitions."""
        found = {connection.name: connection.definitions() for connection in self.connections}
        pins = {name: {str(d.get("name")): digest(d) for d in definitions} for name, definitions in found.items()}
        self.pin_path.write_text(json.dumps(pins, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        return found

    def tools(self) -> list[Tool]:
        """The pinned tools. ValueError when a definition is not what was pinned, or nothing is."""
        made = []
        for connection in self.connections:
            if not connection.pins:
                raise ValueError(f"MCP server {connection.name}: not pinned yet; look at its tools with --pin")
            definitions = connection.definitions()
            changed = drift(definitions, connection.pins)
            if changed:
                names = ", ".join(map(repr, changed))
                raise ValueError(f"MCP server {connection.name}: changed since it was pinned: {names}; see --pin")
            made += [make_tool(connection, d) for d in definitions if d.get("name") in connection.pins]
        return made

    def close(self) -> None:
        """End the servers."""
        for connection in self.connections:
            connection.close()


def make_tool(connection: Connection, definition: Mapping[str, Any]) -> Tool:
    """A server's tool as one of ours, named server__tool. ValueError when it cannot be offered to a model."""
    own = str(definition.get("name"))
    name = f"{connection.name}__{own}"
    if len(name) > MAX_NAME_CHARS or not all(
        letter.isascii() and (letter.isalnum() or letter in "_-") for letter in name
    ):
        raise ValueError(f"MCP tool {clean(name)}: a name has at most {MAX_NAME_CHARS} letters, digits, _ and -")
    schema = definition.get("inputSchema")
    if not isinstance(schema, dict) or len(json.dumps(schema)) > MAX_SCHEMA_CHARS:
        raise ValueError(f"MCP tool {name}: its schema is no object, or longer than {MAX_SCHEMA_CHARS} characters")
    parameters = simplified({**schema, "type": "object"}, schema.get("$defs") or schema.get("definitions") or {}, 0)
    parameters.setdefault("properties", {})
    description = clean(str(definition.get("description") or ""))
    server = connection.server
    call = partial(connection.call, own)
    made = Tool(name, description, parameters, _elsewhere, frozenset(server.effects), server.timeout_s, remote=call)
    check_tools([made.schema()])
    return made


def _elsewhere(**_: Any) -> str:
    raise AssertionError("the tools of a server run there")


def clean(text: str) -> str:
    """Text without what people do not see and models read: control, zero-width, tag and direction characters."""
    seen = (letter for letter in text if letter in "\n\t" or unicodedata.category(letter)[0] != "C")
    return "".join(seen)[:MAX_TEXT_CHARS]


def simplified(schema: Any, definitions: Any, depth: int) -> dict[str, Any]:
    """A schema with only what a grammar can hold a model to; the server checks the rest itself.

    Patterns (which may take for ever) and references elsewhere (which would be fetched) are gone with it.
    """
    if not isinstance(schema, dict) or depth > MAX_SCHEMA_DEPTH:
        return {"type": "string"}
    if isinstance(schema.get("$ref"), str):
        target = schema["$ref"].rpartition("/")[2]
        found = definitions.get(target) if isinstance(definitions, dict) else None
        return simplified(found, definitions, depth + 1)
    for key in ("anyOf", "oneOf"):
        if isinstance(schema.get(key), list) and schema[key]:
            return {"anyOf": [simplified(item, definitions, depth + 1) for item in schema[key]]}
    told = {"description": clean(str(schema["description"]))} if "description" in schema else {}
    if isinstance(schema.get("enum"), list) and schema["enum"]:
        return {**told, "enum": schema["enum"]}
    if "const" in schema:
        return {**told, "const": schema["const"]}
    kind = schema.get("type") if isinstance(schema.get("type"), str | list) else "string"
    kinds = [one for one in (kind if isinstance(kind, list) else [kind]) if one in KNOWN] or ["string"]
    kept = {key for one in kinds for key in KNOWN[one]} - ANNOTATIONS - {"properties", "items", "additionalProperties"}
    made = {"type": kinds[0] if len(kinds) == 1 else kinds, **told}
    made |= {key: schema[key] for key in kept if isinstance(schema.get(key), int | list)}
    if "object" in kinds and isinstance(schema.get("properties"), dict):
        made["properties"] = {
            clean(key): simplified(item, definitions, depth + 1) for key, item in schema["properties"].items()
        }
    if "array" in kinds:
        made["items"] = simplified(schema.get("items") or {}, definitions, depth + 1)
    return made
