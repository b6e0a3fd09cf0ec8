"""croissant.json has what Croissant 1.0 requires, names files that are there, and its reference reader reads them."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as parquet
import pytest

from mantus.data.corpus import part_paths
from mantus.storage import fetch
from mantus.storage.artifact import digest_file

REQUIRED = ("@context", "@type", "conformsTo", "name", "description", "license", "url", "creator", "datePublished")
"""http://mlcommons.org/croissant/1.0, section on dataset-level information: required properties."""
FILE_OBJECT = ("@id", "name", "contentUrl", "encodingFormat", "sha256", "contentSize")
FILE_SET = ("@id", "name", "encodingFormat", "includes")
FIELD = ("@id", "name", "dataType", "source")
COLUMNS = {"id", "text", "source", "url", "license", "lang", "added", "form", "cluster_id", "cluster_size", "num_words"}


@pytest.fixture(scope="session")
def described(corpus) -> dict[str, Any]:
    fields = {"dataset": "pages", "creator": "Someone", "published": "2025-01-31", "url": "https://site.example/data"}
    return json.loads((fetch(corpus.report(**fields).uri) / "croissant.json").read_text())


def of(described: dict[str, Any], kind: str) -> Iterator[dict[str, Any]]:
    return (entry for entry in described["distribution"] if entry["@type"] == kind)


def test_required_properties_are_there(described):
    assert all(described[name] for name in REQUIRED)
    assert described["@type"] == "sc:Dataset"
    assert described["conformsTo"] == "http://mlcommons.org/croissant/1.0"
    assert (described["name"], described["url"]) == ("pages", "https://site.example/data")
    assert (described["creator"]["name"], described["datePublished"]) == ("Someone", "2025-01-31")
    assert set(described["license"]) == {
        *("https://spdx.org/licenses/CC-BY-4.0.html", "https://spdx.org/licenses/MIT.html"),
        *("https://spdx.org/licenses/Apache-2.0.html", "<i>own</i>"),
    }
    context = described["@context"]
    assert {"@language", "@vocab", "cr", "sc", "dct", "recordSet", "field", "fileSet", "extract"} <= set(context)


def test_files_are_there_with_their_digests(described, corpus):
    store, found = Path(corpus.store.removeprefix("file://")), list(of(described, "cr:FileObject"))
    kinds = {entry["contentUrl"].split("/")[0] for entry in found}
    assert kinds == {"dedup", "tokenizer", "tokens"}
    for entry in found:
        assert all(entry[name] for name in FILE_OBJECT)
        path = store / entry["contentUrl"]
        assert f"{path.stat().st_size} B" == entry["contentSize"]
        assert digest_file(path) == entry["sha256"]
    assert len({entry["@id"] for entry in described["distribution"]}) == len(described["distribution"])


def test_sets_include_the_files_of_the_store(described, corpus):
    store = Path(corpus.store.removeprefix("file://"))
    for entry in of(described, "cr:FileSet"):
        assert all(entry[name] for name in FILE_SET)
        folder, _, pattern = entry["includes"].partition("*")
        assert list(store.glob(f"{folder.rpartition('/')[0]}/**/*{pattern}")), entry["includes"]


def test_records_have_the_columns_of_the_parts(described, corpus):
    [documents, *_] = described["recordSet"]
    fields = {field["name"]: field for field in documents["field"]}
    assert set(fields) >= COLUMNS
    assert documents["key"] == {"@id": "documents/id"}
    schema = parquet.read_schema(part_paths(fetch(corpus.last.uri))[0])
    assert list(fields) == schema.names
    sets = {entry["@id"] for entry in of(described, "cr:FileSet")}
    for field in fields.values():
        assert all(field[name] for name in FIELD)
        assert field["source"]["fileSet"]["@id"] in sets
    assert fields["cluster_size"]["dataType"] == fields["num_words"]["dataType"] == "sc:Integer"
    assert fields["mean_word_length"]["dataType"] == "sc:Float"
    assert fields["text"]["dataType"] == "sc:Text"


def test_without_anything_given_it_still_says_all_that_is_required(corpus):
    described = json.loads((fetch(corpus.report().uri) / "croissant.json").read_text())
    assert all(described[name] for name in REQUIRED)
    assert described["datePublished"] == "2024-03-05"
    assert "36 documents from web <b>, forge" in described["description"]


def test_of_another_store_the_whole_uri_is_given(corpus, tmp_path: Path):
    described = json.loads((fetch(corpus.report(store=tmp_path.as_uri()).uri) / "croissant.json").read_text())
    assert all(entry["contentUrl"].startswith(f"{corpus.store}/") for entry in of(described, "cr:FileObject"))


def test_licences_are_listed_as_spdx_does(corpus):
    listed = json.loads((fetch(corpus.report().uri) / "licenses.json").read_text())["licenses"]
    assert [entry["licenseId"] for entry in listed] == ["<i>own</i>", "Apache-2.0", "CC-BY-4.0", "MIT"]
    assert [bool(entry["reference"]) for entry in listed] == [False, True, True, True]
    assert sum(entry["documents"] for entry in listed) == corpus.last.stats["documents"]
    assert sum(entry["bytes"] for entry in listed) == corpus.last.stats["bytes"]


def test_the_reference_reader_reads_every_document(corpus, tmp_path: Path):
    """Where it is installed (369 MB with what it needs)."""
    croissant = pytest.importorskip("mlcroissant")
    store = Path(corpus.store.removeprefix("file://"))
    for kind in ("dedup", "tokens", "tokenizer"):
        shutil.copytree(store / kind, tmp_path / kind)
    shutil.copy(fetch(corpus.report().uri) / "croissant.json", tmp_path)
    data = croissant.Dataset(jsonld=str(tmp_path / "croissant.json"))
    assert not data.metadata.ctx.issues.errors
    assert sum(1 for _ in data.records("documents")) == corpus.last.stats["documents"]
