"""The images as a container engine runs them, built first where their sources have changed."""

import os
import subprocess
from pathlib import Path

import pytest

from images.build import build, engine, kit
from tests.cluster.conftest import BUILDING, alone
from tests.e2e.conftest import note

LIMITS = ("--runtime=/usr/sbin/runc", "--ulimit=nofile=1024:1024", "--ulimit=nproc=1024:1024")
"""What podman needs on machines that the cluster's kit is for."""


@pytest.fixture(scope="session")
def built() -> dict[str, str]:
    """Folder -> name of its image."""
    try:
        engine()
    except RuntimeError as error:
        pytest.skip(str(error))
    with alone(BUILDING):
        made = {folder: build(folder) for folder in ("mantus", "mantus-serve")}
    for folder, image in made.items():
        note(f"image_{folder}_size", image.bytes / 1e6, "MB", "<= 1200" if folder == "mantus-serve" else "")
    return {folder: image.name for folder, image in made.items()}


def command(image: str, *words: str, options: tuple[str, ...] = ()) -> list[str]:
    """Run `words` in place of `mantus`: nobody's user, no network, nothing to write to but /tmp."""
    own = [*LIMITS, "--read-only-tmpfs=false"] if kit() else []
    bare = ["--rm", "--read-only", "--tmpfs=/tmp:rw,mode=1777", "--user=65532:65532", "--cap-drop=all"]
    network = [] if any(option.startswith("--network") for option in options) else ["--network=none"]
    return [engine(), "run", *own, *bare, *network, *options, f"--entrypoint={words[0]}", image, *words[1:]]


def run(image: str, *words: str, options: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    """To its end, with its output."""
    return subprocess.run(command(image, *words, options=options), capture_output=True, text=True)


def readable(folder: Path) -> Path:
    """Let others than the owner read it, as a volume is."""
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    for parent in folder.parents:
        if parent.stat().st_uid == os.geteuid() and not parent.stat().st_mode & 0o001:
            parent.chmod(parent.stat().st_mode | 0o011)
    return folder
