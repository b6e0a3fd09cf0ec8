"""Measure how much memory each data phase needs for a corpus and for a larger one: it should be the same.

`python benchmarks/data/memory.py [--quick] [--workers 2] [--out benchmarks/results]`: 290 MB and 2.9 GB
of text, with `--quick` 150 and 450 MB. The text is that of installed packages, every fourth word another one, so that
no two documents are alike but those that are copied on purpose. Peaks are sums of proportional set sizes over the
process tree, sampled every 50 ms; `own` leaves out pages of files that are mapped, which the kernel takes back when it
needs them. It knows the phases by their verbs and configs.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import psutil

from mantus.launch.figures import Figure, machine, record
from mantus.launch.phases import PHASES

SIZES_MB, QUICK_MB = (290, 2900), (150, 450)
"""The smaller ones keep two workers busy too; else the larger ones would need more only since more is done at once."""
BASE_MB = 60
"""Of text of installed packages that all documents are made of."""
COPIED = 0.1
"""Share of documents that stand in the corpus twice."""
FILE_MB = 50
CYCLE_S = 0.05
BAR = 1.15


@dataclass
class Peak:
    """Largest sums over a process tree, in bytes."""

    total: int = 0
    own: int = 0


def base_texts(megabytes: float) -> list[str]:
    """Files of installed packages of 1 to 20 kB, in the order of their paths' hashes."""
    found = []
    for package in metadata.distributions():
        for entry in package.files or ():
            if entry.suffix in (".py", ".md", ".rst", ".txt") and ".." not in entry.parts:
                found.append((hashlib.blake2b(entry.as_posix().encode()).digest(), Path(str(entry.locate()))))
    chosen: list[str] = []
    size = 0.0
    for _, path in sorted(found):
        if path.is_file() and 1000 <= path.stat().st_size <= 20_000 and size < megabytes * 1e6:
            chosen.append(path.read_bytes().decode("utf-8", "replace"))
            size += len(chosen[-1])
    return chosen


def documents(megabytes: float) -> Iterator[str]:
    """Texts of `megabytes` in all: base texts again and again, every fourth word drawn anew."""
    base = [text.split(" ") for text in base_texts(min(megabytes, BASE_MB))]
    chance = random.Random(0)
    words = sorted({word for text in base[:200] for word in text if word.isalpha()})
    size = 0.0
    while True:
        for text in base:
            fresh = list(text)
            fresh[::4] = chance.choices(words, k=len(fresh[::4]))
            joined = " ".join(fresh)
            for _ in range(1 + (chance.random() < COPIED)):
                yield joined
                size += len(joined)
            if size >= megabytes * 1e6:
                return


def write_input(megabytes: float, folder: Path) -> int:
    """Write jsonl files of about FILE_MB; how many documents."""
    folder.mkdir(parents=True)
    num, texts = 0, documents(megabytes)
    while text := next(texts, None):
        with (folder / f"{num:08d}.jsonl").open("w", encoding="utf-8") as out:
            left = FILE_MB * 1e6
            while text and left > 0:
                out.write(json.dumps({"text": text}) + "\n")
                num, left = num + 1, left - len(text)
                text = next(texts, None) if left > 0 else None
    return num


def smaps(pid: int) -> tuple[int, int]:
    """Proportional set size of a process, and that without files."""
    sizes = {}
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
            name, size, *_ = line.split()
            sizes[name] = int(size) * 1024
    except OSError:
        pass  # it ended between listing and reading
    return sizes.get("Pss:", 0), sizes.get("Pss_Anon:", 0) + sizes.get("Pss_Shmem:", 0)


def measured(verb: str, settings: dict[str, Any]) -> tuple[str, Peak, float]:
    """Run a phase as a program: the artifact's URI, the peaks of its process tree, wall seconds."""
    command = [sys.executable, "-m", "mantus.cli", verb, "--json"]
    for name, value in settings.items():
        command += [f"--{name.replace('_', '-')}", value if isinstance(value, str) else json.dumps(value)]
    start, peak = time.monotonic(), Peak()
    environment = {**os.environ, "MANTUS_CACHE": str(Path(settings["store"]).parent / "cache")}
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    child = subprocess.Popen(command, env=environment, text=True, **quiet)
    tree = psutil.Process(child.pid)
    while child.poll() is None:
        try:
            found = [smaps(process.pid) for process in [tree, *tree.children(recursive=True)]]
        except psutil.NoSuchProcess:
            break
        peak.total = max(peak.total, sum(total for total, _ in found))
        peak.own = max(peak.own, sum(own for _, own in found))
        time.sleep(CYCLE_S)
    said, _ = child.communicate()
    if child.returncode:
        raise SystemExit(f"{verb} ended with {child.returncode}")
    return json.loads(said)["uri"], peak, time.monotonic() - start


SETTINGS: dict[str, dict[str, Any]] = {
    "collect": {},
    "clean": {"languages": [], "min_stop_words": 0, "min_punctuated_lines": 0, "min_alpha_ratio": 0.3},
    "dedup": {},
    "tokenizer": {},
    "tokenize": {},
}
"""Phases in order, each reading what the one before it made. Much of the text is code: rules of prose are lenient."""


def config_of(verb: str, made: dict[str, str], home: Path, workers: int) -> dict[str, Any]:
    """A phase's settings, with what was made so far as its inputs."""
    found = {**SETTINGS[verb], "store": str(home / "store")}
    if verb == "collect":
        found["sources"] = [{"type": "jsonl", "path": str(home / "in" / "*.jsonl"), "name": "rows"}]
    else:
        found["corpus"] = next(made[name] for name in ("dedup", "clean", "collect") if name in made)
    if verb == "tokenize":
        found["tokenizer"] = made["tokenizer"]
    return {**found, **({"workers": workers} if "workers" in PHASES[verb].config.model_fields else {})}


def walk(megabytes: float, home: Path, workers: int, verbs: list[str]) -> dict[str, tuple[Peak, float]]:
    """Every phase on so much text, one after the other; peaks and seconds."""
    num = write_input(megabytes, home / "in")
    size = sum(path.stat().st_size for path in (home / "in").iterdir()) / 1e6
    print(f"{size:,.0f} MB in {num:,} documents", flush=True)
    made: dict[str, str] = {}
    found = {}
    for verb in verbs:
        made[verb], peak, seconds = measured(verb, config_of(verb, made, home, workers))
        found[verb] = peak, seconds
        print(f"  {verb:<10} {peak.total / 1e6:8,.0f} MB, own {peak.own / 1e6:6,.0f} MB, {seconds:6.1f} s", flush=True)
    return found


def main() -> None:
    """Two corpora through all phases, one table, and the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="150 and 450 MB")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--phases", default=",".join(SETTINGS), help="which, in order (default: %(default)s)")
    parser.add_argument("--out", type=Path, help="folder to write data-memory.json into")
    given = parser.parse_args()
    print(machine(), flush=True)
    sizes, verbs = QUICK_MB if given.quick else SIZES_MB, given.phases.split(",")
    small, large = (in_its_own_home(size, given.workers, verbs) for size in sizes)
    print("| phase | peak MB | of more text | ratio | own MB | of more text | ratio |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    figures = []
    for verb in small:
        (one, _), (ten, _) = small[verb], large[verb]
        row = (one.total / 1e6, ten.total / 1e6, ten.total / one.total, one.own / 1e6, ten.own / 1e6, ten.own / one.own)
        print("| {} | {:.0f} | {:.0f} | {:.2f} | {:.0f} | {:.0f} | {:.2f} |".format(verb, *row))
        figures.append(Figure(f"{verb}_peak_megabytes", row[1], "MB"))
        figures.append(Figure(f"{verb}_peak_growth", row[2], "", f"<= {BAR}"))
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        record(given.out / "data-memory.json", figures)


def in_its_own_home(megabytes: float, workers: int, verbs: list[str]) -> dict[str, tuple[Peak, float]]:
    """`walk` in a folder that is gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="mantus-memory-"))
    try:
        return walk(megabytes, home, workers, verbs)
    finally:
        shutil.rmtree(home, ignore_errors=True)


if __name__ == "__main__":
    main()
