"""What people and parents see: plain lines, events, a bar on a terminal."""

import json
import os
import pty
import subprocess
import sys

import pytest

from mantus import console
from mantus.console import EVENT_MARK, emit, progress, say

BAR = """
from mantus.console import progress
with progress("clean", 3, "documents") as bar:
    bar.advance(3, "all kept")
"""


@pytest.fixture
def plain(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("MANTUS_EVENTS", raising=False)


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MANTUS_EVENTS", "1")


def parsed(text: str) -> list[dict[str, object]]:
    *lines, end = text.split("\n")
    assert end == ""
    assert all(line.startswith(EVENT_MARK) for line in lines)
    return [json.loads(line.removeprefix(EVENT_MARK)) for line in lines]


@pytest.mark.usefixtures("plain")
def test_people_read_stderr_and_nobody_gets_events(capsys: pytest.CaptureFixture[str]):
    emit({"started": "clean"})
    say("waiting")
    assert capsys.readouterr() == ("", "waiting\n")


@pytest.mark.usefixtures("events")
def test_a_parent_gets_every_event_on_a_line_of_its_own(capsys: pytest.CaptureFixture[str]):
    emit({"started": "clean", "note": "two\nlines"})
    say("waiting")
    out, err = capsys.readouterr()
    assert parsed(out) == [{"started": "clean", "note": "two\nlines"}, {"say": "waiting"}]
    assert err == ""


@pytest.mark.usefixtures("plain")
def test_a_long_step_shows_plain_lines(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(console, "PLAIN_INTERVAL_S", 0.0)
    with progress("clean", 1200, "documents") as bar:
        bar.advance(1100, "half")
        bar.advance(100)
    with progress("read", unit="pages") as bar:
        bar.advance()
    out, err = capsys.readouterr()
    assert out == ""
    assert list(dict.fromkeys(err.splitlines())) == [
        "clean: 1,100 of 1,200 documents half",
        "clean: 1,200 of 1,200 documents half",
        "read: 1 pages",
    ]


@pytest.mark.usefixtures("plain")
def test_a_short_step_shows_nothing(capsys: pytest.CaptureFixture[str]):
    with progress("clean", 2, "documents") as bar:
        bar.advance(2)
    assert capsys.readouterr() == ("", "")


@pytest.mark.usefixtures("events")
def test_progress_ends_with_an_event_that_has_it_all(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(console, "EVENT_INTERVAL_S", 3600.0)
    with progress("clean", 100, "documents") as bar:
        for number in range(100):
            bar.advance(note=f"at {number}")
    out, err = capsys.readouterr()
    assert parsed(out) == [{"progress": "clean", "done": 100, "total": 100, "unit": "documents", "note": "at 99"}]
    assert err == ""


@pytest.mark.usefixtures("events")
def test_progress_emits_events_on_the_way(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(console, "EVENT_INTERVAL_S", 0.0)
    with progress("read") as bar:
        bar.advance(0.5)
        bar.advance(0.5)
    assert [(event["done"], event["total"]) for event in parsed(capsys.readouterr().out)] == [
        (0.5, None),
        (1.0, None),
        (1.0, None),
    ]


def test_on_a_terminal_a_bar_is_drawn_on_stderr():
    master, terminal = pty.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "MANTUS_EVENTS"}
    environment |= {"TERM": "xterm", "COLUMNS": "120"}
    done = subprocess.run([sys.executable, "-c", BAR], stdout=subprocess.PIPE, stderr=terminal, env=environment)
    os.close(terminal)
    drawn = os.read(master, 1 << 16).decode()
    os.close(master)
    assert (done.returncode, done.stdout) == (0, b"")
    assert "3/3" in drawn
    assert "documents all kept" in drawn
