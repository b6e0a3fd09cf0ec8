"""The direction of imports, the budgets of files and functions, and what importing costs."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "mantus"
ORDER = [
    "console",
    "processes",
    "storage",
    "text",
    "data",
    "model",
    "training",
    "inference",
    "release",
    "serving",
    "evaluation",
    "agent",
    "launch",
    "report",
    "cli",
]
"""A package imports only from packages before it."""

FILES = sorted(PACKAGE.rglob("*.py"))
MAX_FILE_LINES, MAX_FUNCTION_LINES, MAX_MODULES = 400, 40, 14
HEAVY = {"torch", "openvino", "openvino_genai", "kserve", "kfp", "polars", "transformers", "lm_eval", "deepspeed"}


def imports(path: Path) -> set[str]:
    """Every module a file imports, at any depth of its code."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found.add(node.module)
    return found


def owner(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_imports_point_up(path: Path):
    here = owner(path)
    if here == "__init__":
        return
    for module in imports(path):
        parts = module.split(".")
        if parts[0] == "mantus" and len(parts) > 1 and parts[1] in ORDER:
            assert ORDER.index(parts[1]) <= ORDER.index(here), f"{here} imports {module}, which stands below it"


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_budgets(path: Path):
    text = path.read_text(encoding="utf-8")
    assert text.isascii(), "code is ASCII"
    assert len(text.splitlines()) <= MAX_FILE_LINES
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            assert node.end_lineno - node.lineno < MAX_FUNCTION_LINES, f"{node.name} is longer than a screen"


def test_packages_stay_small():
    for package in {path.parent for path in FILES}:
        assert len(list(package.glob("*.py"))) <= MAX_MODULES, f"{package.name} has too many modules"


def test_components_are_thin():
    for path in (ROOT / "components").glob("*/component.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef):
                code = node.end_lineno - node.body[1].lineno  # behind the docstring, which KFP shows
                assert code <= 40, f"{path}: {node.name}"


def modules_after(statement: str) -> set[str]:
    program = f"import sys\n{statement}\nprint(*{{name.split('.')[0] for name in sys.modules}})"
    return set(
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    )


def test_importing_mantus_is_light():
    assert not modules_after("import mantus") & (HEAVY | {"pydantic", "rich", "numpy"})


def test_help_and_configs_are_light():
    loaded = modules_after(
        "from mantus.launch.phases import PHASES\nfor phase in PHASES.values(): assert phase.config.model_fields"
    )
    assert not loaded & HEAVY
