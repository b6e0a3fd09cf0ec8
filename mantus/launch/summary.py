"""Conclude a run: figures, the report beside them, and where everything is.

It knows which stats of which phase are figures, not how they came about.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from mantus.launch.figures import Figure, record, table
from mantus.launch.local import Outcome
from mantus.storage import open_store, read_manifest

GIB = 1 << 30
RUN_BUDGET_S, RERUN_BUDGET_S, MEMORY_BUDGET_GIB = 900, 60, 4


def conclude(outcome: Outcome, home: Path) -> int:
    """Write the run's folder, print what people want to know; the exit code."""
    if outcome.error:
        print(f"mantus run: {outcome.error}", file=sys.stderr)
        print(f"mantus run: stopped after {outcome.seconds:.0f} s; run it again to go on", file=sys.stderr)
        return 1
    artifacts = {name: task.uri for name, task in outcome.tasks.items() if task.uri}
    (outcome.folder / "artifacts.json").write_text(json.dumps(artifacts, indent=1) + "\n")
    rows = _record_figures(outcome, artifacts, home)
    page = outcome.folder / "report.html"
    page.write_bytes(open_store(artifacts["report"]).get("index.html"))
    release = _keep_release(artifacts["release"], home)
    _point_latest(home, outcome.folder)
    print("\n" + table(rows))
    print(f"\nmodel     {release / 'hf'}")
    print(f"release   {release}")
    if deployed := artifacts.get("deploy"):
        print(f"endpoint  {read_manifest(deployed).stats['endpoint']}   (in the cluster)")
    else:
        print("endpoint  make serve   ->  http://127.0.0.1:8080/v1")
        print("agent     make agent   (needs the endpoint)")
    print(f"report    {page.absolute().as_uri()}")
    return 0


def _record_figures(outcome: Outcome, artifacts: dict[str, str], home: Path) -> list[dict[str, Any]]:
    path = outcome.folder / "figures.json"
    previous = home / "runs" / "latest" / "figures.json"
    if previous.is_file():
        path.write_bytes(previous.read_bytes())
    return record(path, [*_cost(outcome), *_quality(artifacts)])


def _cost(outcome: Outcome) -> list[Figure]:
    made = [task for task in outcome.tasks.values() if task.uri and not task.cached]
    if not made:
        return [Figure("rerun_seconds", round(outcome.seconds, 1), "s", f"<= {RERUN_BUDGET_S}")]
    if len(made) < len(outcome.tasks):
        return [Figure("partial_run_phases_made", len(made), "phases")]
    peak = round(outcome.peak_bytes / GIB, 2)
    return [
        Figure("run_seconds", round(outcome.seconds, 1), "s", f"<= {RUN_BUDGET_S}"),
        Figure("run_peak_memory", peak, "GiB", f"<= {MEMORY_BUDGET_GIB}"),
    ]


def _quality(artifacts: dict[str, str]) -> list[Figure]:
    found = {name: read_manifest(uri).stats for name, uri in artifacts.items()}
    return [figure for name, stats in found.items() for figure in _figures_of(name, stats)]


def _figures_of(task: str, stats: dict[str, Any]) -> list[Figure]:
    """The figures among a phase's stats: entries of `figures`, each {name, value, unit, bar}."""
    return [Figure(**entry) for entry in stats.get("figures", ())]


def _keep_release(uri: str, home: Path) -> Path:
    """A plain local copy of the release, for `make serve` after the store's server has stopped."""
    import shutil

    from mantus.storage import fetch

    target = home / "release"
    fresh = home / f".release-{os.getpid()}"
    shutil.rmtree(fresh, ignore_errors=True)
    shutil.copytree(fetch(uri), fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)
    return target


def _point_latest(home: Path, folder: Path) -> None:
    link = home / "runs" / f".latest-{os.getpid()}"
    link.unlink(missing_ok=True)
    link.symlink_to(folder.name)
    link.replace(home / "runs" / "latest")
