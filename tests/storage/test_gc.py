"""Garbage is what no manifest vouches for and nobody writes to any more; all else stays."""

import subprocess
import sys
from pathlib import Path

import pytest

from mantus.storage import open_store
from mantus.storage.artifact import cache_root
from mantus.storage.gc import collect_garbage
from mantus.storage.phase import lock_folder
from tests.storage.maker import MakerConfig, run

KEY = "0123456789abcdef" * 2

pytestmark = pytest.mark.usefixtures("own_cache")


def test_half_written_artifacts_go_and_the_rest_stays(uri: str):
    made, store = run(MakerConfig(store=uri)), open_store(uri)
    for name in (f"model/{KEY}/model.safetensors", f"model/{KEY}/deep/er/file", "notes/readme.txt", f"{KEY}/x", "y"):
        store.put(name, b"x")
    kept = {item.name for item in store.list()} - {f"model/{KEY}/model.safetensors", f"model/{KEY}/deep/er/file"}
    assert collect_garbage(uri, 3600) == [], "somebody may be writing it now"
    assert collect_garbage(uri, -1) == [f"{store.uri}/model/{KEY}"]
    assert {item.name for item in store.list()} == kept
    assert run(MakerConfig(store=uri)).cached
    assert made.key
    assert collect_garbage(uri, -1) == []


def test_an_empty_or_absent_store_is_fine(tmp_path: Path):
    assert collect_garbage(str(tmp_path / "nowhere"), 0) == []


def test_stale_work_goes_unless_somebody_owns_it(tmp_path: Path):
    stale, owned, copy = (
        cache_root() / "work" / "model" / KEY,
        cache_root() / "work" / "model" / KEY[::-1],
        cache_root() / "artifacts" / "model" / ".part-x",
    )
    for folder in (stale, owned, copy):
        (folder / "scratch").mkdir(parents=True)
        (folder / "scratch" / "state").write_text("x")
    program = (
        "import sys; from pathlib import Path; from mantus.storage.phase import lock_folder\n"
        "with lock_folder(Path(sys.argv[1])) as mine: print(mine, flush=True); sys.stdin.read()"
    )
    root = Path(__file__).parent.parent.parent
    owner = subprocess.Popen(
        [sys.executable, "-c", program, str(owned)], cwd=root, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert owner.stdout is not None
    assert owner.stdout.readline() == "True\n"
    assert collect_garbage(str(tmp_path / "store"), 3600) == []
    assert collect_garbage(str(tmp_path / "store"), -1) == sorted([str(stale), str(copy)])
    assert not stale.exists()
    assert not copy.exists()
    assert (owned / "scratch" / "state").exists()
    owner.communicate()
    with lock_folder(owned) as free:
        assert free
    assert collect_garbage(str(tmp_path / "store"), -1) == [str(owned)]
