"""Debian's Chromium without a screen, by its debugging protocol: open a page, run code in it, look at it."""

import base64
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.sync.client import ClientConnection, connect

from mantus.processes import start_child, stop_child

PROGRAM = shutil.which("chromium")
needed = pytest.mark.skipif(PROGRAM is None, reason="no chromium here: apt-get install chromium")


class Page:
    """One open page."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._number = socket, 0
        self.requested: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Network", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method: str, **fields: Any) -> dict[str, Any]:
        """A command of the protocol; what it returns. Events that arrive meanwhile are noted."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": fields}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == self._number:
                assert "error" not in message, message
                return message["result"]
            if message.get("method") == "Network.requestWillBeSent":
                self.requested.append(message["params"]["request"]["url"])
            if message.get("method") == "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(message["params"]["exceptionDetails"]))

    def run(self, code: str) -> Any:
        """The value of JavaScript code."""
        done = self.call("Runtime.evaluate", expression=code, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in done, done
        return done["result"].get("value")

    def wait(self, code: str, seconds: float = 60) -> None:
        """Until the code is true."""
        end = time.monotonic() + seconds
        while not self.run(f"Boolean({code})"):
            assert time.monotonic() < end, f"{code} did not come true; {self.run('document.body.innerText')}"
            time.sleep(0.1)

    def hover(self, selector: str) -> None:
        """Move the mouse over the first such element."""
        box = self.run(
            f"(() => {{const b = document.querySelector({selector!r}).getBoundingClientRect();"
            " return [b.x + b.width / 2, b.y + b.height / 2];})()"
        )
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=box[0], y=box[1])

    def picture(self, path: Path) -> None:
        """A screenshot."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


@contextmanager
def opened(url: str, folder: Path) -> Iterator[Page]:
    """A browser of its own with the page in it."""
    profile = folder / "profile"
    words = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--window-size=1280,900"]
    with (folder / "log").open("wb") as log:
        command = [str(PROGRAM), *words, f"--user-data-dir={profile}", "about:blank"]
        process = start_child(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        port = _port(profile / "DevToolsActivePort", process, folder / "log")
        targets = httpx.get(f"http://127.0.0.1:{port}/json", trust_env=False).json()
        target = next(target for target in targets if target["type"] == "page")
        with connect(target["webSocketDebuggerUrl"], max_size=None) as socket:
            page = Page(socket)
            page.call("Page.navigate", url=url)
            page.wait("document.readyState === 'complete'")
            yield page
    finally:
        stop_child(process)


def _port(file: Path, process: subprocess.Popen[Any], log: Path) -> int:
    end = time.monotonic() + 60
    while not (file.is_file() and file.read_text().strip()):
        assert process.poll() is None, log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.1)
    return int(file.read_text().split()[0])
