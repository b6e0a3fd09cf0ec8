"""What a broken input is: how to read it and what must come of it; and the register of all makers.

Each maker writes into a folder when a test runs and returns a Case. None of them is a real file.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

PROSE = "The river ran past the old mill, and nobody who lived there could say how long it had done so. "
MB = 1 << 20


@dataclass(frozen=True)
class Case:
    """What to read and what must come of it."""

    source: dict[str, object]
    drops: dict[str, int] = field(default_factory=dict)
    """Every drop by reason."""
    documents: int = 0


CASES: dict[str, Callable[[Path, int], Case]] = {}


def case(make: Callable[[Path, int], Case]) -> Callable[[Path, int], Case]:
    """Register a maker under its name. It is given a folder, and how many MB a large thing has."""
    CASES[make.__name__] = make
    return make


def write(folder: Path, name: str, data: bytes) -> str:
    (folder / name).write_bytes(data)
    return str(folder / name)


def repeated(path: Path, unit: bytes, megabytes: int, before: bytes = b"", after: bytes = b"") -> str:
    """A file of so many MB, written without holding it."""
    block = unit * (MB // len(unit) + 1)
    with path.open("wb") as file:
        file.write(before)
        for _ in range(megabytes):
            file.write(block[:MB])
        file.write(after)
    return str(path)
