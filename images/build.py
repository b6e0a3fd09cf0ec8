"""Build the images of images/: `python -m images.build [IMAGE...]`; an image whose sources are unchanged stays.

It uses the test cluster's kit where there is one (MANTUS_CLUSTER_KIT, or ../shared/cluster beside the repository),
which builds without internet and imports into the cluster, and podman or docker elsewhere. It does not push.
"""

import argparse
import functools
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mantus

ROOT = Path(__file__).resolve().parent.parent
NAMES = {"mantus": "mantus-python", "mantus-serve": "mantus-serve", "mantus-cuda": "mantus-cuda"}
"""Folder in images/ -> name of the image."""

HERE = ("mantus", "mantus-serve")
"""What is built when nobody says; mantus-cuda needs NVIDIA's base image, which is fetched from its registry."""

BASE = "docker.io/library/python:3.11-slim-bookworm"
"""What the images are built on; the kit makes it from Debian's packages."""

LABEL = "dev.mantus.sources"
"""Label that holds the digest of what the image was made of."""

IGNORED = {"__pycache__", ".DS_Store"}


@dataclass(frozen=True)
class Image:
    """An image as the local storage holds it."""

    name: str
    id: str
    bytes: int
    labels: dict[str, str]


def main() -> None:
    """Build what is asked for and print the sizes."""
    parser = argparse.ArgumentParser(prog="python -m images.build", description="build Mantus' images")
    parser.add_argument(
        "images", nargs="*", metavar="IMAGE", help=f"of {', '.join(NAMES)} (default: {', '.join(HERE)})"
    )
    parser.add_argument("--registry", default="localhost", help="what stands before the names (default %(default)s)")
    parser.add_argument("--build-arg", action="append", default=[], metavar="NAME=VALUE", help="given to the build")
    given = parser.parse_args()
    if unknown := [name for name in given.images if name not in NAMES]:
        parser.error(f"{unknown[0]}: expected one of {', '.join(NAMES)}")
    for folder in given.images or HERE:
        begin = time.monotonic()
        before = inspect(reference(folder, given.registry))
        made = build(folder, given.registry, given.build_arg)
        how = "unchanged" if before == made else f"built in {time.monotonic() - begin:.0f} s"
        print(f"{made.name:<40} {made.bytes / 1e6:8.0f} MB  {how}", flush=True)


def build(folder: str, registry: str = "localhost", build_args: list[str] | None = None) -> Image:
    """Build one image unless the storage has it, made of the same sources. RuntimeError when the build fails."""
    name, sources = reference(folder, registry), digest(folder, build_args)
    there = inspect(name)
    if there and there.labels.get(LABEL) == sources:
        return there
    arguments = {"VERSION": mantus.__version__, "REVISION": _git("rev-parse", "--short=12", "HEAD") or "unknown"}
    words = [f"--build-arg={key}={value}" for key, value in arguments.items()]
    words += [f"--build-arg={word}" for word in build_args or []]
    words += [f"--label={LABEL}={sources}", f"--file={ROOT / 'images' / folder / 'Containerfile'}"]
    found = kit()
    if found and not inspect(BASE):
        subprocess.run([str(found / "base-image")], stdout=sys.stderr, check=True)
    tool = [str(found / "build"), name, str(ROOT)] if found else [engine(), "build", f"--tag={name}"]
    done = subprocess.run([*tool, *words] if found else [*tool, *words, str(ROOT)], stdout=sys.stderr)
    made = inspect(name)
    if done.returncode or made is None:
        raise RuntimeError(f"{name}: the build failed ({' '.join(tool[:1])}, exit code {done.returncode})")
    return made


def reference(folder: str, registry: str = "localhost") -> str:
    """The image's full name with its tag."""
    return f"{registry}/{NAMES[folder]}:{mantus.__version__}"


def digest(folder: str, build_args: list[str] | None = None) -> str:
    """Of everything that the image is made of, but the indexes behind its dependencies."""
    single = [
        "pyproject.toml",
        "constraints.txt",
        "LICENSE",
        "images/requirements.py",
        f"images/{folder}/Containerfile",
    ]
    packages = [path for name in ("components", "mantus", "pipelines", "recipes") for path in (ROOT / name).rglob("*")]
    files = [ROOT / name for name in single] + [path for path in packages if path.is_file()]
    summed = hashlib.sha256(json.dumps(build_args or []).encode())
    for path in sorted(files):
        if not IGNORED & set(path.parts):
            data = path.read_bytes()
            summed.update(f"{path.relative_to(ROOT)}\0{len(data)}\0".encode() + data)
    return summed.hexdigest()[:32]


def inspect(name: str) -> Image | None:
    """The image in the local storage; None when it is not there."""
    done = subprocess.run([engine(), "image", "inspect", name], capture_output=True, text=True)
    if done.returncode:
        return None
    found: dict[str, Any] = json.loads(done.stdout)[0]
    labels = found.get("Labels") or (found.get("Config") or {}).get("Labels") or {}
    return Image(name, str(found["Id"]).removeprefix("sha256:"), int(found["Size"]), labels)


def kit() -> Path | None:
    """The test cluster's folder, where it is and may be used."""
    folder = Path(os.environ.get("MANTUS_CLUSTER_KIT") or ROOT.parent / "shared" / "cluster")
    return folder if os.access(folder / "build", os.X_OK) and os.geteuid() == 0 and shutil.which("buildah") else None


@functools.cache
def engine() -> str:
    """Podman, or Docker."""
    for name in ("podman", "docker"):
        if found := shutil.which(name):
            return found
    raise RuntimeError("images are built with podman or docker: install one of them")


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True)
    return done.stdout.strip() if done.returncode == 0 else ""


if __name__ == "__main__":
    try:
        main()
    except RuntimeError as error:
        sys.exit(f"images: {error}")
