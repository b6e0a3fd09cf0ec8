"""What a pipeline's UI shows beside an artifact: numbers, a page, a table, from its manifest and its small files.

It knows KFP's artifacts by `log_metric` and `path`, not KFP; drawings are in sections.py and plots.py.
"""

import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mantus.launch.figures import Figure
from mantus.report import sections
from mantus.report.run import page
from mantus.storage import Manifest, open_store, read_manifest

DRAWN: dict[str, str] = {
    "model": "history.jsonl",
    "evaluation": "results.json",
    "release": "release.json",
    "transcripts": "transcripts.jsonl",
}
"""Kind -> the one small file that its section is drawn from: the rest of an artifact may be gigabytes."""


def show(made: Manifest, metrics: Any = None, html: Any = None, markdown: Any = None) -> None:
    """Fill the artifacts that are given: `metrics` with numbers, `html` with a page, `markdown` with the waterfall.

    What cannot be drawn is said and fails nothing: the work itself is done and committed.
    """
    try:
        if metrics is not None:
            for name, value in numbers(made.stats).items():
                metrics.log_metric(name, value)
        if html is not None:
            Path(html.path).write_text(drawing(made), encoding="utf-8")
        if markdown is not None:
            Path(markdown.path).write_text(waterfall(made), encoding="utf-8")
    except (OSError, ValueError, LookupError) as error:
        print(f"mantus: {made.uri}: not drawn: {' '.join(str(error).split())}", file=sys.stderr)


def numbers(stats: Mapping[str, Any]) -> dict[str, float]:
    """Every number in a phase's stats: its figures, its own, and those one level below as `group.name`."""
    found = {figure["name"]: figure["value"] for figure in stats.get("figures", ())}
    for name, value in stats.items():
        inner = value if isinstance(value, dict) else {"": value}
        for key, number in inner.items():
            if isinstance(number, int | float) and not isinstance(number, bool):
                found.setdefault(f"{name}.{key}" if key else name, number)
    return found


def drawing(made: Manifest) -> str:
    """One artifact as a self-contained page; a report is its own page."""
    store = open_store(made.uri)
    if made.kind == "report":
        return store.get("index.html").decode()
    with tempfile.TemporaryDirectory(prefix="mantus-show-") as temporary:
        folder = Path(temporary)
        if made.kind in DRAWN:
            (folder / DRAWN[made.kind]).write_bytes(store.get(DRAWN[made.kind]))
        note = f"Mantus {made.mantus_version}, {made.created}: {made.uri}"
        return page(f"{made.kind} {made.key[:12]}", {made.kind: [(made, folder)]}, [made], note)


def waterfall(made: Manifest) -> str:
    """A corpus as Markdown: what was collected, every reason for a drop, what is left, and where it came from."""
    found: sections.Found = {item.kind: [(item, Path())] for item in corpora(made)}
    rows = [(name, f"{documents:,}", sections.megabytes(size)) for name, documents, size in sections.steps(found)]
    sources = [
        (name, f"{entry['documents']:,}", sections.megabytes(entry["bytes"]))
        for name, entry in made.stats.get("sources", {}).items()
    ]
    return (
        f"# Corpus, step by step\n\n{markdown_table(('step', 'documents', 'size'), rows)}"
        f"\n## Sources\n\n{markdown_table(('source', 'documents', 'size'), sources)}\n`{made.uri}`\n"
    )


def corpora(made: Manifest) -> list[Manifest]:
    """The corpora that this one was made from, first things first, and itself."""
    chain = [made]
    while chain[0].kind in ("clean", "dedup"):
        chain.insert(0, read_manifest(chain[0].inputs[0].uri))
    return chain


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown; numbers stand right."""
    line = "|" + "|".join("---" if column == 0 else "---:" for column in range(len(head))) + "|"
    return "".join(f"{text}\n" for text in (_row(head), line, *map(_row, rows)))


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def conclusion(state: str, message: str, tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """What became of a run, as Markdown: its state, its tasks, its figures.

    state: SUCCEEDED, FAILED or CANCELLED.  message: the runner's own words.  tasks: see `launch.component.records`.
    """
    errors = [f"**{name}**: {task['error']}" for name, task in tasks.items() if "error" in task]
    said = "\n\n".join(errors) or (message or "" if state != "SUCCEEDED" else "")
    text = f"# Run {state.lower()}\n\n{said}\n\n"
    if not tasks:
        return text
    rows = [(name, _what(task), str(task.get("uri", ""))) for name, task in sorted(tasks.items())]
    text += f"## Tasks\n\n{markdown_table(('task', 'came to', 'artifact'), rows)}\n"
    figures = list(_figures(tasks))
    head = ("figure", "value", "unit", "asked", "holds")
    return text + (f"## Figures\n\n{markdown_table(head, figures)}" if figures else "")


def _what(task: Mapping[str, Any]) -> str:
    return "failed" if "error" in task else "found by its content key" if task.get("cached") else "made"


def _figures(tasks: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    for _, task in sorted(tasks.items()):
        for row in task.get("figures", ()):
            figure = Figure(**row, commit="", machine="", date="")
            holds = {True: "yes", False: "NO", None: ""}[figure.holds]
            yield figure.name, f"{figure.value:,.4g}", figure.unit, figure.bar, holds
