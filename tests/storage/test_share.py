"""Pods of an Indexed Job divide the work of a phase; the last one gathers and commits what one process would."""

import random
import subprocess
import sys
from pathlib import Path

import pytest

from mantus.data.clean import CleanConfig
from mantus.data.clean import run as clean
from mantus.data.collect import CollectConfig
from mantus.data.collect import run as collect
from mantus.data.conversations.values import WORDS
from mantus.storage import Manifest, open_store
from mantus.storage.phase import MadeElsewhere
from mantus.storage.share import forget, share


@pytest.fixture
def sources(tmp_path: Path) -> list[dict[str, str]]:
    """Five files of prose, each a source of its own."""
    chance = random.Random(1)
    for number in range(5):
        lines = (f"The {' '.join(chance.choices(WORDS, k=9))} of the {chance.choice(WORDS)}." for _ in range(60))
        (tmp_path / f"{number}.txt").write_text("\n".join(lines))
    return [{"type": "text", "path": str(tmp_path / f"{number}.txt"), "license": "CC0-1.0"} for number in range(5)]


def as_pods(monkeypatch: pytest.MonkeyPatch, run, config, num: int, order: list[int], caches: Path) -> Manifest:
    """Run a phase as each pod in turn, each with its own cache; all but the last must leave it to another."""
    monkeypatch.setenv("MANTUS_SHARDS", str(num))
    for index in order[:-1]:
        monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
        monkeypatch.setenv("MANTUS_CACHE", str(caches / str(index)))
        with pytest.raises(MadeElsewhere):
            run(config)
    monkeypatch.setenv("JOB_COMPLETION_INDEX", str(order[-1]))
    monkeypatch.setenv("MANTUS_CACHE", str(caches / str(order[-1])))
    made: Manifest = run(config)
    monkeypatch.delenv("MANTUS_SHARDS")
    return made


def files(manifest: Manifest) -> dict[str, str]:
    return {entry.path: entry.sha256 for entry in manifest.files}


@pytest.mark.parametrize("order", [[0, 1, 2], [2, 0, 1]])
def test_pods_together_make_what_one_process_makes(sources, order, s3, tmp_path: Path, monkeypatch):
    alone, shared = (tmp_path / "alone").as_uri(), f"s3://mantus/share-{order[0]}"
    one = collect(CollectConfig(store=alone, sources=sources))
    many = as_pods(monkeypatch, collect, CollectConfig(store=shared, sources=sources), 3, order, tmp_path / "a")
    assert files(many) == files(one)
    assert many.stats == one.stats
    cleaned = clean(CleanConfig(store=alone, corpus=one.uri, min_words=5))
    config = CleanConfig(store=shared, corpus=many.uri, min_words=5)
    together = as_pods(monkeypatch, clean, config, 3, order, tmp_path / "b")
    assert files(together) == files(cleaned)
    assert together.stats == cleaned.stats
    store = open_store(shared)
    assert list(store.list(f"shares/{together.key}/"))
    forget(store, together.key)
    assert not list(store.list(f"shares/{together.key}/"))


def test_a_process_alone_has_the_whole_share(monkeypatch):
    assert share(3) == [0, 1, 2]
    monkeypatch.setenv("MANTUS_SHARDS", "2")
    monkeypatch.setenv("JOB_COMPLETION_INDEX", "1")
    assert share(5) == [1, 3]
    assert share(1) == []


def test_the_module_that_divides_work_does_not_import_phases():
    program = "import sys, mantus.storage.share; print([m for m in sys.modules if m.startswith('mantus.data')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
