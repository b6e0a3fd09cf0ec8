"""Compare cleaning with datatrove's filters: verdicts on the same documents, words split alike, and what each costs.

`python benchmarks/data/filter.py [--corpus FOLDER] [--mb 60] [--quick] [--venv FOLDER] [--out benchmarks/results]`. The
documents are text of this machine, or the parts of a corpus. datatrove gets an environment of its own, made at first.
It knows both by their rules and files only.
"""

import argparse
import gzip
import hashlib
import json
import resource
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl

from mantus.data.clean import CleanConfig, judge, run
from mantus.data.cleaning.normal import normalise
from mantus.data.cleaning.rules import C4, FineWeb, Gopher, Rule, first_reason
from mantus.data.corpus import Row, document_id, part_paths, write_rows
from mantus.launch.figures import Figure, machine, record
from mantus.storage import PhaseConfig, execute

DATATROVE = ("datatrove[io]==0.10.1", "nltk", "regex", "spacy", "tokenizers", "ftfy")
"""What its quality filters need, spaCy among it although no extra of datatrove names it."""
THEIRS = Path(__file__).with_name("datatrove_filters.py")
DOCUMENTS = Path("/usr/share/doc")
"""Where a Debian package's documentation is, compressed where it is long."""
PLACES = ("/usr/share/vim", "/usr/lib/node_modules", sys.prefix, sys.base_prefix)
SUFFIXES = (".txt", ".md", ".rst", ".adoc")
OWN_MB = 20.0
"""MB for the run with datatrove's own splitters, which are slow."""

REASONS = {
    "dup_para_frac": "gopher: repeated paragraphs",
    "dup_para_char_frac": "gopher: repeated paragraphs",
    "dup_line_frac": "gopher: repeated lines",
    "dup_line_char_frac": "gopher: repeated lines",
    **{f"top_{n}_gram": f"gopher: top {n}-grams" for n in (2, 3, 4)},
    **{f"duplicated_{n}_n_grams": f"gopher: repeated {n}-grams" for n in range(5, 11)},
    "gopher_short_doc": "gopher: too few words",
    "gopher_long_doc": "gopher: too many words",
    "gopher_below_avg_threshold": "gopher: word length",
    "gopher_above_avg_threshold": "gopher: word length",
    "gopher_too_many_hashes": "gopher: number signs",
    "gopher_too_many_ellipsis": "gopher: ellipses",
    "gopher_too_many_bullets": "gopher: bullet lines",
    "gopher_too_many_end_ellipsis": "gopher: ellipsis lines",
    "gopher_below_alpha_threshold": "gopher: few words with letters",
    "gopher_enough_stop_words": "gopher: few stop words",
    "lorem_ipsum": "c4: lorem ipsum",
    "curly_bracket": "c4: curly brackets",
    "too_few_sentences": "c4: too few sentences",
    "line_punct_ratio": "fineweb: unpunctuated lines",
    "short_line_ratio": "fineweb: short lines",
    "char_dup_ratio": "fineweb: repeated lines",
    "list_ratio": "fineweb: list",
}
"""datatrove's reasons in our words."""


class Texts(PhaseConfig):
    """Names a corpus."""

    name: str


def texts(megabytes: float) -> Iterator[tuple[str, str]]:
    """(url, text) of files of 1 kB to 300 kB, each text once, in the order of their paths' hashes."""
    files = [path for path in DOCUMENTS.rglob("*") if path.suffix in ("", ".gz", *SUFFIXES)]
    files += [path for place in PLACES for path in Path(place).rglob("*") if path.suffix in SUFFIXES]
    files = [path for path in files if path.is_file() and not path.is_symlink()]
    known: set[str] = set()
    size = 0
    for path in sorted(files, key=lambda path: hashlib.blake2b(str(path).encode()).digest()):
        try:
            data = path.read_bytes()
            text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode("utf-8")
        except (OSError, EOFError, gzip.zlib.error, UnicodeDecodeError):  # type: ignore[attr-defined]
            continue
        if not 1000 <= len(text) <= 300_000 or "\0" in text or (key := document_id(text)) in known:
            continue
        known.add(key)
        yield f"file:{path}", text
        size += len(text)
        if size >= megabytes * 1e6:
            return


def corpus_texts(folder: Path, megabytes: float) -> Iterator[tuple[str, str]]:
    """The same from the parts of a corpus."""
    size = 0
    for part in part_paths(folder):
        for url, text in pl.read_parquet(part, columns=["url", "text"]).iter_rows():
            yield url, text
            size += len(text)
            if size >= megabytes * 1e6:
                return


def rows(found: Iterator[tuple[str, str]]) -> Iterator[Row]:
    """Documents in the form that cleaning gives them, so that both judge the same text."""
    frame = pl.DataFrame(list(found), schema=["url", "text"], orient="row")
    forms = pl.Series(["prose"] * frame.height)
    normal = normalise(normalise(frame["text"], forms), forms)  # once leaves blanks behind no-break spaces at line ends
    known: set[str] = set()
    for url, text in zip(frame["url"], normal, strict=True):
        if text.strip() and (key := document_id(text)) not in known:
            known.add(key)
            yield Row(key, text, "texts", url, "", "", "", "prose")


def environment(folder: Path) -> str:
    """The Python of datatrove's environment, made where there is none."""
    python = folder / "bin" / "python"
    if not python.is_file():
        subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", *DATATROVE], check=True)
    return str(python.absolute())


def theirs(python: str, mode: str, parts: Path, out: Path, words: str) -> Path:
    """Run datatrove; the folder with what it found."""
    command = [python, str(THEIRS), mode, "--parts", str(parts), "--out", str(out), "--words", words]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return out


def cost(corpus: str, store: Path) -> dict[str, float]:
    """The phase in a process of its own: CPU seconds of reading, filtering and writing, imports left out."""
    command = [sys.executable, __file__, "--measure", json.dumps({"corpus": corpus, "store": str(store)})]
    found: dict[str, float] = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout)
    return found


def measure(settings: dict[str, Any]) -> dict[str, float]:
    """What `cost` runs."""
    config = CleanConfig(rules=("gopher", "c4", "fineweb"), languages=(), replace_pii=False, workers=1, **settings)
    warm = {"text": "Models and tables are loaded here, before the clock starts.", "form": "prose", "lang": ""}
    judge(pl.DataFrame([warm]), config)
    before = resource.getrusage(resource.RUSAGE_SELF)
    made = run(config)
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return {"cpu": cpu, "documents": made.stats["documents"]}


def ours(parts: list[Path]) -> pl.DataFrame:
    """For each document: what each of the filters alone says of it, what all say in a row, and its signals.

    Judged as English, whatever its language: datatrove asks every document for English stop words.
    """
    split = [rule.reason for rule in Gopher().rules()].index("gopher: too few words")
    repetition, quality = Gopher().rules()[:split], Gopher().rules()[split:]
    frames = []
    for part in parts:
        frame = pl.read_parquet(part)
        alone = {name: scored(frame, name) for name in ("gopher", "c4", "fineweb")}
        row = scored(frame, "gopher", "c4", "fineweb")
        said = {
            "gopher repetition": reasons(alone["gopher"], repetition),
            "gopher quality": reasons(alone["gopher"], quality),
            "c4": reasons(alone["c4"], C4().rules()),
            "fineweb": reasons(alone["fineweb"], FineWeb().rules()),
            "all": reasons(row, [*repetition, *quality, *C4().rules(), *FineWeb().rules()]),
        }
        signals = [column for table in alone.values() for column in table if column.name.startswith(tuple(alone))]
        frames.append(frame.select("id", "url").with_columns(**said).with_columns(signals))
    return pl.concat(frames)


def scored(frame: pl.DataFrame, *rules: str) -> pl.DataFrame:
    settings = {"corpus": "", "rules": rules, "languages": (), "replace_pii": False}
    found: pl.DataFrame = judge(frame, CleanConfig(**settings)).with_columns(lang=pl.lit("en"))  # type: ignore[arg-type]
    return found


def reasons(frame: pl.DataFrame, rules: list[Rule]) -> pl.Series:
    return frame.select(first_reason(rules).fill_null("").alias("reason"))["reason"]


def compare(mine: pl.DataFrame, other: pl.DataFrame) -> dict[str, float]:
    """Print both tables and each document on which the two differ; for each filter the share on which they agree."""
    both = mine.join(other, on="id", suffix=" (datatrove)", validate="1:1")
    shares = {}
    print("\n| filter | both keep | both drop | only datatrove drops | only Mantus drops | equal |")
    print("|---|---:|---:|---:|---:|---:|")
    for name in ("gopher repetition", "gopher quality", "c4", "fineweb", "all"):
        counts = Counter(zip(both[name] == "", both[f"{name} (datatrove)"] == "", strict=True))
        shares[name] = (counts[True, True] + counts[False, False]) / both.height
        cells = (counts[True, True], counts[False, False], counts[True, False], counts[False, True])
        print(f"| {name} | {' | '.join(f'{n:,}' for n in cells)} | {shares[name]:.2%} |")
    print("\n| first reason | both | only datatrove | only Mantus |\n|---|---:|---:|---:|")
    for name in ("gopher repetition", "gopher quality", "c4", "fineweb"):
        pairs = [(REASONS.get(a, a), b) for a, b in zip(both[f"{name} (datatrove)"], both[name], strict=True)]
        for reason in sorted({reason for pair in pairs for reason in pair} - {""}):
            same = sum(a == b == reason for a, b in pairs)
            only = sum(a == reason != b for a, b in pairs), sum(b == reason != a for a, b in pairs)
            print(f"| {reason} | {same} | {only[0]} | {only[1]} |")
    print("\nDocuments on which the two differ:")
    limits = {rule.reason: rule for rule in [*Gopher().rules(), *C4().rules(), *FineWeb().rules()]}
    for row in both.iter_rows(named=True):
        for name in ("gopher repetition", "gopher quality", "c4", "fineweb", "all"):
            a, b = row[f"{name} (datatrove)"], row[name]
            if (a == "") != (b == ""):
                rules = [rule for rule in limits.values() if rule.reason in (REASONS.get(a, a), b)]
                shown = ", ".join(f"{rule.signal} {row[rule.signal]:.4f} ({rule.low} to {rule.high})" for rule in rules)
                print(f"- {name}: {row['url']}: datatrove {a or 'keeps'}, Mantus {b or 'keeps'}; {shown}")
    return shares


def main() -> None:
    """Judge, compare, measure, print, and store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--corpus", type=Path, help="a folder with the parts of a corpus")
    parser.add_argument("--mb", type=float, default=60)
    parser.add_argument("--quick", action="store_true", help="4 MB, and datatrove with its own splitters on 0.5")
    parser.add_argument("--venv", type=Path, default=Path(".mantus/bench/datatrove"), help="datatrove's environment")
    parser.add_argument("--verdicts", action="store_true", help="compare verdicts only")
    parser.add_argument("--out", type=Path, help="folder to write data.json into")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        print(json.dumps(measure(json.loads(given.measure))))
        return
    python, megabytes = environment(given.venv), 4.0 if given.quick else given.mb
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        found = corpus_texts(given.corpus, megabytes) if given.corpus else texts(megabytes)
        write_rows(rows(found), folder / "parts")
        figures = judged(python, folder)
        if not given.verdicts:
            figures += timings(python, folder, 0.5 if given.quick else OWN_MB)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        record(given.out / "data.json", figures)


def judged(python: str, folder: Path) -> list[Figure]:
    """Verdicts of both with words split alike."""
    parts = part_paths(folder / "parts")
    mine = ours(parts)
    size = sum(pl.read_parquet(part, columns=["text"])["text"].str.len_bytes().sum() for part in parts) / 1e6
    print(f"{machine()}; {mine.height:,} documents, {size:.1f} MB")
    other = pl.read_ndjson(
        theirs(python, "verdicts", folder / "parts", folder / "verdicts", "spaces") / "verdicts.jsonl"
    )
    shares = compare(mine, other)
    bars = dict.fromkeys(shares, ">= 0.995")
    return [Figure(f"filter_equal_{name.replace(' ', '_')}", share, "", bars[name]) for name, share in shares.items()]


def timings(python: str, folder: Path, own_mb: float) -> list[Figure]:
    """CPU time of both: words split alike on all documents, and each as it comes on some."""
    few = folder / "few"
    write_rows(list(corpus_rows(folder / "parts", own_mb)), few)
    figures = []
    for name, parts, words in (("spaces", folder / "parts", "spaces"), ("own", few, "own")):
        size = sum(pl.read_parquet(part, columns=["text"])["text"].str.len_bytes().sum() for part in part_paths(parts))
        out = theirs(python, "timed", parts, folder / f"timed-{name}", words)
        their_s = json.loads((out / "timed.json").read_text())["cpu"]
        our_s = cost(as_artifact(parts, folder / "store", name), folder / "store")["cpu"]
        print(
            f"\nwords by {words}: {size / 1e6:.1f} MB, datatrove {their_s:.1f} CPU s, Mantus {our_s:.2f} CPU s", end=""
        )
        print(f", {size / 1e6 / their_s:.2f} and {size / 1e6 / our_s:.2f} MB per CPU s: {their_s / our_s:.1f} times")
        figures.append(Figure(f"filter_times_less_cpu_{name}", their_s / our_s, "x", ">= 20" if name == "own" else ""))
        figures.append(Figure(f"filter_megabytes_per_cpu_second_{name}", size / 1e6 / our_s, "MB/s"))
    return figures


def corpus_rows(folder: Path, megabytes: float) -> Iterator[Row]:
    for url, text in corpus_texts(folder, megabytes):
        yield Row(document_id(text), text, "texts", url, "", "", "", "prose")


def as_artifact(parts: Path, store: Path, name: str) -> str:
    """The parts as a corpus; its URI."""

    def produce(work: Any) -> dict[str, int]:
        size = 0
        for part in part_paths(parts):
            shutil.copy(part, work.out / part.name)
            size += int(pl.read_parquet(part, columns=["text"])["text"].str.len_bytes().sum())
        return {"bytes": size}

    return execute("corpus", Texts(store=str(store), name=name), produce).uri


if __name__ == "__main__":
    main()
