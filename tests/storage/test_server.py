"""The embedded server: it starts fast, keeps what it was given, ends with its run, and tells nobody its keys."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from mantus.storage import StoreError, open_store, server
from mantus.storage.objects import S3Store, s3_client
from mantus.storage.server import EmbeddedS3
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent

HOLDER = """
import sys
from pathlib import Path
from mantus.storage.objects import S3Store, s3_client
from mantus.storage.server import EmbeddedS3
with EmbeddedS3(Path(sys.argv[1])) as environment:
    store = S3Store("mantus", "", s3_client(environment))
    for number in range(1_000_000):
        store.put(f"object-{number:06}", f"{number} ".encode() * 2000)
        print(number, flush=True)
"""


def use(environment: dict[str, str]) -> S3Store:
    return S3Store("mantus", "", s3_client(environment))


def servers_on(folder: Path) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter(["name", "cmdline"]):
        if process.info["name"] == "weed" and any(str(folder) in word for word in process.info["cmdline"] or ()):
            found.append(process)
    return found


@pytest.fixture
def holder(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of its own with a server under `tmp_path`, writing one object after the other."""
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    yield process
    process.kill()
    process.communicate()


def acknowledged(process: subprocess.Popen[str], num: int) -> int:
    """Read until `num` writes are acknowledged; the number of the last."""
    assert process.stdout is not None
    for _ in range(num):
        last = int(process.stdout.readline())
    return last


def test_keeps_data_and_is_gone_after_it_stopped(tmp_path: Path):
    known = set()
    for number in range(2):
        with EmbeddedS3(tmp_path / "a folder") as environment:
            known.add(environment["AWS_SECRET_ACCESS_KEY"])
            store = use(environment)
            assert [item.name for item in store.list()] == [f"x/{n}" for n in range(number)]
            store.put(f"x/{number}", b"kept")
        assert servers_on(tmp_path) == []
    assert len(known) == 2, "each start has its own credentials"


def test_listens_on_loopback_only_and_keeps_its_keys(tmp_path: Path):
    with EmbeddedS3(tmp_path) as environment:
        [process] = servers_on(tmp_path)
        listening = [c.laddr.ip for c in process.connections("inet") if c.status == psutil.CONN_LISTEN]
        assert set(listening) == {"127.0.0.1"}
        assert len(listening) == len(server.LISTENERS)
        secrets = {environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]}
        written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
        said = " ".join(process.cmdline()) + str(process.environ())
        for secret in secrets:
            assert secret.encode() not in written
            assert secret not in said
        anonymous = {**environment, "AWS_ACCESS_KEY_ID": "other", "AWS_SECRET_ACCESS_KEY": "other"}
        with pytest.raises(StoreError, match="check bucket and credentials"):
            use(anonymous).put("x", b"")


def test_kill_minus_nine_takes_the_server_along_and_loses_nothing(tmp_path: Path, holder: subprocess.Popen[str]):
    """Every write that was acknowledged before the kill is there after it."""
    last = acknowledged(holder, 200)
    holder.send_signal(signal.SIGKILL)
    assert wait_for(lambda: not servers_on(tmp_path), 5)
    assert holder.stdout is not None
    last = max([last, *(int(line) for line in holder.stdout.read().split())])  # communicate() loses what is buffered
    with EmbeddedS3(tmp_path) as environment:
        store = use(environment)
        for number in range(last + 1):
            assert store.get(f"object-{number:06}") == f"{number} ".encode() * 2000


def test_interrupt_stops_both(tmp_path: Path, holder: subprocess.Popen[str]):
    acknowledged(holder, 3)
    [process] = servers_on(tmp_path)
    assert os.getpgid(process.pid) != os.getpgid(holder.pid), "Ctrl-C reaches the run first"
    holder.send_signal(signal.SIGINT)
    _, errors = holder.communicate(timeout=10)
    assert "KeyboardInterrupt" in errors
    assert servers_on(tmp_path) == []


def test_one_run_at_a_time(tmp_path: Path, holder: subprocess.Popen[str], monkeypatch: pytest.MonkeyPatch):
    acknowledged(holder, 1)
    monkeypatch.setattr(server, "LOCK_TIMEOUT_S", 0.2)
    with pytest.raises(StoreError, match="another run uses this embedded S3 server"), EmbeddedS3(tmp_path):
        pass
    assert len(servers_on(tmp_path)) == 1
    acknowledged(holder, 1)


@pytest.mark.parametrize("taken", range(len(server.LISTENERS)), ids=server.LISTENERS)
def test_a_port_that_is_taken_meanwhile(tmp_path: Path, taken: int, monkeypatch: pytest.MonkeyPatch):
    """Another process binds one of the ports between choice and use: the start is tried again."""
    choose, chosen = server._free_ports, []

    def unlucky(num: int) -> list[int]:
        ports = choose(num)
        if not chosen:
            blocker.bind(("127.0.0.1", ports[taken]))
            blocker.listen()
        chosen.append(ports)
        return ports

    monkeypatch.setattr(server, "_free_ports", unlucky)
    with socket.socket() as blocker, EmbeddedS3(tmp_path) as environment:
        use(environment).put("x", b"1")
        assert use(environment).get("x") == b"1"
        assert len(chosen) == 2


def test_a_folder_that_cannot_be_used_is_one_line(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match=r"file.*: the embedded S3 server cannot use this folder") as caught:
        EmbeddedS3(tmp_path / "file").__enter__()
    assert "\n" not in str(caught.value)


def test_a_server_that_cannot_start_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "data" / "filerldb2").mkdir(parents=True)
    (tmp_path / "data" / "filerldb2" / "00").write_text("in the way")
    monkeypatch.setattr(server, "NUM_ATTEMPTS", 1)
    monkeypatch.setattr(server, "START_TIMEOUT_S", 3)
    with pytest.raises(StoreError, match=r"does not start: .*server\.log") as caught:
        EmbeddedS3(tmp_path).__enter__()
    assert "\n" not in str(caught.value)
    assert servers_on(tmp_path) == []


def test_a_full_disk_is_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(disk)], capture_output=True)
    if mounted.returncode != 0:
        pytest.skip("mounting a small file system needs root")
    try:
        with EmbeddedS3(disk) as environment:
            for name, value in environment.items():
                monkeypatch.setenv(name, value)
            store = open_store("s3://mantus/x")
            store.put("before", b"b" * 100_000)
            (tmp_path / "big").write_bytes(os.urandom(200 << 20))
            with pytest.raises(StoreError, match="is its disk full") as caught:
                store.upload(tmp_path / "big", "big")
            assert re.fullmatch(r"s3://mantus/x/big: .*", str(caught.value))
            assert [item.name for item in store.list()] == ["before"]
            assert store.get("before") == b"b" * 100_000
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_the_program_is_found():
    assert server.find_program().name == "weed"
