"""Figures: bars decide, names merge."""

import json
from pathlib import Path

from mantus.launch.figures import Figure, record, table


def test_bars_decide():
    assert Figure("a", 5, "s", "<= 5").holds is True
    assert Figure("a", 5.1, "s", "<= 5").holds is False
    assert Figure("a", 95, "%", ">= 95").holds is True
    assert Figure("a", 5, "s").holds is None


def test_names_merge_and_rows_say_where_they_come_from(tmp_path: Path):
    path = tmp_path / "figures.json"
    record(path, [Figure("a", 1, "s", "<= 2"), Figure("b", 2, "")])
    rows = record(path, [Figure("a", 3, "s", "<= 2")])
    assert [(row["name"], row["value"], row["holds"]) for row in rows] == [("a", 3, False), ("b", 2, None)]
    assert json.loads(path.read_text()) == rows
    assert all(row["machine"] and row["date"] for row in rows)
    assert "FAILS" in table(rows)
