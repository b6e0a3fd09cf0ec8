"""What a check found, and how people and machines read it. It checks nothing itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

State = Literal["ok", "note", "unknown", "lacks"]
MARKS: dict[State, str] = {"ok": "ok", "note": "note", "unknown": "?", "lacks": "LACKS"}


@dataclass(frozen=True, slots=True)
class Check:
    """One finding. `note`: worth knowing; `unknown`: nobody here may look; `lacks`: a run would surely break."""

    name: str
    state: State
    found: str
    way_out: str = ""

    @property
    def line(self) -> str:
        """What was found and what to do, in one line."""
        return " ".join(f"{self.found}{f'; {self.way_out}' if self.way_out else ''}".split())

    def row(self) -> dict[str, Any]:
        """For machines."""
        return asdict(self)


def lacking(checks: Sequence[Check]) -> list[Check]:
    """Those that stop a run."""
    return [check for check in checks if check.state == "lacks"]


def table(checks: Sequence[Check]) -> str:
    """Aligned text, one line a check."""
    width = max((len(check.name) for check in checks), default=0)
    return "\n".join(f"{MARKS[check.state]:<6} {check.name:<{width}}  {check.line}" for check in checks)


def markdown(checks: Sequence[Check]) -> str:
    """The same as a Markdown table."""
    rows = [(MARKS[check.state], check.name, check.line.replace("|", "\\|")) for check in checks]
    return "\n".join(["| | check | found |", "|---|---|---|", *(f"| {' | '.join(row)} |" for row in rows)]) + "\n"
