"""Phases run once: keys, commits, kills, races, damage, stores that fail in the middle."""

import hashlib
import json
import multiprocessing
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import mantus
from mantus.storage import PhaseConfig, Store, StoreError, Work, execute, fetch, open_store, phase, read_manifest
from mantus.storage.artifact import DIGEST_BYTES, cache_root, digest_file
from mantus.storage.gc import collect_garbage
from mantus.storage.server import EmbeddedS3
from tests.storage.maker import NUM_FILES, MakerConfig, content, run

ROOT = Path(__file__).parent.parent.parent
NUM_KILLS = 10

pytestmark = pytest.mark.usefixtures("own_cache")


def start(uri: str, seconds: float) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "tests.storage.maker", uri, str(seconds)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> str:
    """What it said after it was ready; communicate() would lose what came in the same piece."""
    assert process.stdout is not None
    assert process.stderr is not None
    said, errors = process.stdout.read(), process.stderr.read()
    assert process.wait() == 0, errors
    return said


@pytest.mark.parametrize("size", [0, 1, DIGEST_BYTES, DIGEST_BYTES + 1])
def test_a_file_has_one_digest_however_many_pieces_it_is_read_in(size: int, tmp_path: Path):
    content = secrets.token_bytes(size)
    (tmp_path / "file").write_bytes(content)
    assert digest_file(tmp_path / "file") == hashlib.sha256(content).hexdigest()


def complete_or_absent(store: Store) -> int:
    """How many artifacts the store shows; every one of them is whole."""
    names = {item.name for item in store.list()}
    manifests = [name for name in names if name.endswith("/manifest.json")]
    for name in manifests:
        uri = f"{store.uri}/{name.removesuffix('/manifest.json')}"
        folder = fetch(uri, verify=True)
        for number in range(NUM_FILES):
            assert (folder / f"part-{number}.bin").read_bytes() == content(0, number)
    return len(manifests)


def test_made_once_then_found(uri: str):
    first = run(MakerConfig(store=uri))
    again = run(MakerConfig(store=uri))
    assert (first.cached, again.cached) == (False, True)
    assert again.uri == first.uri == f"{open_store(uri).uri}/made/{first.key}"
    assert again.files == first.files
    assert again.stats == {"files": NUM_FILES}
    assert again.config == {"seed": 0}
    assert not any((cache_root() / "work").rglob("*.bin")), "no work is left"


def test_the_stored_manifest_is_the_documented_one(uri: str):
    made = run(MakerConfig(store=uri))
    stored = json.loads(open_store(uri).get(f"made/{made.key}/manifest.json"))
    fields = "kind key mantus_version code_digest config inputs files stats created"
    assert set(stored) == set(fields.split())
    assert stored["files"][0].keys() == {"path", "bytes", "sha256"}


def test_what_changes_the_key(uri: str):
    base = run(MakerConfig(store=uri))
    assert run(MakerConfig(store=uri, seconds=0.001)).key == base.key, "runtime fields stay out"
    other = run(MakerConfig(store=uri, seed=1))
    assert other.key != base.key
    keys = {
        run(config).key
        for config in (
            MakerConfig(store=uri, first=base.uri),
            MakerConfig(store=uri, second=base.uri),
            MakerConfig(store=uri, first=base.uri, second=other.uri),
            MakerConfig(store=uri, first=other.uri, second=base.uri),
            MakerConfig(store=uri, many=[base.uri, other.uri]),
            MakerConfig(store=uri, many=[other.uri, base.uri]),
        )
    }
    assert len(keys) == 6, "which field an input fills matters, and the order of a list"


def test_an_input_counts_by_its_key_not_by_its_place(uri: str, tmp_path: Path):
    base = run(MakerConfig(store=uri))
    elsewhere = run(MakerConfig(store=str(tmp_path / "elsewhere")))
    assert elsewhere.key == base.key
    there, here = (run(MakerConfig(store=uri, first=manifest.uri)) for manifest in (elsewhere, base))
    assert there.key == here.key
    assert here.cached


def test_inputs_arrive_as_local_folders(uri: str):
    base = run(MakerConfig(store=uri))
    seen: dict[str, Any] = {}

    def produce(work: Work) -> dict[str, int]:
        seen.update(work.inputs)
        assert work.manifests["first"].key == base.key
        return {}

    config = MakerConfig(store=uri, first=base.uri, many=[base.uri, base.uri])
    made = execute("reader", config, produce)
    assert [reference.key for reference in made.inputs] == [base.key] * 3
    assert set(seen) == {"first", "many"}
    assert digest_file(seen["first"] / "part-0.bin") == base.files[0].sha256
    execute("reader", config.model_copy(update={"seed": 5}), lambda work: seen.update(n=work.inputs) or {}, None, False)
    assert seen["n"] == {}, "nothing is fetched for a phase that reads from the store itself"


def test_a_wrong_input_names_the_field(uri: str):
    with pytest.raises(ValueError, match=r"^first: .*nowhere: no artifact here"):
        run(MakerConfig(store=uri, first=f"{uri}/nowhere"))
    with pytest.raises(ValueError, match=r"^many: store 'http://x': expected"):
        run(MakerConfig(store=uri, many=["http://x"]))


@pytest.mark.parametrize("error", [FileNotFoundError("no such program"), PermissionError("not yours")])
def test_what_the_work_raises_comes_out_as_it_is(tmp_path: Path, error: OSError):
    def produce(_: Work) -> dict[str, Any]:
        raise error

    with pytest.raises(type(error)) as caught:
        execute("broken", MakerConfig(store=(tmp_path / "store").as_uri()), produce)
    assert caught.value is error


@pytest.mark.parametrize("kind", ["file", "s3"])
def test_killed_at_random_moments(kind: str, tmp_path: Path, request: pytest.FixtureRequest):
    """kill -9 in the middle of the work, ten times; then it completes, with the same bytes and no leftovers."""
    if kind == "s3":
        request.getfixturevalue("s3")
    uri = f"s3://mantus/{secrets.token_hex(8)}" if kind == "s3" else (tmp_path / "store").as_uri()
    store, chance = open_store(uri), random.Random(7)
    for _ in range(NUM_KILLS):
        child = start(uri, 0.2)
        time.sleep(chance.uniform(0.02, 0.6))
        child.send_signal(signal.SIGKILL)
        child.communicate()
        if complete_or_absent(store):
            shutil.rmtree(cache_root() / "artifacts", ignore_errors=True)
            for item in list(store.list()):
                store.delete(item.name)
    child = start(uri, 0)
    assert end(child).startswith("made ")
    assert complete_or_absent(store) == 1
    collect_garbage(uri, 0)  # a kill in the middle of throwing work away leaves it for gc
    assert not any((cache_root() / "work").rglob("*.bin"))


def test_scratch_outlives_a_kill_and_stale_output_does_not(tmp_path: Path):
    uri = (tmp_path / "store").as_uri()
    child = start(uri, 5)
    while not list(cache_root().glob("work/made/*/out/part-1.bin")):
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    child.communicate()
    [scratch] = cache_root().glob("work/made/*/scratch")
    assert (scratch / "starts").read_text() == "."
    counted = []

    def produce(work: Work) -> dict[str, int]:
        assert work.scratch == scratch
        counted.append((work.scratch / "starts").read_text())
        assert not any(work.out.iterdir())
        return {}

    key = scratch.parent.name
    with phase._own(scratch.parent, "made") as base:
        draft = phase.Manifest("made", key, f"{uri}/made/{key}", "", {}, [], [], {})
        phase._make(draft, produce, Work(base / "out", base / "scratch", {}, {}, key, open_store(uri)))
    assert counted == ["."]
    assert not scratch.exists()


def test_processes_that_want_the_same_make_it_once(uri: str):
    """All of them end well; one made it, the others waited and found it."""
    children = [start(uri, 0.5) for _ in range(3)]
    said = [end(child) for child in children]
    assert sorted(line.split()[0] for line in said) == ["cached", "cached", "made"]
    assert len({line.split()[1] for line in said}) == 1
    assert complete_or_absent(open_store(uri)) == 1


def _outlive() -> None:
    time.sleep(3)


def test_workers_that_outlive_a_killed_phase_do_not_keep_its_work(tmp_path: Path):
    folder = tmp_path / "work"
    ready = multiprocessing.get_context("fork").Event()

    def owner() -> None:
        with phase.lock_folder(folder) as owned:
            assert owned
            multiprocessing.get_context("fork").Process(target=_outlive).start()
            ready.set()
            time.sleep(30)

    process = multiprocessing.get_context("fork").Process(target=owner)
    process.start()
    assert ready.wait(10)
    with phase.lock_folder(folder) as owned:
        assert not owned
    process.kill()
    process.join()
    with phase.lock_folder(folder) as owned:
        assert owned


def test_a_script_without_a_main_guard_is_told(tmp_path: Path):
    script = tmp_path / "script.py"
    script.write_text(
        f"""
import operator
from mantus.processes import apply_apart
from mantus.storage import PhaseConfig, execute

execute(
    "sum", PhaseConfig(store={tmp_path.as_uri()!r}), lambda work: {{"sum": sum(apply_apart(operator.add, [(1, 2)], 1))}}
)
"""
    )
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "RuntimeError: sum: this script has no main guard; put its calls under" in done.stderr


def test_a_failing_phase_leaves_nothing_visible(uri: str):
    def produce(work: Work) -> dict[str, int]:
        (work.out / "half").write_bytes(b"half")
        (work.scratch / "kept").write_bytes(b"kept")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        execute("failing", MakerConfig(store=uri), produce)
    assert list(open_store(uri).list()) == []
    assert [path.name for path in (cache_root() / "work").rglob("*") if path.is_file()] in (
        ["lock", "kept"],
        ["kept", "lock"],
    )


def test_damage_is_detected(uri: str):
    made, store = run(MakerConfig(store=uri)), open_store(uri)
    name, folder = f"made/{made.key}/part-3.bin", f"{made.uri}: part-3.bin"
    shutil.rmtree(cache_root(), ignore_errors=True)
    right = store.get(name)
    store.put(name, right[:-1] + b"?")
    with pytest.raises(ValueError, match="does not match its digest"):
        fetch(made.uri, verify=True)
    store.put(name, right[:-1])
    with pytest.raises(ValueError, match="missing or has the wrong size"):
        fetch(made.uri)
    store.delete(name)
    with pytest.raises(ValueError, match="missing") as caught:
        fetch(made.uri)
    assert str(caught.value).startswith(folder)
    store.put(name, right)
    assert (fetch(made.uri, verify=True) / "part-3.bin").read_bytes() == right


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"kind": 1}', None], ids=["empty", "cut", "list", "bare", "wrong", "escaping"]
)
def test_a_damaged_manifest_is_one_line(tmp_path: Path, data: bytes | None):
    made = run(MakerConfig(store=str(tmp_path)))
    path = tmp_path / "made" / made.key / "manifest.json"
    path.write_bytes(path.read_bytes().replace(b"part-0.bin", b"../../../x") if data is None else data)
    with pytest.raises(ValueError, match=r"manifest\.json is damaged") as caught:
        read_manifest(made.uri)
    assert "\n" not in str(caught.value)


def test_a_damaged_copy_is_fetched_again(s3: dict[str, str]):
    made = run(MakerConfig(store=f"s3://mantus/{secrets.token_hex(8)}"))
    copy = fetch(made.uri)
    (copy / "part-2.bin").write_bytes(b"cut")
    assert fetch(made.uri) == copy
    (copy / "part-2.bin").write_bytes(content(0, 2)[:-1] + b"?")
    assert digest_file(fetch(made.uri, verify=True) / "part-2.bin") == made.files[2].sha256
    assert not list(copy.parent.glob(".part-*"))


def test_many_fetch_at_once(s3: dict[str, str]):
    """Every process-wide race of the cache: all get a whole copy, none loses the one it already reads."""
    made = run(MakerConfig(store=f"s3://mantus/{secrets.token_hex(8)}"))
    shutil.rmtree(cache_root() / "artifacts")
    held = []

    def read(_: int) -> None:
        folder = fetch(made.uri)
        held.append((folder / "part-0.bin").open("rb"))
        for number in range(NUM_FILES):
            assert (folder / f"part-{number}.bin").read_bytes() == content(0, number)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(read, range(12)))
    assert all(stream.read() == content(0, 0) for stream in held)
    for stream in held:
        stream.close()
    assert not list((cache_root() / "artifacts").glob("*/.part-*"))


def test_other_bytes_under_the_same_key_have_a_copy_of_their_own(s3: dict[str, str]):
    def make(text: str, store: str) -> str:
        def produce(work: Work) -> dict[str, int]:
            (work.out / "x").write_text(text)
            return {}

        return execute("impure", PhaseConfig(store=store), produce).uri

    one, two = (make(text, f"s3://mantus/{secrets.token_hex(8)}") for text in "12")
    assert one.rsplit("/", 1)[1] == two.rsplit("/", 1)[1]
    assert [(fetch(uri) / "x").read_text() for uri in (one, two)] == ["1", "2"]


def test_the_store_dies_in_the_middle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """One line, nothing visible; with the server back the same work completes."""
    server = EmbeddedS3(tmp_path / "s3")

    def produce(work: Work) -> dict[str, int]:
        for number in range(NUM_FILES):
            (work.out / f"part-{number}.bin").write_bytes(content(0, number))
        if not (work.scratch / "second").exists():
            (work.scratch / "second").touch()
            assert server.process is not None
            kill = threading.Timer(0.02, server.process.kill)
            kill.start()
        return {}

    with server as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with pytest.raises(StoreError, match=r"no answer from http://127\.0\.0\.1:\d+ \(\w+\); is it up\?$") as caught:
            execute("made", MakerConfig(store="s3://mantus/x"), produce)
        assert "\n" not in str(caught.value)
    with server as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        assert complete_or_absent(open_store("s3://mantus/x")) == 0
        execute("made", MakerConfig(store="s3://mantus/x"), produce)
        assert complete_or_absent(open_store("s3://mantus/x")) == 1


# -- what enters the code digest ---------------------------------------------------------------------------------------

SOURCES = {
    "one.py": "from mantus.trial import two\nfrom .three import x\nCSS = 'page.css'\n",
    "two.py": "def f():\n    import mantus.trial.four\n",
    "three.py": "x = 1\n",
    "four.py": "from mantus import console, storage\nfrom mantus.storage import fetch\n",
    "page.css": "a {}",
    "other.py": "y = 1\n",
    "__init__.py": "",
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the package with a module tree of our own in it."""
    root = tmp_path / "mantus"
    (root / "trial").mkdir(parents=True)
    for name in ("__init__.py", "console.py"):
        shutil.copy(ROOT / "mantus" / name, root / name)
    for name, text in SOURCES.items():
        (root / "trial" / name).write_text(text)
    monkeypatch.setattr(mantus, "__file__", str(root / "__init__.py"))
    return root


@pytest.mark.parametrize("name", ["one.py", "two.py", "three.py", "four.py", "page.css"])
def test_changed_code_changes_the_digest(package: Path, name: str):
    before = phase.module_digest("mantus.trial.one")
    assert phase.module_digest("mantus.trial.one") == before
    path = package / "trial" / name
    path.write_text(path.read_text() + "\n")
    assert phase.module_digest("mantus.trial.one") != before


@pytest.mark.parametrize("name", ["trial/other.py", "console.py", "__init__.py"])
def test_code_that_is_not_used_does_not(package: Path, name: str):
    before = phase.module_digest("mantus.trial.one")
    (package / name).write_text("changed = 1\n")
    assert phase.module_digest("mantus.trial.one") == before


def test_a_digest_imports_nothing():
    program = (
        "import sys\nfrom mantus.storage.phase import module_digest\nbefore = set(sys.modules)\n"
        "module_digest('mantus.data.clean')\nprint(*(m for m in set(sys.modules) - before if m.startswith('mantus')))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_changed_code_makes_a_new_artifact(tmp_path: Path):
    """The same config through an edited module."""
    folder = tmp_path / "code"
    folder.mkdir()
    source = (ROOT / "tests" / "storage" / "maker.py").read_text()
    keys = []
    for text in (source, source, source.replace("30_000", "30_001")):
        (folder / "maker.py").write_text(text)
        command = [sys.executable, str(folder / "maker.py"), str(tmp_path / "store"), "0"]
        done = subprocess.run(
            command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=True
        )
        keys.append(done.stdout.splitlines()[-1].split())
    assert [word for word, _ in keys] == ["made", "cached", "made"]
    assert len({key for _, key in keys}) == 2


def test_config_errors_are_one_line():
    with pytest.raises(ValueError, match=r"^made\.seed: input should be a valid integer.*\(got 'x'\)$"):
        MakerConfig.parse({"seed": "x"}, "made")
    with pytest.raises(ValueError, match=r"^made\.sed: extra inputs are not permitted \(got 1\)$"):
        MakerConfig.parse({"sed": 1}, "made")
    assert phase.input_field_names(MakerConfig) == {"first": False, "second": False, "many": True}
    open_store(PhaseConfig().store)
