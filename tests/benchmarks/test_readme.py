"""The pages' figures: the latest of each, and none lost that a run did not measure."""

from pathlib import Path

from benchmarks.readme import SHOWN, merged, table


def row(name: str, value: float, commit: str) -> dict:
    return {
        "name": name,
        "value": value,
        "unit": "s",
        "bar": "<= 9",
        "holds": value <= 9,
        "commit": commit,
        "machine": "m",
        "date": "d",
    }


def test_a_page_keeps_what_the_last_run_did_not_measure(tmp_path: Path):
    kept = tmp_path / "figures.json"
    merged(kept, [row("run_seconds", 5, "a"), row("rerun_seconds", 1, "a"), row("of no page", 1, "a")])
    rows = merged(kept, [row("run_seconds", 10, "b")])
    assert {name: (item["value"], item["commit"]) for name, item in rows.items()} == {
        "run_seconds": (10, "b"),
        "rerun_seconds": (1, "a"),
    }
    shown = table(rows, SHOWN)
    assert "| The whole life, after installation | 10 s | <= 9 | **fails** |" in shown
    assert "| The same again, everything cached | 1 s | <= 9 | holds |" in shown
    assert "commit `a`, m, d; commit `b`, m, d" in shown
