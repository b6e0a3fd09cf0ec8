"""What people see while a phase works: progress bars on a terminal, plain lines in a log, events for a parent.

It knows nothing of phases or artifacts.
"""

import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

EVENT_MARK = "\x1emantus "
"""A line that starts with this carries one JSON event for the parent process (see `mantus run`)."""

PLAIN_INTERVAL_S = 5.0
EVENT_INTERVAL_S = 0.3


def emit(event: dict[str, Any]) -> None:
    """Write one event line if a parent asked for events (MANTUS_EVENTS=1)."""
    if os.environ.get("MANTUS_EVENTS") == "1":
        print(EVENT_MARK + json.dumps(event), flush=True)


def say(text: str) -> None:
    """Print one line for people (stderr, so that stdout stays for machines)."""
    if os.environ.get("MANTUS_EVENTS") == "1":
        emit({"say": text})
    else:
        print(text, file=sys.stderr, flush=True)


_relayed = 0.0


def relay(event: dict[str, Any]) -> None:
    """Show a progress event of another process: as it is to a parent, else as a plain line now and then."""
    global _relayed
    if os.environ.get("MANTUS_EVENTS") == "1":
        emit(event)
    elif time.monotonic() - _relayed >= PLAIN_INTERVAL_S:
        _relayed = time.monotonic()
        of_total = f" of {event['total']:,.0f}" if event["total"] else ""
        line = f"{event['progress']}: {event['done']:,.0f}{of_total} {event['unit']} {event['note']}"
        print(line.rstrip(), file=sys.stderr, flush=True)


@dataclass
class Progress:
    """A running count. `note` is free text shown behind it, such as a loss."""

    what: str
    total: float | None
    unit: str
    done: float = 0
    note: str = ""
    _shown: float = field(default_factory=time.monotonic)
    _start: float = field(default_factory=time.monotonic)
    _bar: Any = None

    def advance(self, num: float = 1, note: str = "") -> None:
        """Count `num` more units."""
        self.done += num
        self.note = note or self.note
        self._show()

    def _show(self, last: bool = False) -> None:
        if self._bar is not None:
            bar, task = self._bar
            bar.update(task, completed=self.done, note=self.note)
            return
        events = os.environ.get("MANTUS_EVENTS") == "1"
        now = time.monotonic()
        if not last and now - self._shown < (EVENT_INTERVAL_S if events else PLAIN_INTERVAL_S):
            return
        self._shown = now
        if events:
            emit({"progress": self.what, "done": self.done, "total": self.total, "unit": self.unit, "note": self.note})
        elif now - self._start >= PLAIN_INTERVAL_S:
            of_total = f" of {self.total:,.0f}" if self.total else ""
            print(f"{self.what}: {self.done:,.0f}{of_total} {self.unit} {self.note}".rstrip(), file=sys.stderr)


@contextmanager
def progress(what: str, total: float | None = None, unit: str = "") -> Iterator[Progress]:
    """Show the progress of one long step.

    what: what is counted, in a word or two ("clean").  total: in `unit`s, None when unknown.
    """
    counter = Progress(what, total, unit)
    if os.environ.get("MANTUS_EVENTS") == "1" or not sys.stderr.isatty():
        yield counter
        counter._show(last=True)
        return
    with _rich_bar() as bar:
        counter._bar = (bar, bar.add_task(what, total=total, unit=unit, note=""))
        yield counter


def _rich_bar() -> Any:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
    from rich.progress import Progress as RichProgress

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[unit]} {task.fields[note]}"),
        TimeRemainingColumn(),
    )
    return RichProgress(*columns, console=Console(stderr=True), transient=True)
