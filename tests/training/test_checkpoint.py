"""Checkpoints are written beside training, survive a store that fails, and are never read when they are not whole."""

import json
import shutil
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import torch

from mantus.model.config import resolve_size
from mantus.model.transformer import Transformer, init_weights
from mantus.storage import open_store
from mantus.storage.artifact import cache_root
from mantus.training.objectives.loss import NextToken
from mantus.training.pretrain import PretrainConfig
from mantus.training.strategies.checkpoint import COMMITTED, Checkpoints
from mantus.training.strategies.native import Replicas
from mantus.training.strategies.optim import make_optimizers
from tests.conftest import SMALL
from tests.training.test_training import begin, newest_step, wait_for_step


def strategy(seed: int) -> Replicas:
    model = Transformer(resolve_size("nano", 320, num_layers=1, hidden_size=64, num_heads=2, num_kv_heads=1))
    init_weights(model, seed)
    return Replicas(NextToken(model, torch.float32), make_optimizers(model, "adamw", 0.01, 0.1))


@pytest.fixture
def kept(tmp_path: Path) -> Checkpoints:
    """Two checkpoints, here and in a store."""
    checkpoints = Checkpoints(tmp_path / "here", 2, open_store((tmp_path / "store").as_uri()), "checkpoint/k")
    for step in (1, 2):
        checkpoints.save(step, strategy(step), {}, wait=True)
    return checkpoints


def test_the_newest_is_read_and_gives_the_same_weights(kept: Checkpoints):
    other = strategy(7)
    assert kept.load(other)["step"] == 2
    expected = strategy(2).weights()
    assert all(torch.equal(value, expected[name]) for name, value in other.weights().items())


def test_what_another_machine_lacks_comes_from_the_store(kept: Checkpoints):
    shutil.rmtree(kept.folder)
    assert kept.load(strategy(7))["step"] == 2


def test_one_cut_off_in_upload_is_skipped(kept: Checkpoints):
    shutil.rmtree(kept.folder)
    kept.store.delete(f"checkpoint/k/step-000000002/{COMMITTED}")
    assert kept.load(strategy(7))["step"] == 1


def test_a_damaged_one_is_skipped(kept: Checkpoints):
    for folder in (kept.folder, Path(urlsplit(kept.store.uri).path) / "checkpoint" / "k"):
        with next((folder / "step-000000002").glob("*.distcp")).open("r+b") as file:
            file.seek(1000)
            file.write(b"damage")
    assert kept.load(strategy(7))["step"] == 1


def test_a_full_disk_is_said_and_the_one_before_stays(kept: Checkpoints, monkeypatch: pytest.MonkeyPatch):
    broken = strategy(3)
    monkeypatch.setattr(broken, "snapshot", lambda folder, group: lambda: (folder / "x").write_text(full()))
    kept.save(3, broken, {})
    with pytest.raises(RuntimeError, match=r"checkpoint: .*No space left on device; the one before it is whole"):
        kept.finish()
    assert Checkpoints(kept.folder, 2).load(strategy(7))["step"] == 2


def full() -> str:
    """What the system says of a disk without room."""
    with open("/dev/full", "w") as file:
        file.write("x" * 100_000)
    return ""


class Gate:
    """A way to a server that can be shut: connections are then refused, and those there are cut."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.target = (parts.hostname, parts.port)
        self.pairs: list[socket.socket] = []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{self.listener.getsockname()[1]}"
        self.is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                client = self.listener.accept()[0]
                if not self.is_open:
                    client.close()
                    continue
                server = socket.create_connection(self.target)
                self.pairs += [client, server]
                for pair in ((client, server), (server, client)):
                    threading.Thread(target=self._copy, args=pair, daemon=True).start()

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(1 << 16):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)

    def shut(self) -> None:
        self.is_open = False
        for end in self.pairs:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


@pytest.fixture
def gate(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    made = Gate(s3["AWS_ENDPOINT_URL"])
    monkeypatch.setenv("AWS_ENDPOINT_URL", made.address)
    yield made
    made.listener.close()


@pytest.mark.parametrize("seconds", [6, pytest.param(60, marks=pytest.mark.slow)])
def test_a_store_that_fails_neither_stops_training_nor_loses_steps(seconds: int, inputs, own_cache, gate: Gate):
    settings = {**SMALL, "steps": 1_000_000, "checkpoint_every": 20, "log_every": 100, "evaluate_every": 0}
    store = f"s3://mantus/gate-{seconds}"
    child = begin(PretrainConfig(**{**inputs, "store": store}, **settings, upload_checkpoints=True))
    try:
        wait_for_step(100, child)
        gate.shut()
        before = newest_step()
        time.sleep(seconds)
        assert child.poll() is None
        gate.is_open = True
        reopened = newest_step()
        until_stored(store, reopened)
        slowest = max(json.loads(line)["step_seconds"] for line in metrics().read_text().splitlines()[100:-1])
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert reopened > before or newest_step() > before
    assert slowest < 5


def metrics() -> Path:
    [found] = (cache_root() / "work" / "model").glob("*/scratch/trackers/metrics.jsonl")
    return found


def until_stored(store: str, step: int) -> None:
    """Return when the store has a committed checkpoint of at least that step."""
    end = time.monotonic() + 90
    while time.monotonic() < end:
        names = [item.name for item in open_store(store).list("checkpoint/") if item.name.endswith(COMMITTED)]
        if max((int(name.split("/")[-2].removeprefix("step-")) for name in names), default=0) >= step:
            return
        time.sleep(0.5)
    raise AssertionError(f"no checkpoint of step {step} or later came to {store}")
