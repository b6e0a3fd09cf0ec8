"""Common Crawl, multistream dumps, lists of repositories and data sets, through the phase and from real servers."""

import bz2
import gzip
import json
import random
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

import pytest

from mantus.data.collect import CollectConfig, run
from mantus.data.corpus import read_rows
from mantus.data.sources.source import Manners
from mantus.storage import Manifest, open_store
from mantus.storage.phase import MadeElsewhere
from mantus.storage.server import EmbeddedS3
from tests.data.broken.case import PROSE
from tests.data.broken.crawls import page, record
from tests.data.broken.dumps import article, dumped
from tests.data.broken.trees import git, repository
from tests.data.flaky import Fault, Site, serving

ID = "CC-MAIN-2024-10"
LISTS = f"/crawl-data/{ID}"


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(Manners.__init__, "__defaults__", ("", 1000, 4, 0.01, 2, 5))
    return tmp_path / "cache"


@pytest.fixture
def site() -> Iterator[Site]:
    with serving() as made:
        yield made


def collect(tmp_path: Path, *sources: dict[str, object], store: str = "store", **fields: object) -> Manifest:
    values = {"store": (tmp_path / store).as_uri(), "requests_per_second": 1000, "max_wait_s": 2, **fields}
    return run(CollectConfig.parse({**values, "sources": list(sources)}, "collect"))  # type: ignore[arg-type]


def rows_of(manifest: Manifest) -> list[dict[str, str]]:
    return list(read_rows(Path(manifest.uri.removeprefix("file://"))))


def crawl(site: Site, num: int = 4) -> dict[str, object]:
    """A crawl of `num` WARC files and as many WET files in two segments, three pages in each."""
    paths = {"warc": [], "wet": []}
    for number in range(num):
        for kind in paths:
            name = f"crawl-data/{ID}/segments/17{number % 2}.0/{kind}/{number:05d}.{kind}.gz"
            pages = range(number * 3, number * 3 + 3)
            records = (
                record(n, page(n)) if kind == "warc" else record(n, f"{n} {PROSE}".encode(), "conversion")
                for n in pages
            )
            site.files[f"/{name}"] = b"".join(gzip.compress(item, mtime=0) for item in records)
            paths[kind].append(name)
    for kind, names in paths.items():
        site.files[f"{LISTS}/{kind}.paths.gz"] = gzip.compress("\n".join(names).encode())
    return {"type": "commoncrawl", "path": ID, "base": site.url, "index": site.url, "license": "LicenseRef-web"}


def test_a_crawl_by_its_id(site: Site, tmp_path: Path, cache: Path):
    source = crawl(site)
    made = collect(tmp_path, source)
    assert [row["url"][-2:].strip("/") for row in rows_of(made)] == [str(n) for n in range(12)]
    assert rows_of(made)[0]["source"] == ID
    num = len(site.seen)
    assert collect(tmp_path, source).cached
    assert len(site.seen) == num, "a crawl does not change: nothing is asked again"
    assert not list((cache / "sources").rglob("*.warc.gz")), "files go when they are read"


def test_texts_segments_and_limits_of_a_crawl(site: Site, tmp_path: Path):
    source = crawl(site)
    texts = collect(tmp_path, source | {"crawl": "WET", "limit": 2})
    assert [row["text"].split()[0] for row in rows_of(texts)] == [str(n) for n in range(6)]
    some = collect(tmp_path, source | {"segments": ["171.0"]})
    assert [row["url"].rpartition("/")[2] for row in rows_of(some)] == ["3", "4", "5", "9", "10", "11"]
    few = collect(tmp_path, source | {"max_mb": 0.0001})
    assert few.stats["documents"] == 1


def test_a_crawl_through_a_bad_line(site: Site, tmp_path: Path):
    source = crawl(site)
    good = collect(tmp_path, source)
    for path, data in site.files.items():
        faults = [Fault(drop_at=len(data) // 2), Fault(status=503), Fault(ignore_range=True, drop_at=9)]
        site.faults[path] = faults if path.endswith("arc.gz") else [Fault(status=503, retry_after="0")]
    (tmp_path / "cache").rename(tmp_path / "old")
    again = collect(tmp_path, source, store="again", workers=2)
    assert again.key == good.key
    assert again.files == good.files


def test_pods_divide_a_crawl_by_its_files(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = crawl(site)
    alone = collect(tmp_path, source, store="alone")
    site.seen.clear()
    with EmbeddedS3(tmp_path / "s3") as environment:
        for name, value in {**environment, "MANTUS_SHARDS": "2"}.items():
            monkeypatch.setenv(name, value)
        values = {"store": "s3://mantus/runs", "sources": [source], "requests_per_second": 1000}
        for index in range(2):
            monkeypatch.setenv("JOB_COMPLETION_INDEX", str(index))
            monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / f"pod-{index}"))
            if index == 0:
                with pytest.raises(MadeElsewhere):
                    run(CollectConfig.parse(values, ""))  # type: ignore[arg-type]
            else:
                made = run(CollectConfig.parse(values, ""))  # type: ignore[arg-type]
    assert [(f.path, f.sha256) for f in made.files] == [(f.path, f.sha256) for f in alone.files]
    fetched = [seen.path for seen in site.seen if seen.path.endswith(".warc.gz")]
    assert len(fetched) == len(set(fetched)) == 4, "each file is fetched by one pod"


def test_a_crawl_in_s3(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    source = crawl(site)
    with EmbeddedS3(tmp_path / "s3") as environment:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        for path, data in site.files.items():
            open_store("s3://mantus").put(path.lstrip("/"), data)
        made = collect(tmp_path, source | {"base": "s3://mantus"})
        assert made.stats["documents"] == 12
        with pytest.raises(
            OSError, match=r"sources\[0\]\.path: s3://mantus/crawl-data/CC-MAIN-2030-01/.*cannot be read"
        ):
            collect(tmp_path, source | {"base": "s3://mantus", "path": "CC-MAIN-2030-01"})
    assert not site.seen


def answers(
    site: Site, source: dict[str, object], captures: list[dict[str, str]], query: str = "example.org/*"
) -> dict[str, object]:
    """Let the index answer a query in pages of two."""
    question = [("url", query), ("output", "json"), ("filter", "=status:200"), ("filter", "~mime:html")]
    path = f"/{ID}-index?{urlencode(question)}"
    pages = [captures[at : at + 2] for at in range(0, len(captures), 2)]
    site.files[f"{path}&showNumPages=true"] = json.dumps({"pages": len(pages), "pageSize": 5}).encode()
    for number, rows in enumerate(pages):
        site.files[f"{path}&page={number}"] = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return source | {"query": query}


def captures_of(site: Site) -> list[dict[str, str]]:
    found = []
    for path in sorted(path for path in site.files if path.endswith(".warc.gz")):
        at = 0
        for member in site.files[path].split(b"\x1f\x8b\x08")[1:]:
            length = len(member) + 3
            found.append({"url": "http://x", "filename": path.lstrip("/"), "offset": str(at), "length": str(length)})
            at += length
    return found


def test_single_pages_by_the_url_index(site: Site, tmp_path: Path):
    source = crawl(site)
    captures = captures_of(site)
    chosen = [captures[number] for number in (10, 1, 5)]
    source = answers(site, source, chosen)
    made = collect(tmp_path, source)
    assert [row["url"].rpartition("/")[2] for row in rows_of(made)] == ["1", "8", "10"]
    asked = [seen for seen in site.seen if seen.path.endswith(".warc.gz")]
    assert sorted(seen.headers["Range"] for seen in asked) == sorted(
        f"bytes={c['offset']}-{int(c['offset']) + int(c['length']) - 1}" for c in chosen
    )
    assert len(rows_of(collect(tmp_path, source | {"limit": 1}))) == 1


def test_what_is_wrong_with_a_crawl_is_said(site: Site, tmp_path: Path):
    source = crawl(site)
    for change, message in (
        ({"path": "2024-10"}, r"sources\[0\]\.path: '2024-10' is no crawl's id; such as CC-MAIN-2024-10"),
        (
            {"path": "CC-MAIN-1999-01"},
            r"sources\[0\]\.path: .*/CC-MAIN-1999-01/warc\.paths\.gz: the server answers 404",
        ),
        ({"query": "x", "crawl": "WET"}, r"sources\[0\]\.crawl: the URL index knows pages"),
        ({"query": "nobody.example"}, r"sources\[0\]: CC-MAIN-2024-10: nothing is chosen"),
        ({"segments": ["no"]}, r"sources\[0\]: CC-MAIN-2024-10: nothing is chosen"),
    ):
        with pytest.raises(ValueError, match=message):
            collect(tmp_path, source | change)
    site.files[f"{LISTS}/wet.paths.gz"] = b"<html>maintenance</html>"
    with pytest.raises(OSError, match=r"wet\.paths\.gz: is no gzipped list .*is `base` a copy of Common Crawl"):
        collect(tmp_path, source | {"crawl": "WET"})
    evil = {"filename": "../../etc/passwd", "offset": "0", "length": "5"}
    with pytest.raises(OSError, match="names a file outside of the crawl"):
        collect(tmp_path, answers(site, source, [evil]))


# ---- multistream dumps


def multistream(num_pages: int = 60, per_stream: int = 7) -> tuple[bytes, bytes]:
    """A dump and its index, as Wikipedia packs them: opening, streams of pages, end."""
    chance = random.Random(3)
    whole = dumped(*(article(n, f"{PROSE * chance.randint(3, 9)} {n}.") for n in range(num_pages)))
    opening, *pages = whole.removesuffix(b"</mediawiki>").replace(b"<page>", b"\0<page>").split(b"\0")
    packed, index = bytearray(bz2.compress(opening)), []
    for at in range(0, num_pages, per_stream):
        index += [f"{len(packed)}:{n}:River: {n}" for n in range(at, min(num_pages, at + per_stream))]
        packed += bz2.compress(b"".join(pages[at : at + per_stream]))
    return bytes(packed + bz2.compress(b"</mediawiki>")), bz2.compress("\n".join(index).encode())


NAME = "xx-20240101-pages-articles-multistream"


def test_a_multistream_dump_is_read_in_parallel_as_serially(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dump, index = multistream()
    path = tmp_path / f"{NAME}3.xml-p1p60.bz2"
    path.write_bytes(dump)
    source = {"type": "wikipedia", "path": str(path), "name": "wiki"}
    serial = collect(tmp_path, source, store="serial")
    (tmp_path / f"{NAME}-index3.txt-p1p60.bz2").write_bytes(index)
    monkeypatch.setattr("mantus.data.sources.multistream.STRETCH_BYTES", 100)
    monkeypatch.setattr("mantus.data.collect.PIECE_BYTES", 100)
    parallel = collect(tmp_path, source, store="parallel", workers=2)
    assert len(parallel.files) > len(serial.files)
    assert rows_of(parallel) == rows_of(serial)
    assert parallel.stats == serial.stats
    assert serial.stats["documents"] == 60


def test_a_multistream_dump_is_fetched_in_stretches(site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dump, index = multistream()
    site.files |= {f"/{NAME}.xml.bz2": dump, f"/{NAME}-index.txt.bz2": index}
    monkeypatch.setattr("mantus.data.sources.multistream.STRETCH_BYTES", 100)
    made = collect(tmp_path, {"type": "wikipedia", "path": f"{site.url}/{NAME}.xml.bz2"})
    assert [row["url"].rpartition("_")[2] for row in rows_of(made)] == [str(n) for n in range(60)]
    assert all("Range" in seen.headers for seen in site.gets(f"/{NAME}.xml.bz2"))
    del site.files[f"/{NAME}-index.txt.bz2"]
    alone = collect(tmp_path, {"type": "wikipedia", "path": f"{site.url}/{NAME}.xml.bz2"}, store="alone")
    assert rows_of(alone) == rows_of(made)


def test_a_stream_that_is_damaged_costs_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    dump, index = multistream()
    at = dump.index(b"BZh", len(dump) // 2) + 40
    (tmp_path / f"{NAME}.xml.bz2").write_bytes(dump[:at] + b"\xff" * 8 + dump[at + 8 :])
    (tmp_path / f"{NAME}-index.txt.bz2").write_bytes(index)
    monkeypatch.setattr("mantus.data.sources.multistream.STRETCH_BYTES", 100)
    made = collect(tmp_path, {"type": "wikipedia", "path": str(tmp_path / f"{NAME}.xml.bz2")})
    assert made.stats["dropped"] == {"damaged compression": 1}
    assert made.stats["documents"] == 53


@pytest.mark.parametrize("lie", ["shifted", "not rising", "nonsense", "another dump's", "cut"])
def test_an_index_that_is_not_the_dumps_is_said(tmp_path: Path, lie: str):
    dump, index = multistream()
    offsets = bz2.decompress(index).decode()
    lies = {
        "shifted": bz2.compress(
            "\n".join(f"{int(x.partition(':')[0]) + 1}:1:a" for x in offsets.splitlines()).encode()
        ),
        "not rising": bz2.compress(b"900:1:a\n300:2:b"),
        "nonsense": b"nonsense",
        "another dump's": bz2.compress(b"999999999:1:a"),
        "cut": index[:-20],
    }
    (tmp_path / f"{NAME}.xml.bz2").write_bytes(dump)
    (tmp_path / f"{NAME}-index.txt.bz2").write_bytes(lies[lie])
    with pytest.raises(ValueError, match=rf"sources\[0\]\.path: .*{NAME}-index\.txt\.bz2: .*(serially|anew)"):
        collect(tmp_path, {"type": "wikipedia", "path": str(tmp_path / f"{NAME}.xml.bz2")})


# ---- lists of repositories

MIT = b"Permission is hereby granted, free of charge, to any person obtaining a copy\n"


def house(folder: Path, name: str, **files: bytes) -> Path:
    home = folder / name
    home.mkdir()
    return repository(home, {key.replace("_", "."): data for key, data in files.items()})


def test_a_list_of_repositories(tmp_path: Path, cache: Path):
    one = house(tmp_path, "one", a_py=b"print(1)\n", LICENSE=MIT)
    two = house(tmp_path, "two", b_rs=b"fn main() {}\n", c_md=PROSE.encode())
    listed = tmp_path / "list.txt"
    listed.write_text(f"# mine\n{one}\n\nfile://{two}   # by address\n{tmp_path}/nowhere\n")
    source = {"type": "repositories", "path": str(listed), "name": "hosts"}
    made = collect(tmp_path, source, workers=2)
    rows = rows_of(made)
    assert sorted((row["lang"], row["form"], row["license"]) for row in rows) == [
        ("", "prose", "unknown"),
        ("py", "code", "MIT"),
        ("rs", "code", "unknown"),
    ]
    assert {row["source"] for row in rows} == {"hosts"}
    assert made.stats["dropped"] == {"repository out of reach": 1}
    assert not list((cache / "clones").iterdir()), "clones go when they are read"
    assert collect(tmp_path, source).cached
    git(one, "commit", "-q", "--allow-empty", "-m", "more")
    assert not collect(tmp_path, source).cached
    wanted = collect(tmp_path, source | {"licenses": ["MIT"]})
    assert wanted.stats["dropped"] == {"licence not wanted": 1, "repository out of reach": 1}


def test_history_pins_and_limits(tmp_path: Path):
    home = house(tmp_path, "one", a_py=b"print(1)\n")
    first = git(home, "rev-parse", "HEAD").strip()
    (home / "a.py").write_text("print(2)\n")
    git(home, "rm", "-q", "--cached", "a.py")
    (home / "b.py").write_text("print(3)\n")
    git(home, "add", ".")
    git(home, "commit", "-q", "-m", "y")
    source = {"type": "repositories", "name": "x", "repositories": [f"file://{home}"]}
    head = collect(tmp_path, source)
    assert sorted(row["text"] for row in rows_of(head)) == ["print(2)\n", "print(3)\n"]
    both = collect(tmp_path, source | {"history": True})
    assert sorted(row["text"] for row in rows_of(both)) == ["print(1)\n", "print(2)\n", "print(3)\n"]
    assert [row["url"].partition("@")[2][:12] for row in rows_of(both) if row["text"] == "print(1)\n"] == [first[:12]]
    few = collect(tmp_path, source | {"repository_mb": 0.000001})
    assert few.stats["documents"] == 1
    whole = collect(tmp_path, {"type": "git", "path": f"file://{home}", "history": True})
    assert whole.stats["documents"] == 3


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, r"sources\[0\]\.repositories: empty"),
        ({"path": "/nowhere"}, r"sources\[0\]\.path: /nowhere: cannot be read \(FileNotFoundError\)"),
        ({"repositories": ["--upload-pack=evil"]}, r"sources\[0\]: '--upload-pack=evil': expected a path or URL"),
        ({"repositories": ["https://x/y main"]}, r"sources\[0\]: .*a whole commit or nothing"),
    ],
)
def test_what_is_wrong_with_a_list_is_said(tmp_path: Path, fields: dict[str, object], message: str):
    with pytest.raises(ValueError, match=message):
        collect(tmp_path, {"type": "repositories", **fields})


# ---- data sets


def test_a_data_set_in_a_folder(tmp_path: Path):
    folder = tmp_path / "set"
    folder.mkdir()
    for number in range(3):
        lines = (json.dumps({"body": f"{number} {n} {PROSE}", "id": f"{number}-{n}"}) for n in range(4))
        (folder / f"train-{number}.jsonl").write_text("\n".join(lines))
    source = {"type": "huggingface", "path": str(folder), "text_field": "body", "license": "CC0-1.0"}
    made = collect(tmp_path, source, workers=2)
    assert sorted(row["url"].partition("#")[2] for row in rows_of(made)) == [
        f"{a}-{b}" for a in range(3) for b in range(4)
    ]
    assert collect(tmp_path, source).cached
    with pytest.raises(ValueError, match=r"sources\[0\]\.path: .*set: .*check its name, config, split"):
        collect(tmp_path, source | {"split": "nothing"})
    with pytest.raises(ValueError, match=r"sources\[0\]\.path: /no/where/x: no such folder"):
        collect(tmp_path, source | {"path": "/no/where/x"})
    (folder / "train-1.jsonl").write_text('{"body": "one"}\n{broken\n')
    assert "damaged data set" in collect(tmp_path, source).stats["dropped"]
