"""One contract for folders and S3, held against a real server and read back by an independent client."""

import os
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from minio import Minio

from mantus.storage import Store, StoreError, open_store
from mantus.storage.objects import FileStore, S3Store, check_name, s3_client
from tests.data.flaky import serving

MIB = 1 << 20


def second_reader(environment: dict[str, str]) -> Minio:
    return Minio(
        endpoint=urlsplit(environment["AWS_ENDPOINT_URL"]).netloc,
        access_key=environment["AWS_ACCESS_KEY_ID"],
        secret_key=environment["AWS_SECRET_ACCESS_KEY"],
        secure=False,
    )


def is_one_line(error: BaseException) -> bool:
    return "\n" not in str(error) and 0 < len(str(error)) < 400


def test_put_get_overwrite_delete(store: Store):
    store.put("a/b.txt", b"one")
    store.put("a/b.txt", b"")
    assert store.get("a/b.txt") == b""
    store.put("a/b.txt", b"two")
    assert store.get("a/b.txt") == b"two"
    store.delete("a/b.txt")
    store.delete("a/b.txt")
    with pytest.raises(FileNotFoundError, match=r"a/b\.txt: no such object"):
        store.get("a/b.txt")
    assert list(store.list()) == []


def test_absent_objects_and_folders_are_not_found(store: Store, tmp_path: Path):
    store.put("folder/object", b"x")
    for name in ("absent", "folder", "folder/absent/deeper"):
        with pytest.raises(FileNotFoundError):
            store.get(name)
    with pytest.raises(FileNotFoundError):
        store.download("absent", tmp_path / "target")
    assert not (tmp_path / "target").exists()


def test_list_is_in_name_order_with_sizes_and_times(store: Store):
    names = ["a-b", "a/1", "a/10", "a/2/x", "a0", "b/part-00000.parquet", "\N{LATIN SMALL LETTER E WITH ACUTE} x"]
    for name in reversed(names):
        store.put(name, b"." * len(name))
    found = list(store.list())
    assert [item.name for item in found] == sorted(names)
    assert [item.bytes for item in found] == [len(name) for name in sorted(names)]
    assert all(abs(item.modified - time.time()) < 60 for item in found)
    assert [item.name for item in store.list("a/")] == ["a/1", "a/10", "a/2/x"]
    assert [item.name for item in store.list("a/1")] == ["a/1", "a/10"]
    assert list(store.list("c/")) == []


def test_list_goes_past_one_page(s3: dict[str, str]):
    store = open_store("s3://mantus/pages")
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"{number:04}", b""), range(1005)))
    assert [item.name for item in store.list()] == [f"{number:04}" for number in range(1005)]


def test_prefixes_are_apart(uri: str):
    open_store(uri + "/one").put("x", b"1")
    assert list(open_store(uri + "/on").list()) == []
    assert [item.name for item in open_store(uri).list()] == ["one/x"]


def test_upload_in_parts_reads_back_through_another_client(s3: dict[str, str], tmp_path: Path):
    store = open_store("s3://mantus/large")
    source = tmp_path / "source"
    source.write_bytes(os.urandom(20 * MIB + 7))
    store.upload(source, "one/two.bin")
    reader = second_reader(s3)
    assert "-" in (reader.stat_object("mantus", "large/one/two.bin").etag or ""), "not a multipart upload"
    answer = reader.get_object("mantus", "large/one/two.bin")
    assert answer.read() == source.read_bytes()
    answer.close()
    assert [item.object_name for item in reader.list_objects("mantus", "large/", recursive=True)] == [
        "large/one/two.bin"
    ]
    store.download("one/two.bin", tmp_path / "back" / "two.bin")
    assert (tmp_path / "back" / "two.bin").read_bytes() == source.read_bytes()


def test_reads_what_another_client_wrote(s3: dict[str, str], tmp_path: Path):
    (tmp_path / "theirs").write_bytes(b"theirs")
    second_reader(s3).fput_object("mantus", "other/theirs", str(tmp_path / "theirs"))
    assert open_store("s3://mantus/other").get("theirs") == b"theirs"


def test_readers_never_see_a_half_object(store: Store, tmp_path: Path):
    """A writer swaps two large objects for each other; every read is the one or the other, whole."""
    versions = [bytes([letter]) * (9 * MIB) for letter in b"ab"]
    for number, data in enumerate(versions):
        (tmp_path / str(number)).write_bytes(data)
    store.upload(tmp_path / "0", "object")
    stop = threading.Event()

    def write() -> None:
        for number in range(12):
            store.upload(tmp_path / str(number % 2), "object")
        stop.set()

    writer = threading.Thread(target=write)
    writer.start()
    seen = set()
    while not stop.is_set():
        data = store.get("object")
        assert data in versions
        seen.add(data[0])
    writer.join()
    assert seen


def test_writers_and_deleters_of_one_folder_do_not_trip(tmp_path: Path):
    """Deleting the last object removes its folder, while others write into it."""
    store = FileStore(tmp_path / "store")

    def churn(number: int) -> None:
        for _ in range(150):
            store.put(f"a/b/{number}", b"x")
            assert store.get(f"a/b/{number}") == b"x"
            store.delete(f"a/b/{number}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(churn, range(4)))
    assert not any((tmp_path / "store").rglob("*"))


@pytest.mark.parametrize("name", ["", "/etc/passwd", "..", "../x", "a/../../x", "a//b", "a/", "./a", "a\\b", "a\0b"])
def test_names_stay_inside(store: Store, name: str, tmp_path: Path):
    for use in (store.get, store.delete, lambda n: store.put(n, b""), lambda n: store.download(n, tmp_path / "t")):
        with pytest.raises(ValueError, match="name of an object"):
            use(name)


@given(st.text(max_size=30))
@settings(max_examples=300)
def test_a_checked_name_stays_beneath_its_folder(name: str):
    try:
        check_name(name)
    except ValueError:
        return
    folder = Path("/a/b")
    resolved = Path(os.path.normpath(folder / name))
    assert resolved != folder
    assert resolved.is_relative_to(folder)


@pytest.mark.parametrize(
    "uri", ["", "http://x/y", "s3://", "s3:///x", "s3://UPPER/x", "file://host/x", "file://x", "ftp:x"]
)
def test_other_uris_are_refused(uri: str):
    with pytest.raises(ValueError, match="expected s3://"):
        open_store(uri)


def test_plain_paths_are_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    open_store("some where").put("x", b"1")
    assert open_store((tmp_path / "some where").as_uri()).get("x") == b"1"
    assert open_store(f"file://{tmp_path}/some where").get("x") == b"1"


def test_files_have_the_users_permissions(tmp_path: Path):
    before = os.umask(0o027)
    try:
        FileStore(tmp_path).put("x", b"")
    finally:
        os.umask(before)
    assert (tmp_path / "x").stat().st_mode & 0o777 == 0o640


def test_a_server_that_is_gone_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    for name, value in {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    store = open_store("s3://mantus/x")
    (tmp_path / "file").write_bytes(b"x")
    for use in (
        lambda: store.get("x"),
        lambda: store.upload(tmp_path / "file", "x"),
        lambda: store.download("x", tmp_path / "y"),
        lambda: list(store.list()),
    ):
        with pytest.raises(StoreError, match=r"no answer from http://127\.0\.0\.1:9") as caught:
            use()
        assert is_one_line(caught.value)


def test_a_strangers_404_is_no_word_about_the_object(s3: dict[str, str]):
    with serving() as gateway:  # as where a Service's address leads nowhere yet: 404, without a word of S3
        store = S3Store("mantus", "x", s3_client({**s3, "AWS_ENDPOINT_URL": gateway.url}))
        for use in (lambda: store.get("x"), lambda: store.put("x", b""), lambda: list(store.list())):
            with pytest.raises(StoreError, match=f"{gateway.url} answered 404, but not as S3 does") as caught:
                use()
            assert is_one_line(caught.value)


def test_wrong_credentials_and_buckets_are_one_line(s3: dict[str, str], tmp_path: Path):
    wrong = S3Store("mantus", "x", s3_client({**s3, "AWS_SECRET_ACCESS_KEY": "wrong"}))
    (tmp_path / "file").write_bytes(b"x")
    for use in (lambda: wrong.put("x", b""), lambda: wrong.upload(tmp_path / "file", "x"), lambda: list(wrong.list())):
        with pytest.raises(StoreError, match="check bucket and credentials") as caught:
            use()
        assert is_one_line(caught.value)
    with pytest.raises(StoreError, match="NoSuchBucket"):
        open_store("s3://nobucket/x").get("x")


FULL = """
import resource, sys
from pathlib import Path
from mantus.storage import StoreError, open_store
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = open_store(sys.argv[1])
try:
    store.upload(Path(sys.argv[2]), "big") if sys.argv[3] == "upload" else store.put("big", b"x" * 300_000)
except StoreError as error:
    print(error)
"""


@pytest.mark.parametrize("how", ["upload", "put"])
def test_a_write_that_does_not_fit_leaves_nothing(tmp_path: Path, how: str):
    store = FileStore(tmp_path / "store")
    store.put("big", b"before")
    (tmp_path / "source").write_bytes(b"x" * 300_000)
    command = [sys.executable, "-c", FULL, store.uri, str(tmp_path / "source"), how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == f"{store.uri}/big: File too large"
    assert store.get("big") == b"before"
    assert [path.name for path in (tmp_path / "store").iterdir()] == ["big"]


def test_sweep_removes_broken_off_writes_only(tmp_path: Path):
    store = FileStore(tmp_path)
    store.put("kind/x.part-1", b"an object")
    (tmp_path / "kind" / ".part-0123").write_bytes(b"half")
    assert [item.name for item in store.list()] == ["kind/x.part-1"]
    assert list(store.sweep(3600)) == []
    assert list(store.sweep(0)) == ["kind/.part-0123"]
    assert [path.name for path in (tmp_path / "kind").iterdir()] == ["x.part-1"]


def test_sweep_aborts_multipart_uploads(s3: dict[str, str]):
    client = s3_client(s3)
    client.create_multipart_upload(Bucket="mantus", Key="broken/off")
    client.create_multipart_upload(Bucket="mantus", Key="elsewhere/off")
    store = open_store("s3://mantus/broken")
    assert list(store.sweep(3600)) == []
    assert list(store.sweep(0)) == ["off"]
    assert list(store.sweep(0)) == []
    assert list(open_store("s3://mantus/elsewhere").sweep(0)) == ["off"]
