"""Whoever makes the shares of a data phase, and however often they are killed, the artifacts are the same bytes."""

import json
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest
import ray

from mantus.launch.cluster import Cluster
from mantus.launch.component import make
from mantus.launch.jobs import DIVIDED
from mantus.launch.jobs.raytasks import quantity
from mantus.processes import LOST
from mantus.storage import Manifest
from mantus.storage.artifact import describe_files
from mantus.storage.phase import MadeElsewhere
from tests.data.chain import VERBS, here, walk, write_sources
from tests.waiting import wait_for

ROOT = Path(__file__).parent.parent.parent
RAY = Cluster(executor="ray", shards=3)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sources."""
    made = tmp_path_factory.mktemp("sources")
    write_sources(made)
    return made


@pytest.fixture(scope="module", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    with pytest.MonkeyPatch.context() as patch:
        made = tmp_path_factory.mktemp("cache")
        patch.setenv("MANTUS_CACHE", str(made))
        yield made


@pytest.fixture(scope="module")
def alone(folder: Path, cache: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Manifest]:
    """What one process makes that is never disturbed."""
    return walk(folder, tmp_path_factory.mktemp("alone").as_uri(), workers=1)


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[psutil.Process]:
    """A Ray cluster of two processors, and this process; nothing of it is left afterwards."""
    short = Path("/tmp") / f"ray-{os.getpid()}"  # names of sockets have at most 107 characters
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_TMPDIR": str(short), "HOME": str(short), "RAY_USAGE_STATS_ENABLED": "0"}.items():
            patch.setenv(name, value)
        patch.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])))
        before = set(psutil.Process().children(recursive=True))
        ray.init("local", num_cpus=2, include_dashboard=False, object_store_memory=80 << 20, log_to_driver=False)
        own = set(psutil.Process().children(recursive=True)) - before
        assert own
        try:
            yield psutil.Process()
        finally:
            ray.shutdown()
            left = psutil.wait_procs(own, 15)[1]
            shutil.rmtree(short, ignore_errors=True)
            assert not left, "Ray outlives its test"


def same(made: dict[str, Manifest], alone: dict[str, Manifest]) -> None:
    for verb in VERBS:
        assert made[verb].files == alone[verb].files, verb
        assert made[verb].stats == alone[verb].stats, verb


def test_the_corpus_has_parts_and_copies(alone: dict[str, Manifest]):
    assert sum(entry.path.startswith("part-") for entry in alone["clean"].files) == 8
    assert alone["dedup"].stats["dropped"]["near duplicate"]["documents"] > 50
    assert alone["tokenize"].stats["documents"] == alone["dedup"].stats["documents"]


@pytest.mark.parametrize("workers", [2, pytest.param(7, marks=pytest.mark.slow)])
def test_workers(folder: Path, alone, tmp_path: Path, workers: int):
    same(walk(folder, tmp_path.as_uri(), workers=workers), alone)


def test_pods_of_an_indexed_job(folder: Path, alone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def as_pods(verb: str, settings: dict[str, Any]) -> Manifest:
        if verb not in DIVIDED:
            return here(verb, settings)
        with monkeypatch.context() as patch:
            patch.setenv("MANTUS_SHARDS", "3")
            for index in (2, 0):
                patch.setenv("JOB_COMPLETION_INDEX", str(index))
                # So small a corpus is one group to tokenize: the pod that has it makes all.
                with suppress(MadeElsewhere) if verb == "tokenize" else pytest.raises(MadeElsewhere):
                    here(verb, settings)
            patch.setenv("JOB_COMPLETION_INDEX", "1")
            return here(verb, settings)

    same(walk(folder, tmp_path.as_uri(), as_pods), alone)


def on_ray(verb: str, settings: dict[str, Any]) -> Manifest:
    return make(verb, verb, settings, RAY)


def test_tasks_of_ray(folder: Path, alone, tmp_path: Path, cluster, cache: Path):
    same(walk(folder, tmp_path.as_uri(), on_ray), alone)
    assert not list((tmp_path / "shares").rglob("*")), "shares are forgotten"
    assert not [path for path in (cache / "work").rglob("*") if path.is_file()], "no share leaves texts behind"


def test_wrong_input_on_ray_is_the_users_error(tmp_path: Path, cluster):
    (tmp_path / "a.jsonl").write_text('{"other": 1}\n')
    sources = [{"type": "jsonl", "path": str(tmp_path / "a.jsonl")}]
    with pytest.raises(ValueError, match=r"^sources\[0\] \(a\.jsonl\): gave no documents: no field 'text' \(1\)$"):
        on_ray("collect", {"sources": sources, "store": str(tmp_path / "store")})


def workers_of(process: psutil.Process, *signs: str) -> list[psutil.Process]:
    """Live descendants whose command has one of the signs."""
    found = []
    for child in process.children(recursive=True):
        try:
            if any(sign in " ".join(child.cmdline()) for sign in signs):
                found.append(child)
        except psutil.Error:
            pass  # it has just ended
    return found


@dataclass
class Killer:
    """Runs the chain as a program, kills what it is told to at random moments, and runs it again until it ends well."""

    folder: Path
    home: Path
    chance: random.Random
    killed: Counter[str] = field(default_factory=Counter)
    runs: int = 0

    def chain(self, wanted: int) -> None:
        """One whole chain in a fresh store; workers are killed as long as fewer than `wanted` were."""
        self.runs += 1
        while True:
            run = self._start()
            said = self._disturb(run, wanted)
            if run.returncode == 0:
                return
            assert run.returncode == -9 or LOST in said.splitlines()[-1], said

    @property
    def store(self) -> Path:
        return self.home / f"store-{self.runs}"

    def _start(self) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "tests.data.chain", str(self.folder), self.store.as_uri(), "3"]
        environment = {**os.environ, "MANTUS_CACHE": str(self.home / f"cache-{self.runs}")}
        return subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True)

    def _disturb(self, run: subprocess.Popen[str], wanted: int) -> str:
        process = psutil.Process(run.pid)
        while run.poll() is None and self.killed["worker"] < wanted:
            time.sleep(self.chance.uniform(0, 1))
            found = workers_of(process, "spawn_main") if run.poll() is None else []
            if found and self.chance.random() < 0.2:
                self._kill_parent(process, found)
            elif found:
                self.chance.choice(found).kill()
                self.killed["worker"] += 1
        return run.communicate()[1]

    def _kill_parent(self, process: psutil.Process, workers: list[psutil.Process]) -> None:
        process.kill()
        self.killed["parent"] += 1
        assert not psutil.wait_procs(workers, 10)[1], "workers outlive their parent"


def disturbed(folder: Path, home: Path, alone: dict[str, Manifest], wanted: int) -> Counter[str]:
    """Chains until so many workers were killed, each with the bytes of the undisturbed one; what was killed."""
    killer = Killer(folder, home, random.Random(7))
    while killer.killed["worker"] < wanted:
        killer.chain(wanted)
        for verb, made in alone.items():
            kind, key = made.uri.split("/")[-2:]
            found = describe_files(killer.store / kind / key)
            assert [entry for entry in found if entry.path != "manifest.json"] == made.files, verb
    return killer.killed


def test_three_workers_killed(folder: Path, alone, tmp_path: Path):
    assert disturbed(folder, tmp_path, alone, 3)["worker"] == 3


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_twenty_workers_killed(folder: Path, alone, tmp_path: Path):
    killed = disturbed(folder, tmp_path, alone, 20)
    print(f"killed: {dict(killed)}")
    assert killed["worker"] == 20
    assert killed["parent"] > 0


def test_a_killed_run_leaves_no_worker_and_the_next_one_finds_its_pieces(folder: Path, tmp_path: Path):
    killer = Killer(folder, tmp_path, random.Random(1), runs=1)
    run = killer._start()
    work = tmp_path / "cache-1" / "work"
    assert wait_for(lambda: len(list(work.rglob("done.json"))) > 1 or run.poll() is not None, 60)
    workers = workers_of(psutil.Process(run.pid), "spawn_main")
    run.kill()
    run.communicate()
    assert not psutil.wait_procs(workers, 10)[1]
    finished = {path: path.stat().st_ino for path in work.rglob("done.json")}
    assert finished
    again = killer._start()
    seen = 0
    while list(work.glob("corpus/*/scratch")):
        for path, number in finished.items():
            if path.exists():
                assert path.stat().st_ino == number, "a finished piece was made anew"
                seen += 1
        time.sleep(0.01)
    assert seen
    again.kill()
    again.communicate()


class Reaper(threading.Thread):
    """Kills so many processes of Ray's tasks at random moments."""

    def __init__(self, cluster: psutil.Process, wanted: int):
        super().__init__(daemon=True)
        self.cluster, self.wanted, self.killed, self.over = cluster, wanted, Counter[str](), threading.Event()

    def run(self) -> None:
        chance = random.Random(3)
        while self.killed.total() < self.wanted and not self.over.wait(chance.uniform(0.2, 1.5)):
            sign = chance.choice(["ray::Share", "mantus.launch.jobs.pod"])
            if found := workers_of(self.cluster, sign):
                chance.choice(found).kill()
                self.killed[sign] += 1


@pytest.mark.slow
def test_tasks_of_ray_killed(folder: Path, alone, tmp_path: Path, cluster):
    reaper = Reaper(cluster, 4)
    reaper.start()
    made = walk(folder, tmp_path.as_uri(), on_ray)
    reaper.over.set()
    reaper.join()
    assert reaper.killed.total() > 1
    same(made, alone)


@pytest.mark.slow
def test_a_killed_driver_leaves_nothing_of_its_own_ray(folder: Path, tmp_path: Path):
    sources = json.dumps([{"type": "jsonl", "path": str(path)} for path in folder.glob("*.jsonl")])
    command = [sys.executable, "-m", "mantus.cli", "collect", "--sources", sources, "--store", str(tmp_path / "store")]
    home = {"HOME": str(tmp_path), "MANTUS_CACHE": str(tmp_path / "cache")}
    run = subprocess.Popen([*command, "--cluster", '{"executor": "ray"}'], cwd=ROOT, env={**os.environ, **home})
    process = psutil.Process(run.pid)
    assert wait_for(lambda: bool(workers_of(process, "mantus.launch.jobs.pod")) or run.poll() is not None, 90)
    family = process.children(recursive=True)
    assert family
    run.kill()
    run.wait()
    left = {child.name() for child in psutil.wait_procs(family, 30)[1]}
    assert left <= {"ray::DashboardAgent", "ray::RuntimeEnvAgent"}, "they wait a minute for the head to answer"
    assert not psutil.wait_procs(family, 120)[1]


def test_a_ray_cluster_that_is_not_there_is_one_line(tmp_path: Path, folder: Path):
    sources = json.dumps([{"type": "jsonl", "path": str(folder / "0.jsonl")}])
    command = [sys.executable, "-m", "mantus.cli", "collect", "--sources", sources, "--store", str(tmp_path / "store")]
    place = '{"executor": "ray", "ray_address": "127.0.0.1:1"}'
    done = subprocess.run([*command, "--cluster", place], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert done.stderr.startswith("mantus: cluster.ray_address: 127.0.0.1:1: no Ray cluster answers there (")
    assert len(done.stderr.splitlines()) == 1


def test_quantities():
    assert [quantity(text) for text in ("500m", "2", "1.5", "4Gi", "1k")] == [0.5, 2, 1.5, 4 << 30, 1000]
    with pytest.raises(ValueError, match="'two' is no quantity"):
        quantity("two")
