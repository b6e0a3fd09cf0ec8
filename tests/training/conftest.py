"""What tests of training share."""

from pathlib import Path

import pytest


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other work's checkpoints are taken for this one's."""
    monkeypatch.setenv("MANTUS_CACHE", str(tmp_path / "cache"))
