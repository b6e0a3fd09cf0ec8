"""What a tool may touch: files beneath one folder, and nothing of the host from its child process."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from mantus.agent.sandbox import MAX_DEPTH, MAX_FILE_BYTES, MAX_RESULT_CHARS, DeadlineExceeded, open_beneath, run_child
from mantus.agent.tools import ToolError
from tests.agent.toolshed import is_free, is_soon

SHED = "tests.agent.toolshed"
CREATE = os.O_WRONLY | os.O_CREAT


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A working folder with one file, beside a file and a folder that are none of its business."""
    (tmp_path / "secret.txt").write_text("secret")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "a.txt").write_text("secret")
    inside = tmp_path / "inside"
    (inside / "folder").mkdir(parents=True)
    (inside / "a.txt").write_text("a")
    return inside


def contents(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("path", ["a.txt", "./a.txt", "folder/./b.txt", "folder//b.txt"])
def test_plain_files_open(root: Path, path: str):
    (root / "folder" / "b.txt").write_text("b")
    with os.fdopen(open_beneath(root, path, os.O_RDONLY)) as stream:
        assert stream.read() == Path(path).stem


@pytest.mark.parametrize(
    "path",
    ["", ".", "/", "..", "../secret.txt", "folder/../../secret.txt", "folder/..", "folder/", "a\0.txt", "/etc/passwd"],
)
def test_a_path_that_leaves_or_names_no_file_is_refused(root: Path, path: str):
    before = contents(root.parent)
    for flags in (os.O_RDONLY, CREATE):
        with pytest.raises(ToolError, match="must name a file in the working folder"):
            open_beneath(root, path, flags, make_folders=True)
    assert contents(root.parent) == before


def test_an_absolute_path_is_refused_even_when_it_lies_inside(root: Path):
    with pytest.raises(ToolError, match="must name a file in the working folder"):
        open_beneath(root, str(root / "a.txt"), os.O_RDONLY)


def soft_file(root: Path) -> str:
    (root / "link").symlink_to(root.parent / "secret.txt")
    return "link"


def soft_folder(root: Path) -> str:
    (root / "link").symlink_to(root.parent / "outside")
    return "link/a.txt"


def soft_inside(root: Path) -> str:
    (root / "link").symlink_to("a.txt")
    return "link"


def dangling(root: Path) -> str:
    (root / "link").symlink_to(root.parent / "new.txt")
    return "link"


def hard(root: Path) -> str:
    os.link(root.parent / "secret.txt", root / "link")
    return "link"


def pipe(root: Path) -> str:
    os.mkfifo(root / "pipe")
    return "pipe"


def folder(root: Path) -> str:
    return "folder"


def file_as_folder(root: Path) -> str:
    return "a.txt/b.txt"


def long_name(root: Path) -> str:
    return "x" * 300


def half_a_character(root: Path) -> str:
    return "\ud83d.txt"


ODD = [soft_file, soft_folder, soft_inside, dangling, hard, pipe, folder, file_as_folder, long_name, half_a_character]


@pytest.mark.parametrize("flags", [os.O_RDONLY, CREATE], ids=["read", "write"])
@pytest.mark.parametrize("make", ODD, ids=lambda make: make.__name__)
def test_what_is_no_plain_file_of_the_folder_is_refused(root: Path, make: Callable[[Path], str], flags: int):
    path = make(root)
    before = contents(root.parent)
    with pytest.raises(ToolError, match=r"cannot open|not a plain file"):
        open_beneath(root, path, flags, make_folders=flags == CREATE)
    assert contents(root.parent) == before
    assert (root.parent / "secret.txt").read_text() == "secret"


def test_devices_are_refused():
    with pytest.raises(ToolError, match="not a plain file: null"):
        open_beneath(Path("/dev"), "null", os.O_RDONLY)


def num_open(root: Path) -> int:
    """Descriptors of this process that are open on something of the folder."""
    own = {(place.lstat().st_dev, place.lstat().st_ino) for place in (root, *root.rglob("*"))}
    found = 0
    for descriptor in range(3, 256):
        with suppress(OSError):
            found += (os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino) in own
    return found


def test_refusing_leaves_no_descriptor_open(root: Path):
    for wrong in (hard(root), "missing", "folder", "folder/missing/a", "../a"):
        with pytest.raises(ToolError):
            open_beneath(root, wrong, os.O_RDONLY)
    assert num_open(root) == 0
    descriptor = open_beneath(root, "a.txt", os.O_RDONLY)
    assert num_open(root) == 1
    os.close(descriptor)


def test_folders_are_made_when_asked_up_to_a_depth(root: Path):
    deepest = "/".join(["d"] * (MAX_DEPTH - 1) + ["a.txt"])
    with pytest.raises(ToolError, match="no such file"):
        open_beneath(root, deepest, CREATE)
    os.close(open_beneath(root, deepest, CREATE, make_folders=True))
    assert (root / deepest).is_file()
    with pytest.raises(ToolError, match="deeper than"):
        open_beneath(root, "e/" + deepest, CREATE, make_folders=True)
    assert not (root / "e").exists()


def test_a_child_sees_no_secrets_of_the_environment(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret-1")
    monkeypatch.setenv("MANTUS_API_KEY", "secret-2")
    seen = json.loads(run_child(f"{SHED}:environment", {}, {}, 20))
    assert seen["PATH"] == os.environ["PATH"]
    assert not {"AWS_SECRET_ACCESS_KEY", "MANTUS_API_KEY", "HOME", "MANTUS_CACHE"} & set(seen)
    assert "secret-" not in str(seen)


def test_a_child_starts_at_the_root_and_its_noise_does_not_spoil_the_reply():
    assert run_child(f"{SHED}:whereabouts", {}, {}, 20) == "/ ''"


@pytest.mark.parametrize(
    ("how", "kind", "said"), [("refuse", ToolError, "no such thing"), ("raise", OSError, "Runtime")]
)
def test_a_childs_failure_is_passed_on_without_its_words(how: str, kind: type[Exception], said: str):
    with pytest.raises(kind, match=said) as caught:
        run_child(f"{SHED}:fail", {}, {"how": how}, 20)
    assert "1234" not in str(caught.value)


@pytest.mark.parametrize("target", ["tests.agent.nowhere:fail", f"{SHED}:nothing"])
def test_a_child_without_a_function_dies(target: str):
    with pytest.raises(ChildProcessError, match="died"):
        run_child(target, {}, {}, 20)


def test_a_child_writes_no_large_file(tmp_path: Path):
    path = str(tmp_path / "file")
    assert run_child(f"{SHED}:fill", {"path": path}, {"size": MAX_FILE_BYTES}, 20) == "written"
    with pytest.raises(ChildProcessError, match="OSError"):
        run_child(f"{SHED}:fill", {"path": path}, {"size": MAX_FILE_BYTES + 1}, 20)


def test_a_childs_result_is_bounded():
    assert len(run_child(f"{SHED}:long", {}, {}, 20)) == MAX_RESULT_CHARS


def test_no_time_at_all_is_a_deadline_too():
    with pytest.raises(DeadlineExceeded):
        run_child(f"{SHED}:peek", {}, {}, -3)


@pytest.mark.skipif(sys.platform != "linux", reason="a parent's death is told only by Linux")
def test_a_child_does_not_outlive_a_killed_parent(tmp_path: Path):
    path = tmp_path / "lock"
    program = (
        f"from mantus.agent.sandbox import run_child\nrun_child('{SHED}:doze', {{'path': {str(path)!r}}}, {{}}, 60)"
    )
    parent = subprocess.Popen([sys.executable, "-c", program])
    try:
        assert is_soon(lambda: path.is_file() and path.read_text() == "held")
        assert not is_free(path)
    finally:
        parent.kill()
        parent.wait()
    assert is_soon(lambda: is_free(path))
