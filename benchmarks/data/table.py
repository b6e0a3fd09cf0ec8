"""The figures of data.json as Markdown, for the terminal and for the pages in docs/; and what they are counted from.

`python -m benchmarks.data.table` writes docs/data.md and docs/dedup.md between their marks, from benchmarks/results.
It knows names of figures, not how they were measured.
"""

import gzip
import json
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import mantus
from benchmarks.data import rival
from benchmarks.data.truth import BANDS, NUM_COPIES, band_name

ROOT = Path(__file__).parent.parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "data.json"
BEGIN, END = "<!-- bench-data -->", "<!-- /bench-data -->"
COSTS = (
    ("MinHash dedup, 20 x 5 verified (default)", "dedup", "default", "dedup_default_times_less_cpu"),
    ("MinHash dedup, 14 x 8 as datatrove's", "dedup", "14x8", "dedup_14x8_times_less_cpu"),
    ("MinHash dedup, 20 x 5 verified at 0.5", "dedup", "threshold_0.5", "dedup_threshold_0.5_times_less_cpu"),
    ("HTML extraction (trafilatura)", "extract", "mantus", "extract_times_less_cpu"),
    ("Tokenise and shuffle", "tokenize", "mantus", "tokenize_times_less_cpu"),
    ("WARC to token shards", "end_to_end", "mantus", "end_to_end_times_less_cpu"),
)
"""Label, task, who of Mantus, the factor."""
FILTER = "filter_times_less_cpu_own"
"""The factor that benchmarks/data/filter.py stores."""
OTHERS = {
    "dedup_default_recall at J >= 0.8": "Recall at J >= 0.8, default",
    "dedup_default_precision": "Precision, default",
    "dedup_default_recall_beyond_datatrove at J >= 0.8": "Recall at J >= 0.8 beyond datatrove's, default",
    "dedup_14x8_recall_beyond_datatrove of all planted": "Recall of all planted beyond datatrove's, 14 x 8",
    "dedup_threshold_0.5_recall_beyond_datatrove of all planted": "Recall of all planted beyond datatrove's, at 0.5",
    "tokenize_documents_with_other_ids": "Documents whose ids are not those of the exported tokenizer, of all",
}
WHO = {
    "datatrove": "datatrove 14 x 8",
    "14x8": "14 x 8, not verified",
    "14x8_verified": "14 x 8",
    "default": "20 x 5 (default)",
    "threshold_0.5": "20 x 5, threshold 0.5",
}
VARIANTS = {
    "14x8_verified": "14 x 8",
    "default": "20 x 5 (default)",
    "unverified": "20 x 5, `verify: false`",
    "lines_and_set": "20 x 5, lines removed, one evaluation set",
}
MARKS = {True: "holds", False: "**fails**", None: ""}

Rows = dict[str, dict[str, Any]]


def ids(folder: Path) -> Iterator[str]:
    """Ids of documents in datatrove's output."""
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            yield from (json.loads(line)["id"] for line in lines)


def texts(folder: Path, num: int) -> list[str]:
    """The first texts of a folder of jsonl.gz."""
    with gzip.open(sorted(folder.glob("*.jsonl.gz"))[0], "rt", encoding="utf-8") as lines:
        return [json.loads(line)["text"] for line in islice(lines, num)]


def num_tokens(folder: Path) -> int:
    """Tokens in datatrove's shards, two bytes each."""
    return sum(path.stat().st_size for path in folder.glob("*.ds")) // 2


def render(rows: list[dict[str, Any]], versions: dict[str, str] | None = None) -> str:
    """The one table: costs and bars; recall by kind and by similarity."""
    known = {row["name"]: row for row in rows}
    parts = [_corpus(known), _costs(known, versions or {}), _bars(known), _recall(known), _made(known)]
    return "\n\n".join(part for part in parts if part)


def _corpus(known: Rows) -> str:
    values = {name: row["value"] for name, row in known.items() if name.startswith("corpus_")}
    return (
        f"{values['corpus_documents']:,.0f} documents, {values['corpus_megabytes']:,.1f} MB of text; "
        f"{values['corpus_pages']:,.0f} pages, {values['corpus_page_megabytes']:,.1f} MB of HTML."
    )


def _costs(known: Rows, versions: dict[str, str]) -> str:
    theirs = f"datatrove {versions.get('datatrove', rival.VERSION)}"
    lines = [f"| CPU s, reading and writing included | {theirs} | Mantus {mantus.__version__} | factor | asked | |"]
    lines += ["|---|---:|---:|---:|---|---|"]
    for label, task, who, factor in COSTS:
        if factor in known:
            costs = (known[f"{task}_{name}_cpu_seconds"]["value"] for name in ("datatrove", who))
            lines.append(f"| {label} | {' | '.join(f'{cost:,.1f}' for cost in costs)} | {_judged(known[factor])} |")
        if task == "extract" and FILTER in known:
            lines.append(f"| Quality filter, the same rules | | | {_judged(known[FILTER])} |")
    return "\n".join(lines)


def _judged(row: dict[str, Any]) -> str:
    return f"{row['value']:.1f} | {row['bar']} | {MARKS[row['holds']]}"


def _bars(known: Rows) -> str:
    found = [(label, known[name]) for name, label in OTHERS.items() if name in known]
    if not found:
        return ""
    lines = [f"| {label} | {row['value']:.4f} | {row['bar']} | {MARKS[row['holds']]} |" for label, row in found]
    return "\n".join(["| | measured | asked | |", "|---|---:|---|---|", *lines])


def _recall(known: Rows) -> str:
    who = [name for name in WHO if f"dedup_{name}_precision" in known]
    if not who:
        return ""
    lines = [f"| recall | planted | {' | '.join(WHO[name] for name in who)} |", "|---|---:" + "|---:" * len(who) + "|"]
    for name in (*NUM_COPIES, *(band_name(*band) for band in BANDS)):
        if planted := known.get(f"dedup_planted_{name}", {}).get("value"):
            found = (known[f"dedup_{one}_recall {name}"]["value"] for one in who)
            lines.append(f"| {name} | {planted:,.0f} | {' | '.join(f'{share:.3f}' for share in found)} |")
    for label, name in (("all", "recall of all planted"), ("precision", "precision"), ("removed", "removed")):
        found = (known[f"dedup_{one}_{name}"]["value"] for one in who)
        form = ",.0f" if name == "removed" else ".4f"
        lines.append(f"| {label} | | {' | '.join(format(value, form) for value in found)} |")
    return "\n".join(lines)


def variants(rows: list[dict[str, Any]]) -> str:
    """What our dedup costs by its settings."""
    known = {row["name"]: row for row in rows}
    lines = ["| | CPU s | MB per CPU s | peak MB | recall at J >= 0.8 | precision |", "|---|---:|---:|---:|---:|---:|"]
    for name, label in VARIANTS.items():
        costs = ("cpu_seconds", "megabytes_per_cpu_second", "peak_megabytes")
        cost = [f"{known[f'dedup_{name}_{unit}']['value']:,.1f}" for unit in costs]
        quality = [f"{known[f'dedup_{name}_{what}']['value']:.4f}" for what in ("recall at J >= 0.8", "precision")]
        lines.append(f"| {label} | {' | '.join([*cost, *quality])} |")
    return "\n".join([*lines, "", _corpus(known), _made(known)])


def _made(known: Rows) -> str:
    made = sorted({(row["commit"], row["machine"], row["date"]) for row in known.values()})
    sources = "; ".join(f"commit `{commit}`, {machine}, {date}" for commit, machine, date in made)
    return f"Measured by `make bench-data`: {sources}."


def main() -> None:
    """Rewrite the pages between their marks."""
    rows = json.loads(RESULTS.read_text())
    for page, text in {"data.md": render(rows), "dedup.md": variants(rows)}.items():
        path = ROOT / "docs" / page
        head, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
        tail = rest.partition(END)[2]
        path.write_text(f"{head}{BEGIN}\n{text}\n{END}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
