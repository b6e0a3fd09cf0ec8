"""Training on nodes that share nothing but a store: pods' processes on this machine, with caches of their own."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

from mantus.processes import num_processors
from mantus.serving.local import free_port
from mantus.storage import open_store
from mantus.training.pretrain import PretrainConfig, run
from tests.conftest import SMALL

NODES: dict[str, Any] = {**SMALL, "steps": 120, "processes": 2, "upload_checkpoints": True}


def start_node(rank: int, port: int, folder: Path, settings: dict[str, Any]) -> subprocess.Popen:
    """A node with half of the processors, as each of two processes has: some round sums by their number of threads."""
    processors = sorted(os.sched_getaffinity(0))
    share = processors[rank % len(processors) :: 2][: max(1, num_processors() // 2)]
    told = {
        "PET_NNODES": "2",
        "PET_NPROC_PER_NODE": "1",
        "PET_NODE_RANK": str(rank),
        "PET_MASTER_ADDR": "127.0.0.1",
        "PET_MASTER_PORT": str(port),
        "MANTUS_CACHE": str(folder / f"node-{rank}"),
        "MANTUS_TASK": "pretrain",
        "MANTUS_TASK_SPEC": json.dumps({"verb": "pretrain", "settings": settings}),
    }
    node = "import os, sys; os.sched_setaffinity(0, map(int, sys.argv[1:])); "
    node += "from mantus.launch.jobs.pod import main; sys.exit(main())"
    command = [sys.executable, "-c", node, *map(str, share)]
    return subprocess.Popen(command, env={**os.environ, **told}, stderr=subprocess.PIPE, text=True)


def settings_of(inputs: dict[str, str], store: Path, **more: Any) -> dict[str, Any]:
    return {**inputs, "store": store.as_uri(), **NODES, **more}


def model_files(store: Path) -> dict[str, str]:
    manifest = json.loads(next((store / "model").glob("*/manifest.json")).read_text())
    return {entry["path"]: entry["sha256"] for entry in manifest["files"]}


def committed(store: Path) -> int:
    names = [item.name for item in open_store(store.as_uri()).list("checkpoint/") if item.name.endswith("COMMITTED")]
    return max((int(name.split("step-")[1][:9]) for name in names), default=0)


@pytest.fixture(scope="module")
def whole(inputs: dict[str, str]) -> dict[str, str]:
    """The files of the model that two processes on one machine make."""
    made = run(PretrainConfig(**inputs, **NODES))
    return {entry.path: entry.sha256 for entry in made.files}


def test_two_nodes_make_the_model_of_two_processes_and_one_of_them_commits(inputs, whole, tmp_path: Path):
    port = free_port()
    nodes = [start_node(rank, port, tmp_path, settings_of(inputs, tmp_path / "store")) for rank in (0, 1)]
    ends = [(node.wait(120), node.stderr.read()) for node in nodes]
    assert [code for code, _ in ends] == [0, 0], ends
    assert model_files(tmp_path / "store") == whole


@pytest.mark.slow
def test_a_node_that_vanishes_makes_the_other_try_again_and_the_model_is_the_same(inputs, whole, tmp_path: Path):
    port, store = free_port(), tmp_path / "store"
    nodes = [start_node(rank, port, tmp_path, settings_of(inputs, store)) for rank in (0, 1)]
    while committed(store) < 40:
        assert all(node.poll() is None for node in nodes)
        time.sleep(0.05)
    for process in [*psutil.Process(nodes[1].pid).children(recursive=True), psutil.Process(nodes[1].pid)]:
        process.send_signal(signal.SIGKILL)
    nodes[1].communicate()
    _, said = nodes[0].communicate(timeout=60)
    assert nodes[0].returncode == 143, said
    assert "training was interrupted" in said
    at = committed(store)
    assert 40 <= at < 120
    port = free_port()
    nodes = [start_node(rank, port, tmp_path / "fresh", settings_of(inputs, store)) for rank in (0, 1)]
    ends = [(node.wait(120), node.stderr.read()) for node in nodes]
    assert [code for code, _ in ends] == [0, 0], ends
    assert model_files(store) == whole


@pytest.mark.slow
def test_sigterm_to_one_node_stops_both_after_a_checkpoint(inputs, tmp_path: Path):
    port, store = free_port(), tmp_path / "store"
    long = settings_of(inputs, store, steps=2000, checkpoint_every=1000)
    nodes = [start_node(rank, port, tmp_path, long) for rank in (0, 1)]
    assert any(" of 2,000 steps loss " in line for line in nodes[0].stderr)  # it has begun
    nodes[1].terminate()
    ends = [(node.wait(90), node.stderr.read()) for node in nodes]
    assert [code for code, _ in ends] == [143, 143], ends
    assert 0 < committed(store) < 1000


def test_an_error_in_one_rank_is_final_and_told_with_its_traceback(inputs, tmp_path: Path):
    """A loss that is not a number: every rank sees it, the job must not be tried again."""
    port = free_port()
    wrong = settings_of(inputs, tmp_path / "store", lr=1e30, steps=30)
    nodes = [start_node(rank, port, tmp_path, wrong) for rank in (0, 1)]
    ends = [(node.wait(120), node.stderr.read()) for node in nodes]
    assert 1 in [code for code, _ in ends], ends
    said = next(text for code, text in ends if code == 1)
    assert "Traceback" in said
    assert "mantus: pretrain: training failed (rank" in said
