"""Put the figures of the last run into README.md and docs/cluster.md, and a picture of its report into docs/.

What that run did not measure keeps the figure it had, with its commit, machine and date: docs/figures.json holds them.
It knows figures and the marks in these pages, not how anything was measured. The picture needs Chromium.
"""

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from mantus.launch.figures import merge

ROOT = Path(__file__).parent.parent
KEPT = ROOT / "docs" / "figures.json"
BEGIN, END = "<!-- figures -->", "<!-- /figures -->"
SHOWN = {
    "run_seconds": "The whole life, after installation",
    "run_peak_memory": "Peak memory of the run and all its processes",
    "rerun_seconds": "The same again, everything cached",
    "heldout_bits_per_byte": "Held-out text, the model (bar: `xz -9e` on the same bytes)",
    "zero_step_bits_per_byte": "The same model untrained, which must not beat xz (short run)",
    "int8_perplexity_change": "int8: perplexity change, through the serving engine",
    "int8_top1_agreement": "int8: agreement with the trained model's top token",
    "damaged_release_refused": "int8 weights damaged on purpose: refused by the gate",
    "tool_selection_seen_tools": "Right tool, unseen phrasings of seen tools",
    "tool_selection_unseen_tools": "Right tool, tools never seen in training",
    "arguments_exact_seen_tools": "Right tool and every argument exact, seen tools",
    "irrelevance_seen_tools": "No call where no offered tool fits",
    "parse_rate_seen_tools": "Calls that parse under the grammar, seen tools",
    "parse_rate_unseen_tools": "Calls that parse under the grammar, unseen tools",
    "agent_tasks_solved": "Agent tasks solved, graded by outcome",
    "kills_survived": "kill -9 at random moments survived (short run)",
    "artifacts_identical_after_kills": "Artifacts byte-identical afterwards",
    "bad_input_handled": "Bad inputs that end in a counted drop or one clear line",
    "import_mantus": "`import mantus`",
    "mantus_help": "`mantus --help`",
    "make_test_fresh_clone": "`make test` on a fresh clone",
}
CLUSTER = {
    "cluster_life": "`helm install` to a chat with a tool call, cluster start and image builds included",
    "cluster_life_again": "The same run again: every phase found, the service unchanged",
    "cluster_start": "Start of the test cluster",
    "image_mantus_build": "Build of the image of all phases",
    "image_mantus_size": "Size of the image of all phases",
    "image_mantus-serve_size": "Size of the server's image",
    "helm_install": "`helm install --wait`",
    "helm_test": "`helm test`",
    "pytorchjob_two_pods": "PyTorchJob of two pods",
    "worker_deleted_loss_curve_equal": "A worker's pod deleted: same loss curve, same weights",
    "killed_launcher_adopted": "Launcher killed: the next one follows the same job",
    "elastic_steps_once": "2, 1, 2 workers: steps trained exactly once",
    "trainjob_same_weights": "The same as a TrainJob of two nodes: same weights",
    "reported_noimage": "An image that cannot be pulled is reported after",
    "reported_nonode": "A pod that finds no node is reported after",
    "reported_nosecret": "A secret that is missing is reported after",
    "deploy_first_ready": "`mantus deploy`, first release, tested",
    "rolling_update": "Rolling update with canary, under load",
    "rolling_update_failed_requests": "Requests that failed meanwhile",
    "deploy_same_again_changes": "Deploying the same again: objects changed",
    "deploy_rollback_failed_requests": "Requests that failed while a broken release was taken back",
    "prometheus_queries_with_data": "Queries of rules and dashboards that return data of the pods (all)",
}
PAGES = {"README.md": SHOWN, "docs/cluster.md": CLUSTER}


def main() -> None:
    """Rewrite the pages between the marks; take the picture where Chromium is found."""
    latest = ROOT / ".mantus" / "runs" / "latest"
    if not (latest / "figures.json").is_file():
        sys.exit("make readme: .mantus/runs/latest has no figures; `make run` makes them")
    rows = merged(KEPT, json.loads((latest / "figures.json").read_text()))
    for name, shown in PAGES.items():
        page = ROOT / name
        if not shown.keys() & rows.keys():
            continue  # nothing of it was measured yet: it stays as it is
        head, _, rest = page.read_text(encoding="utf-8").partition(BEGIN)
        tail = rest.partition(END)[2]
        page.write_text(f"{head}{BEGIN}\n{table(rows, shown)}\n{END}{tail}", encoding="utf-8")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium:
        photograph(chromium, latest / "report.html", ROOT / "docs" / "report.png")
    else:
        print("no Chromium here: docs/report.png stays as it is", file=sys.stderr)


def merged(kept: Path, latest: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """The figures of pages by name, the latest of each; written back to `kept`."""
    shown = {name for page in PAGES.values() for name in page}
    return {row["name"]: row for row in merge(kept, [row for row in latest if row["name"] in shown])}


def table(rows: dict[str, dict[str, Any]], shown: dict[str, str]) -> str:
    """The figures of a page as Markdown, and where they come from. rows: by name.  shown: name -> label."""
    lines = ["| | measured | asked | |", "|---|---|---|---|"]
    known = [(label, rows[name]) for name, label in shown.items() if name in rows]
    marks = {True: "holds", False: "**fails**", None: ""}
    for label, row in known:
        value = f"{row['value']:,.4g} {row['unit']}".strip()
        lines.append(f"| {label} | {value} | {row['bar']} | {marks[row['holds']]} |")
    sources = sorted({(row["commit"], row["machine"], row["date"]) for _, row in known})
    made = "; ".join(f"commit `{commit}`, {machine}, {date}" for commit, machine, date in sources)
    return "\n".join([*lines, "", f"Measured by `make run` and `make e2e`: {made}. `make readme` writes this table."])


def photograph(chromium: str, page: Path, out: Path) -> None:
    """A screenshot of the top of a page."""
    with tempfile.TemporaryDirectory() as profile:
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--disable-background-networking"]
        flags += [f"--user-data-dir={profile}", "--window-size=1280,1560", f"--screenshot={out}"]
        subprocess.run([chromium, *flags, page.resolve().as_uri()], check=True, capture_output=True)


if __name__ == "__main__":
    main()
