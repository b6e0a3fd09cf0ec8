"""An installed Mantus needs no checkout: the wheel holds recipes and components, and compiles and checks anywhere."""

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BUILD = "import sys; from setuptools import build_meta; print(build_meta.build_wheel(sys.argv[1]))"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the wheel holds."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("installed")
    for name in ("mantus", "components", "pipelines", "recipes"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    subprocess.run([sys.executable, "-c", BUILD, str(source)], cwd=source, check=True, capture_output=True)
    [wheel] = source.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    return target


def mantus(installed: Path, cwd: Path, *words: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    program = f"import mantus, mantus.cli; assert mantus.__file__.startswith({str(installed)!r}); mantus.cli.main()"
    command = [sys.executable, "-c", program, *words]
    return subprocess.run(command, cwd=cwd, env=environment, check=True, capture_output=True, text=True).stdout


def test_it_compiles_and_knows_its_recipes_in_any_folder(installed: Path, tmp_path: Path):
    assert "life.yaml" in mantus(installed, tmp_path, "compile", "--out", "out")
    assert (tmp_path / "out" / "life.yaml").is_file()
    assert '"collect"' in mantus(installed, tmp_path, "run", "--config", "recipes/quick.yaml", "--dry-run")
