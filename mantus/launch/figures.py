"""The figures of a run: what an issue asks to be shown, measured, with its bar, as `figures.json`.

It knows names, values and bars, not how a figure was measured.
"""

import json
import operator
import platform
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

RELATIONS: dict[str, Callable[[float, float], bool]] = {"<=": operator.le, ">=": operator.ge, "<": operator.lt}


def commit() -> str:
    """The checkout's commit, '' outside one; '+' marks uncommitted changes."""
    try:
        found = subprocess.run(["git", "describe", "--always", "--dirty=+"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.strip()


def machine() -> str:
    """Processor and cores, as in '2 x AMD EPYC 9B14'."""
    import os

    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        model = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        model = platform.processor() or platform.machine()
    return f"{len(os.sched_getaffinity(0))} x {model}"


def today() -> str:
    """The date, as in '2026-01-31'."""
    return datetime.now(UTC).date().isoformat()


def written_by(command: str) -> str:
    """A sentence for a page that a command writes: which one, at which commit, where and when."""
    return f"Written by `{command}`: commit `{commit()}`, {machine()}, {today()}."


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured number. `bar` is what was asked ('<= 900'), '' when it is only shown."""

    name: str
    value: float
    unit: str
    bar: str = ""
    commit: str = field(default_factory=commit)
    machine: str = field(default_factory=machine)
    date: str = field(default_factory=today)

    @property
    def holds(self) -> bool | None:
        """Whether the value meets the bar; None without one."""
        if not self.bar:
            return None
        relation, limit = self.bar.split()
        return RELATIONS[relation](self.value, float(limit))

    def row(self) -> dict[str, Any]:
        """The stored form."""
        return {**asdict(self), "holds": self.holds}


def record(path: Path, figures: list[Figure]) -> list[dict[str, Any]]:
    """Merge figures by name into the list stored at `path`; the whole list."""
    return merge(path, [figure.row() for figure in figures])


def merge(path: Path, latest: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The same with figures in their stored form."""
    known = {row["name"]: row for row in json.loads(path.read_text())} if path.is_file() else {}
    known.update({row["name"]: row for row in latest})
    rows = list(known.values())
    path.write_text(json.dumps(rows, indent=1) + "\n")
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """The figures as aligned text."""
    marks = {True: "holds", False: "FAILS", None: ""}
    lines = [
        (row["name"], f"{row['value']:,.4g}", row["unit"], row["bar"] and f"({row['bar']})", marks[row["holds"]])
        for row in rows
    ]
    widths = [max(len(line[column]) for line in lines) for column in range(5)] if lines else []
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
