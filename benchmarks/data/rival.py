"""datatrove on the measured corpus, in an environment of its own: `python -m benchmarks.data.rival JOB SETTINGS` there.

It knows datatrove's own steps with its defaults, and imports nothing of Mantus: its environment has none of it.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

VERSION = "0.10.1"
REQUIREMENTS = (
    f"datatrove[processing,io]=={VERSION}",
    "trafilatura<1.12",  # what datatrove pins its own extra to
    "lxml_html_clean",  # trafilatura 1.x asks lxml for it, which has given it away
    "spacy",  # what splits English words; in no extra
    "orjson",
    "tokenizers",
)
DONE = "ready.json"
END = "<|endoftext|>"


def environment(folder: Path) -> Path:
    """The Python of datatrove's environment, made when it is not there."""
    python, done = folder / "bin" / "python", folder / DONE
    if not done.is_file() or json.loads(done.read_text()) != list(REQUIREMENTS):
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "--quiet", *REQUIREMENTS], check=True)
        done.write_text(json.dumps(REQUIREMENTS))
    return python


def versions(python: Path) -> dict[str, str]:
    """Versions of what is compared."""
    names = ("datatrove", "trafilatura", "tokenizers", "spacy")
    program = f"from importlib.metadata import version; print(*map(version, {names!r}))"
    found = subprocess.run([python, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    return dict(zip(names, found, strict=True))


def command(python: Path, job: str, **settings: Any) -> list[str]:
    """What runs a job: extract, filter, dedup, tokenize, end_to_end.  settings: see `main`."""
    return [str(python), "-m", "benchmarks.data.rival", job, json.dumps(settings, default=str)]


def main() -> None:
    """Run one job. Settings: input, out (folders), workers, tokenizer (a file)."""
    job, given = sys.argv[1], json.loads(sys.argv[2])
    out, workers = Path(given["out"]), given["workers"]
    if job == "extract":
        extract(given["input"], out, workers)
    elif job == "dedup":
        dedup(given["input"], out, workers)
    elif job == "tokenize":
        tokenize(given["input"], out, workers, given["tokenizer"])
    elif job == "end_to_end":
        extract(given["input"], out / "extracted", workers, filters())
        dedup(out / "extracted" / "documents", out / "deduped", workers)
        tokenize(out / "deduped" / "documents", out / "tokens", workers, given["tokenizer"])


def run(steps: list[Any], logs: Path, tasks: int, workers: int) -> None:
    from datatrove.executor import LocalPipelineExecutor

    LocalPipelineExecutor(pipeline=steps, tasks=tasks, workers=workers, logging_dir=str(logs)).run()


def extract(archives: Any, out: Path, workers: int, more: list[Any] | None = None) -> None:
    """Pages of web archives as text, through `more` steps."""
    from datatrove.pipeline.extractors import Trafilatura
    from datatrove.pipeline.readers import WarcReader
    from datatrove.pipeline.writers import JsonlWriter

    steps = [WarcReader(str(archives), glob_pattern="*.warc.gz"), Trafilatura(favour_precision=True, timeout=10)]
    run([*steps, *(more or []), JsonlWriter(str(out / "documents"))], out / "logs", workers, workers)


def filters() -> list[Any]:
    """FineWeb's rules, without its list of URLs and its model of languages, which are downloaded."""
    from datatrove.pipeline.filters import (
        C4QualityFilter,
        FineWebQualityFilter,
        GopherQualityFilter,
        GopherRepetitionFilter,
    )

    c4 = C4QualityFilter(filter_no_terminal_punct=False)
    return [GopherRepetitionFilter(), GopherQualityFilter(), c4, FineWebQualityFilter()]


def dedup(documents: Any, out: Path, workers: int) -> None:
    """MinHash with 14 buckets of 8 hashes of 5-grams, its defaults: all four stages."""
    from datatrove.pipeline.dedup import (
        MinhashConfig,
        MinhashDedupBuckets,
        MinhashDedupCluster,
        MinhashDedupFilter,
        MinhashDedupSignature,
    )
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.writers import JsonlWriter

    config = MinhashConfig()
    folders = {name: str(out / name) for name in ("signatures", "buckets", "remove", "documents")}
    read, logs = JsonlReader(str(documents), glob_pattern="*.jsonl.gz"), out / "logs"
    run([read, MinhashDedupSignature(folders["signatures"], config)], logs / "1", workers, workers)
    buckets = MinhashDedupBuckets(folders["signatures"], folders["buckets"], config=config)
    run([buckets], logs / "2", config.num_buckets, workers)
    run([MinhashDedupCluster(folders["buckets"], folders["remove"], config=config)], logs / "3", 1, 1)
    steps = [read, MinhashDedupFilter(folders["remove"]), JsonlWriter(folders["documents"])]
    run(steps, logs / "4", workers, workers)


def tokenize(documents: Any, out: Path, workers: int, tokenizer: str) -> None:
    """Token shards with shuffled documents, merged into one with its documents shuffled."""
    from datatrove.pipeline.readers import JsonlReader
    from datatrove.pipeline.tokens import DocumentTokenizer, DocumentTokenizerMerger

    read = JsonlReader(str(documents), glob_pattern="*.jsonl.gz")
    # Its batches of 10,000 documents take 5 GB a process here.
    encode = DocumentTokenizer(str(out / "pieces"), tokenizer, eos_token=END, seed=0, batch_size=1000)
    run([read, encode], out / "logs" / "1", workers, workers)
    merge = DocumentTokenizerMerger(str(out / "pieces"), str(out / "merged"), "tokens", seed=0, progress=False)
    run([merge], out / "logs" / "2", 1, 1)


if __name__ == "__main__":
    main()
