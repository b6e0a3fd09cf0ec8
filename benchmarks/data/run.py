"""Measure Mantus beside datatrove on one corpus, and print one table: `python -m benchmarks.data.run [--quick]`.

It knows what is compared with what and which bar each figure has; how each side works is in rival.py and ours.py.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.data import rival, table
from benchmarks.data.corpus import BENCH, Corpus, build
from benchmarks.data.ids import differing
from benchmarks.data.measure import Cost, measured
from benchmarks.data.ours import Mantus, kept, limits
from benchmarks.data.truth import Judgement, judge
from mantus.launch.figures import Figure, machine, record

PARTS = ("dedup", "extract", "tokenize", "end_to_end")
DEDUP: dict[str, dict[str, Any]] = {
    "default": {},
    "14x8": {"bands": 14, "rows": 8, "verify": False},
    "14x8_verified": {"bands": 14, "rows": 8},
    "threshold_0.5": {"threshold": 0.5},
    "unverified": {"verify": False},
    "lines_and_set": {"repeated": "remove"},
}
"""Settings of our dedup. default: 20 x 5, verified, 0.8.  14x8: datatrove's algorithm and numbers.  threshold_0.5: to
find what is less alike, too.  lines_and_set: with repeated lines removed, one evaluation set."""
VOCABULARY, SAMPLE_MB = 16_384, 16


class Bench:
    """One run: where it works, what it has found."""

    def __init__(self, corpus: Corpus, work: Path, workers: int, quick: bool) -> None:
        self.corpus, self.work, self.workers, self.quick = corpus, work, workers, quick
        self.python = rival.environment(BENCH / "venv")
        self.figures: list[Figure] = []

    def say(self, name: str, value: float, unit: str = "", bar: str = "") -> None:
        self.figures.append(Figure(name, float(value), unit, bar))

    def cost(self, task: str, who: str, cost: Cost, size: float = 0) -> None:
        """What a task cost somebody.  size: MB."""
        self.say(f"{task}_{who}_cpu_seconds", cost.cpu_s, "s")
        self.say(f"{task}_{who}_wall_seconds", cost.wall_s, "s")
        self.say(f"{task}_{who}_peak_megabytes", cost.peak_mb, "MB")
        if size:
            self.say(f"{task}_{who}_megabytes_per_cpu_second", size / cost.cpu_s, "MB/s")
        print(f"{task:<12} {who:<22} {cost.cpu_s:8.1f} CPU s {cost.wall_s:8.1f} s {cost.peak_mb:7.0f} MB", flush=True)

    def theirs(self, job: str, given: Path, **settings: Any) -> tuple[Cost, Path]:
        """What datatrove's job cost, and where its output is."""
        out = self.fresh(f"datatrove-{job}")
        command = rival.command(self.python, job, input=given, out=out, workers=self.workers, **settings)
        return measured(command, self.work / f"datatrove-{job}.log", limits(self.workers)), out

    def ours(self, name: str) -> Mantus:
        """Mantus with nothing in its store."""
        return Mantus(self.fresh(f"mantus-{name}"), self.workers)

    def fresh(self, name: str) -> Path:
        folder = self.work / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def dedup(self) -> None:
        """Both sides' cost, and how well they did by the planted truth."""
        size = self.corpus.bytes / 1e6
        cost, out = self.theirs("dedup", self.corpus.jsonl)
        self.cost("dedup", "datatrove", cost, size)
        names, pairs = self.corpus.ids(), self.corpus.truth()
        reference = judge(names, set(table.ids(out / "documents")), pairs)
        self.judged("datatrove", reference)
        for kind, found in reference.by_kind().items():
            self.say(f"dedup_planted_{kind}", found.num)
        for band, found in reference.by_band().items():
            self.say(f"dedup_planted_{band}", found.num)
        for name in COMPARED if self.quick else DEDUP:
            settings = DEDUP[name]
            own, made = self.ours("dedup").dedup(self.corpus.artifact, name, **settings, **self.sets(name))
            self.cost("dedup", name, own, size)
            judgement = judge(names, kept(made["uri"]), pairs)
            self.judged(name, judgement)
            self.say(f"dedup_{name}_times_less_cpu", cost.cpu_s / own.cpu_s, "x", ">= 30" if name in COMPARED else "")
            if wanted := COMPARED.get(name):
                low = {"at J >= 0.8": 0.8, "of all planted": 0.0}[wanted]
                mine, its = (found.recall(low=low).share for found in (judgement, reference))
                self.say(f"dedup_{name}_recall_beyond_datatrove {wanted}", mine - its, "", ">= 0")

    def sets(self, name: str) -> dict[str, Any]:
        """An evaluation set for those settings that have one: beginnings of documents."""
        if name != "lines_and_set":
            return {}
        path = self.work / "set.jsonl"
        texts = table.texts(self.corpus.jsonl, 100)
        path.write_text("".join(json.dumps({"id": n, "text": text[:2000]}) + "\n" for n, text in enumerate(texts)))
        return {"evaluation_sets": [{"path": str(path)}]}

    def judged(self, who: str, judgement: Judgement) -> None:
        high = judgement.recall(low=0.8)
        bar, least = (">= 0.999", ">= 0.99") if who == "default" else ("", "")
        self.say(f"dedup_{who}_recall at J >= 0.8", high.share, "", bar)
        self.say(f"dedup_{who}_recall of all planted", judgement.recall().share)
        self.say(f"dedup_{who}_precision", judgement.precision, "", least)
        self.say(f"dedup_{who}_removed", judgement.removed)
        for name, found in {**judgement.by_kind(), **judgement.by_band()}.items():
            self.say(f"dedup_{who}_recall {name}", found.share)

    def extract(self) -> None:
        """Web archives to text."""
        size = self.corpus.page_bytes / 1e6
        cost, out = self.theirs("extract", self.corpus.warc)
        own, made = self.ours("extract").collect(self.corpus.warc)
        self.compared("extract", cost, own, size, ">= 10")
        self.say("extract_datatrove_documents", sum(1 for _ in table.ids(out / "documents")))
        self.say("extract_mantus_documents", made["stats"]["documents"])

    def compared(self, task: str, cost: Cost, own: Cost, size: float, bar: str) -> None:
        """Costs of both sides, and the factor with its bar."""
        self.cost(task, "datatrove", cost, size)
        self.cost(task, "mantus", own, size)
        self.say(f"{task}_times_less_cpu", cost.cpu_s / own.cpu_s, "x", bar)

    def tokenize(self) -> None:
        """Token shards, shuffled, with one vocabulary."""
        tokenizer = self.tokenizer()
        cost, out = self.theirs("tokenize", self.corpus.jsonl, tokenizer=self.vocabulary(tokenizer))
        own, made = self.ours("tokenize").tokenize(self.corpus.artifact, tokenizer)
        self.compared("tokenize", cost, own, self.corpus.bytes / 1e6, ">= 5")
        self.say("tokenize_datatrove_tokens", table.num_tokens(out / "merged"))
        self.say("tokenize_mantus_tokens", made["stats"]["tokens"])
        corpus, shards = (Path(uri.removeprefix("file://")) for uri in (self.corpus.artifact, made["uri"]))
        num, different = differing(corpus, shards, self.vocabulary(tokenizer))
        self.say("tokenize_documents_beside_hugging_face", num)
        self.say("tokenize_documents_with_other_ids", different, "", "<= 0")

    def tokenizer(self) -> str:
        """The URI of a tokenizer trained on the corpus; datatrove trains none."""
        trained = Mantus(self.work / "tokenizer", self.workers)
        if not (folder := self.work / "tokenizer" / "store" / "tokenizer").is_dir():
            cost, made = trained.phase(
                "tokenizer", corpus=self.corpus.artifact, vocab_size=VOCABULARY, sample_mb=SAMPLE_MB
            )
            self.cost("tokenizer", "mantus", cost)
            return str(made["uri"])
        return f"file://{next(folder.iterdir())}"

    def vocabulary(self, tokenizer: str) -> Path:
        return Path(tokenizer.removeprefix("file://")) / "tokenizer.json"

    def end_to_end(self) -> None:
        """Web archives to token shards."""
        tokenizer = self.tokenizer()
        cost, out = self.theirs("end_to_end", self.corpus.warc, tokenizer=self.vocabulary(tokenizer))
        phases = self.ours("end_to_end").end_to_end(self.corpus.warc, tokenizer)
        total = Cost(0, 0, 0)
        for verb, (own, made) in phases.items():
            total += own
            self.say(f"end_to_end_mantus_{verb}_cpu_seconds", own.cpu_s, "s")
            self.say(f"end_to_end_mantus_{verb}_documents", made["stats"]["documents"])
        self.compared("end_to_end", cost, total, self.corpus.page_bytes / 1e6, ">= 15")
        for step, folder in {"clean": "extracted", "dedup": "deduped"}.items():
            found = sum(1 for _ in table.ids(out / folder / "documents"))
            self.say(f"end_to_end_datatrove_{step}_documents", found)
        self.say("end_to_end_datatrove_tokens", table.num_tokens(out / "tokens" / "merged"))
        self.say("end_to_end_mantus_tokens", phases["tokenize"][1]["stats"]["tokens"])


COMPARED = {"default": "at J >= 0.8", "14x8": "of all planted", "threshold_0.5": "of all planted"}
"""Settings of our dedup that are held to datatrove's recall, and to which."""


def described(corpus: Corpus) -> Iterator[Figure]:
    yield Figure("corpus_documents", corpus.documents, "")
    yield Figure("corpus_megabytes", corpus.bytes / 1e6, "MB")
    yield Figure("corpus_pages", corpus.pages, "")
    yield Figure("corpus_page_megabytes", corpus.page_bytes / 1e6, "MB")


def main() -> None:
    """Build, run both sides, store the figures, print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="some 10 MB: whether it works, not how fast")
    parser.add_argument("--only", choices=PARTS, action="append", help="not all parts")
    parser.add_argument("--workers", type=int, default=2, help="processes of each side (default %(default)s)")
    parser.add_argument("--out", type=Path, help="folder to write data.json into")
    given = parser.parse_args()
    corpus = build(given.quick)
    print(f"{machine()}; {corpus.documents:,} documents, {corpus.bytes / 1e6:.1f} MB; {corpus.pages:,} pages")
    with tempfile.TemporaryDirectory(dir=BENCH, prefix="run-") as work:
        bench = Bench(corpus, Path(work), given.workers, given.quick)
        bench.figures += described(corpus)
        for part in given.only or PARTS:
            getattr(bench, part)()
            rows = stored(given.out, bench.figures)
    print("\n" + table.render(rows, rival.versions(bench.python)))


def stored(out: Path | None, figures: list[Figure]) -> list[dict[str, Any]]:
    """All figures so far; with those that are there already, where they are kept."""
    if out is None:
        return [figure.row() for figure in figures]
    out.mkdir(parents=True, exist_ok=True)
    return record(out / "data.json", figures)


if __name__ == "__main__":
    main()
