"""The scripted endpoint, a client of it, and a search index over a few documents."""

import json
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mantus.agent.llm import MantusLLM
from mantus.agent.mcp import Servers
from tests.agent import mcp_shed
from tests.agent.endpoint import Endpoint
from tests.agent.website import Web


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    """A fresh endpoint; put its answers in with `then`."""
    with Endpoint.running() as server:
        yield server


@pytest.fixture
def llm(endpoint: Endpoint) -> Iterator[MantusLLM]:
    client = MantusLLM(endpoint.url, attempts=2, timeout_s=20)
    yield client
    client.close()


@pytest.fixture
def closed() -> Iterator[str]:
    """A URL where nobody listens: its port is taken, so that no other program gets it meanwhile."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield f"http://127.0.0.1:{taken.getsockname()[1]}/v1"


@pytest.fixture
def web() -> Iterator[Web]:
    """A site, and what was asked of it."""
    with Web() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def shed(tmp_path: Path) -> Iterator[mcp_shed.Open]:
    """Opens the file of a server that offers these definitions, pinned or not."""
    opened: list[Servers] = []

    def start(*definitions: dict[str, Any], pinned: bool = True, **more: Any) -> Servers:
        mcp_shed.offer(tmp_path, *definitions)
        server = {"command": sys.executable, "args": [mcp_shed.__file__, str(tmp_path / "definitions.json")], **more}
        (tmp_path / "servers.json").write_text(json.dumps({"mcpServers": {"shed": server}}))
        opened.append(Servers(tmp_path / "servers.json"))
        if pinned:
            opened[-1].pin()
            opened.append(Servers(tmp_path / "servers.json"))
        return opened[-1]

    yield start
    for servers in opened:
        servers.close()


RIVER = "The river rises in the hills. It runs through three valleys. Salmon climb it in the autumn. " * 3
BREAD = "Bread needs flour, water and salt. Knead the dough for ten minutes. Bake it until the crust is brown. " * 3
STARS = "A star is a ball of hot gas. Its colour tells its heat. Blue stars are hotter than red ones. " * 3


@pytest.fixture(scope="session")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a search index over three documents, in passages of twelve words."""
    import polars

    from mantus.agent.builtin.index import build

    rows = {
        "title": ["River", "Bread", "Stars"],
        "url": ["http://a/river", "http://a/bread", ""],
        "text": [RIVER, BREAD, STARS],
    }
    out = tmp_path_factory.mktemp("index")
    build(polars.DataFrame(rows), out, 12)
    return out
