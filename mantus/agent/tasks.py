"""Tasks for the agent: a prompt, files to begin with, and a check on the outcome, not on the words of the answer.

It knows results and files, neither the model nor the loop.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict

import mantus
from mantus.agent.orchestrator import Result
from mantus.agent.tools import Status

NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?")


class Check(BaseModel):
    """What must hold in the end; every field that is given counts."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    answer_number: float | None = None
    """A number that the answer holds."""
    answer_contains: str = ""
    """Text that the answer holds, letter case apart; '*' asks for any text at all."""
    called: list[str] = []
    """Tools that have done their work at least once."""
    retrieved: str = ""
    """Text that a tool's output holds, letter case apart."""
    files: dict[str, str] = {}
    """File -> its whole text, white space at both ends apart."""
    file_numbers: dict[str, float] = {}
    """File -> a number that it holds."""


class Task(BaseModel):
    """One thing to do."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    prompt: str
    setup: dict[str, dict[str, str]] = {}
    """`files`: name -> text, in the working folder before the agent starts."""
    check: Check


def load_tasks(value: Any) -> Any:
    """Tasks given as a path of a YAML file become its list; anything else passes as it is.

    A relative path counts from the current folder, else from the checkout. ValueError names the path.
    """
    if not isinstance(value, str):
        return value
    places = [Path(value), Path(mantus.__file__).parent.parent / value]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        raise ValueError(f"{value}: no such file of tasks")
    try:
        return yaml.safe_load(file.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{value}: not YAML: {' '.join(str(error).split())}") from None


def prepare(task: Task, root: Path) -> None:
    """Put the task's files into its working folder."""
    for name, text in task.setup.get("files", {}).items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")


def grade(check: Check, root: Path, answer: str, results: Sequence[Result]) -> list[str]:
    """What does not hold, in words; empty when the task is solved."""
    done = [result for result in results if result.status is Status.OK]
    outputs = "\n".join(result.output for result in done).lower()
    missing = set(check.called) - {result.name for result in done}
    failed = [f"{name} was not called" for name in sorted(missing)]
    if check.answer_number is not None and check.answer_number not in numbers(answer):
        failed.append(f"the answer does not hold {check.answer_number:g}")
    if check.answer_contains and not _contains(answer, check.answer_contains):
        failed.append(f"the answer does not hold {check.answer_contains!r}")
    if check.retrieved.lower() not in outputs:
        failed.append(f"nothing retrieved holds {check.retrieved!r}")
    return failed + _grade_files(check, root)


def _contains(text: str, wanted: str) -> bool:
    return bool(text.strip()) if wanted == "*" else wanted.lower() in text.lower()


def _grade_files(check: Check, root: Path) -> list[str]:
    failed = []
    for name, wanted in sorted(check.files.items()):
        if _read(root / name).strip() != wanted.strip():
            failed.append(f"{name} does not hold {wanted!r}")
    for name, number in sorted(check.file_numbers.items()):
        if number not in numbers(_read(root / name)):
            failed.append(f"{name} does not hold {number:g}")
    return failed


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def numbers(text: str) -> list[float]:
    """Every number in a text; thousands may be set apart by commas."""
    return [float(found.replace(",", "")) for found in NUMBER.findall(text)]
