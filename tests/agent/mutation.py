"""Take each defence away in a copy of the package and see its attack succeed: `python -m tests.agent.mutation`.

With names of attacks as arguments it does these only. Exit 1 when an attack fails without its defence, too: then the
test shows nothing, or another defence stands behind the one that was taken away.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import tests.agent.test_attacks  # noqa: F401  names the defences
from tests.agent.defences import DEFENCES, Edit

ROOT = Path(__file__).parent.parent.parent
LONGEST_S = 60
"""An attack that holds the agent for longer has succeeded."""


def main(names: list[str]) -> int:
    """Print a line for each attack; the exit code."""
    return 1 if missed(names or list(DEFENCES)) else 0


def missed(names: list[str]) -> list[str]:
    """The attacks that do not succeed without their defence."""
    found = []
    with tempfile.TemporaryDirectory(prefix="mantus-mutation-") as folder:
        copy = Path(folder)
        for part in ("mantus", "tests/agent", "tests/__init__.py", "pyproject.toml"):
            copied(ROOT / part, copy / part)
        for number, name in enumerate(names, 1):
            start = time.monotonic()
            outcome = without(copy, name, DEFENCES[name])
            print(f"{number:3}/{len(names)} {outcome:9} {time.monotonic() - start:5.1f} s  {name}", flush=True)
            found += [] if outcome in ("succeeds", "hangs") else [name]
    print(f"{len(names) - len(found)} of {len(names)} attacks succeed once their defence is gone")
    return found


def copied(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
    elif source.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def without(copy: Path, name: str, edits: tuple[Edit, ...]) -> str:
    """What becomes of one attack without its defence; the copy is as it was afterwards."""
    before = {copy / "mantus" / edit.path: (copy / "mantus" / edit.path).read_text() for edit in edits}
    try:
        for edit in edits:
            path = copy / "mantus" / edit.path
            text = path.read_text()
            if text.count(edit.old) != 1:
                return "misses"
            changed = text.replace(edit.old, edit.new)
            ast.parse(changed)
            path.write_text(changed)
        return attack(copy, name)
    finally:
        for path, text in before.items():
            path.write_text(text)


def attack(copy: Path, name: str) -> str:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        f"tests/agent/test_attacks.py::{name}",
    ]
    try:
        done = subprocess.run(command, cwd=copy, env=environment(copy), capture_output=True, timeout=LONGEST_S)
    except subprocess.TimeoutExpired:
        return "hangs"
    return {0: "fails", 1: "succeeds"}.get(done.returncode, f"breaks {done.returncode}")


def environment(copy: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
