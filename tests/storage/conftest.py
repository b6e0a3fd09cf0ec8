"""Stores to hold to the contract: a folder, and a prefix of a real S3 server."""

import secrets
from pathlib import Path

import pytest

from mantus.storage import Store, open_store


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache that only this test fills."""
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(params=["file", "s3"])
def uri(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return (tmp_path / "store").as_uri()
    request.getfixturevalue("s3")
    return f"s3://mantus/{secrets.token_hex(8)}"


@pytest.fixture
def store(uri: str) -> Store:
    return open_store(uri)
