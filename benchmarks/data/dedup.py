"""Measure dedup on text that is on every machine: cost, and recall and precision on planted copies of known kind.

`python benchmarks/data/dedup.py [--mb 60] [--quick] [--out benchmarks/results]`. The corpus is the sources and
documents of the installed packages, and copies of some of them; what is alike is told by plain sets of words in Python.
It knows the phase by its config and its files only. Each measurement is a process of its own.
"""

import argparse
import hashlib
import json
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

from mantus.data.corpus import Row, document_id, part_paths, write_rows
from mantus.data.dedup.run import DedupConfig, run
from mantus.launch.figures import Figure, machine, record
from mantus.storage import PhaseConfig, execute

KINDS = ("exact", "case and spaces", "1 % of words", "3 % of words", "8 % of words", "first lines dropped")
EDITS = {"1 % of words": 0.01, "3 % of words": 0.03, "8 % of words": 0.08}
PLANTED = 0.15
"""Copies per document."""
THRESHOLD = 0.8
VARIANTS: dict[str, dict[str, Any]] = {
    "14 x 8": {"bands": 14, "rows": 8},
    "20 x 5 (default)": {},
    "20 x 5, not verified": {"verify": False},
    "20 x 5, lines removed, 13-grams": {"repeated": "remove", "evaluation_sets": ["SET"]},
}


class Planted(PhaseConfig):
    """Names a corpus."""

    name: str


def texts(megabytes: float) -> Iterator[tuple[str, str]]:
    """(text, form) of files of installed packages of 1 kB to 200 kB, in the order of their paths' hashes."""
    files = {}
    for package in metadata.distributions():
        for entry in package.files or ():
            if entry.suffix in (".py", ".md", ".rst", ".txt") and ".." not in entry.parts:
                files[entry.as_posix()] = Path(str(entry.locate()))
    size = 0
    for name in sorted(files, key=lambda name: hashlib.blake2b(name.encode()).digest()):
        path = files[name]
        if not path.is_file() or not 1000 <= path.stat().st_size <= 200_000:
            continue
        text = path.read_bytes().decode("utf-8", "replace")
        yield text, "code" if name.endswith(".py") else "prose"
        size += len(text)
        if size >= megabytes * 1e6:
            return


def copy_of(text: str, kind: str, chance: random.Random, words: list[str]) -> str:
    """A copy with a known change."""
    if kind == "case and spaces":
        return re.sub(r"\s+", "  ", text.upper())
    if kind == "first lines dropped":
        lines = text.split("\n")
        return "\n".join(lines[max(1, len(lines) // 15) :])
    share = EDITS.get(kind, 0.0)
    return re.sub(r"\w+", lambda found: chance.choice(words) if chance.random() < share else found[0], text)


def plant(megabytes: float) -> tuple[list[Row], dict[str, tuple[str, str]]]:
    """Rows, shuffled, and for each planted URL its base's and its kind."""
    chance = random.Random(0)
    base = list(texts(megabytes))
    words = sorted({word for text, _ in base[:50] for word in re.findall(r"\w+", text)})
    rows, truth = [], {}
    for number, (text, form) in enumerate(base):
        rows.append(row(text, form, f"base:{number}"))
        if chance.random() < PLANTED:
            kind = KINDS[len(truth) % len(KINDS)]
            url = f"copy:{number}"
            truth[url] = (f"base:{number}", kind)
            rows.append(row(copy_of(text, kind, chance, words), form, url))
    chance.shuffle(rows)
    return rows, truth


def row(text: str, form: str, url: str) -> Row:
    return Row(document_id(text), text, form, url, "", "", "", form)


def shingles(text: str) -> set[tuple[str, ...]]:
    words = re.findall(r"\w+", text.lower())
    return {tuple(words[i : i + 5]) for i in range(max(1, len(words) - 4))} if words else set()


def similarity(left: str, right: str) -> float:
    """Jaccard similarity by plain sets."""
    a, b = shingles(left), shingles(right)
    return len(a & b) / len(a | b) if a | b else 1.0


def measured(corpus: str, store: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Run the phase in a process of its own: CPU and wall seconds, peak MB, where the artifact is."""
    command = [sys.executable, __file__, "--measure", json.dumps({**settings, "corpus": corpus, "store": str(store)})]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def measure(settings: dict[str, Any]) -> dict[str, Any]:
    """What `measured` runs."""
    start, wall = time.process_time(), time.monotonic()
    made = run(DedupConfig(**settings))
    status = Path("/proc/self/status").read_text()  # ru_maxrss would be that of the process before exec
    peak = int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) / 1024
    seconds = {"cpu": time.process_time() - start, "wall": time.monotonic() - wall}
    return {**seconds, "peak_mb": peak, "uri": made.uri, "documents": made.stats["documents"]}


def judged(uri: str, rows: dict[str, Row], truth: dict[str, tuple[str, str]]) -> dict[str, tuple[int, int, int, int]]:
    """For each kind: planted, planted at THRESHOLD or more; of these found; drops of that kind that are wrong.

    Found: not both kept. Wrong: unlike the document that stands for it, and below the threshold with its own base.
    """
    import polars as pl

    folder = Path(uri.removeprefix("file://"))
    kept = {url for part in part_paths(folder) for url in pl.read_parquet(part, columns=["url"])["url"]}
    pairs = pl.read_parquet(folder / "duplicates.parquet").select("url", "kept_url").rows()
    wrong = dict.fromkeys((*KINDS, "not planted"), 0)
    for url, survivor in pairs:
        if similarity(rows[url].text, rows[survivor].text) < THRESHOLD:
            wrong[truth[url][1] if url in truth else "not planted"] += 1
    table = {}
    for kind in KINDS:
        planted = [(url, base) for url, (base, own) in truth.items() if own == kind]
        like = [pair for pair in planted if similarity(*(rows[url].text for url in pair)) >= THRESHOLD]
        found = sum(not {url, base} <= kept for url, base in like)
        table[kind] = (len(planted), len(like), found, wrong[kind])
    unplanted = sum(url not in truth for url, _ in pairs)
    return {
        **table,
        "not planted": (unplanted, 0, 0, wrong["not planted"]),
        "all": (len(pairs), 0, 0, sum(wrong.values())),
    }


def show(name: str, cost: dict[str, Any], table: dict[str, tuple[int, int, int, int]], num: int, size: float) -> None:
    print(f"\n{name}: {num:,} documents, {size:.1f} MB, {cost['cpu']:.1f} CPU s, {cost['wall']:.1f} s, ", end="")
    print(f"{size / cost['cpu']:.1f} MB per CPU s, peak {cost['peak_mb']:.0f} MB, {cost['documents']:,} kept")
    print("| kind | planted | alike (J >= 0.8) | found | recall | wrong drops |\n|---|---:|---:|---:|---:|---:|")
    for kind in KINDS:
        planted, like, found, wrong = table[kind]
        print(f"| {kind} | {planted} | {like} | {found} | {found / like if like else float('nan'):.4f} | {wrong} |")
    like, found = (sum(table[kind][place] for kind in KINDS) for place in (1, 2))
    print(f"| all planted | {sum(table[kind][0] for kind in KINDS)} | {like} | {found} | {found / like:.4f} | |")
    print(
        f"| dropped in all | {table['all'][0]} | | | precision {1 - table['all'][3] / table['all'][0]:.4f} | ", end=""
    )
    print(f"{table['all'][3]} |")


def figures(name: str, cost: dict[str, Any], table: dict[str, tuple[int, int, int, int]], size: float) -> list[Figure]:
    stem = "dedup_" + re.sub(r"\W+", "_", name).strip("_")
    like, found = (sum(table[kind][place] for kind in KINDS) for place in (1, 2))
    bars = (">= 0.999", ">= 0.99") if name == "20 x 5 (default)" else ("", "")
    return [
        Figure(f"{stem}_megabytes_per_cpu_second", size / cost["cpu"], "MB/s"),
        Figure(f"{stem}_peak_megabytes", cost["peak_mb"], "MB"),
        Figure(f"{stem}_recall", found / like, "", bars[0]),
        Figure(f"{stem}_precision", 1 - table["all"][3] / table["all"][0], "", bars[1]),
    ]


def main() -> None:
    """Plant, measure each variant, print one table each, and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mb", type=float, default=60, help="MB of text before planting")
    parser.add_argument("--quick", action="store_true", help="6 MB: less than a minute")
    parser.add_argument("--out", type=Path, help="folder to write data.json into")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(json.loads(given.measure))))
        return
    planted, truth = plant(6 if given.quick else given.mb)
    size = sum(len(row.text.encode()) for row in planted) / 1e6
    found: list[Figure] = []
    with tempfile.TemporaryDirectory() as temporary:
        store, sets = Path(temporary) / "store", Path(temporary) / "set.jsonl"
        sets.write_text("".join(json.dumps({"id": n, "text": planted[n].text[:2000]}) + "\n" for n in range(100)))

        def produce(work: Any) -> dict[str, int]:
            write_rows(planted, work.out)
            return {"bytes": int(size * 1e6)}

        corpus = execute("clean", Planted(store=str(store), name="planted"), produce).uri
        rows = {row.url: row for row in planted}
        print(machine())
        for name, settings in VARIANTS.items():
            chosen = {
                **settings,
                **({"evaluation_sets": [{"path": str(sets)}]} if "evaluation_sets" in settings else {}),
            }
            cost = measured(corpus, store, chosen)
            table = judged(cost["uri"], rows, truth)
            show(name, cost, table, len(planted), size)
            found += figures(name, cost, table, size)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        record(given.out / "data.json", found)


if __name__ == "__main__":
    main()
