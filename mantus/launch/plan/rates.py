"""Rates and ratios of the data phases: measured on this machine once and kept, taken from an artifact, or assumed.

It knows names and where each number comes from, not the arithmetic that uses it.
"""

import json
import math
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import mantus
from mantus import console
from mantus.launch.figures import commit, machine, today
from mantus.launch.plan.arithmetic import Input
from mantus.processes import run_child
from mantus.storage.artifact import Manifest, cache_root, read_manifest

MEASURED_MB = 24.0
MEASURED_VOCAB = 16_384

MEANINGS: dict[str, tuple[str, str]] = {
    "collect_s_per_mb": ("s/MB", "processor time of collect for a MB of unpacked WARC"),
    "clean_s_per_mb": ("s/MB", "of clean for a MB of text collected"),
    "sign_s_per_mb": ("s/MB", "of dedup's signatures for a MB of text that passed the rules"),
    "judge_s_per_mb": ("s/MB", "of the rest of dedup for the same"),
    "scan_s_per_mb": ("s/MB", "of tokenizer to look through a MB of the corpus"),
    "learn_s_per_mb": ("s/MB", "of tokenizer to learn from a MB of its sample"),
    "tokenize_s_per_mb": ("s/MB", "of tokenize for a MB of text"),
    "page_bytes_per_text": ("", "bytes of unpacked WARC for a byte of text collected"),
    "packed": ("", "bytes of WARC as it lies for a byte of it unpacked"),
    "clean_survival": ("", "share of text that passes the rules"),
    "dedup_survival": ("", "share of that text that stays after dedup"),
    "bytes_per_token": ("B", "text of a token, end marks counted as tokens"),
    "vocab_size": ("", "tokens of the vocabulary"),
    "collected_document_bytes": ("B", "mean document collected"),
    "cleaned_document_bytes": ("B", "mean document that passes the rules"),
    "kept_document_bytes": ("B", "mean document kept"),
    "size_mu": ("", "mean of the logarithm of a kept document's bytes"),
    "size_sigma": ("", "its standard deviation"),
    "collected_stored": ("", "bytes stored for a byte of text, corpus"),
    "cleaned_stored": ("", "the same, clean"),
    "kept_stored": ("", "the same, dedup without its index"),
    "index_document_bytes": ("B", "index of dedup for a document: bands, hashes, URL"),
    "shingles_per_text": ("", "bytes of shingles for a byte of text"),
}


@dataclass(frozen=True, slots=True)
class Rates:
    """What was measured, where, when, on what."""

    values: dict[str, float]
    machine: str
    mantus_version: str
    commit: str
    date: str
    sample: str

    @property
    def origin(self) -> str:
        """In one line."""
        return f"measured {self.date} on {self.machine}, mantus {self.mantus_version} {self.commit}".rstrip()

    def inputs(self) -> dict[str, Input]:
        """As inputs of the arithmetic, by name."""
        return {name: Input(name, value, *MEANINGS[name], "measured") for name, value in self.values.items()}


def kept_path() -> Path:
    """Where the rates of this machine are kept."""
    return cache_root() / "plan" / "rates.json"


def find_rates(again: bool, file: str, crawl: str = "") -> Rates:
    """Those of a file; else those kept of this machine and version; else measured now and kept.

    again: measure whatever is kept.  crawl: a glob of WARC files to measure on. ValueError when a file is no rates.
    """
    if file:
        return read_rates(Path(file), f"--rates {file}")
    path = kept_path()
    if path.is_file() and not again and not crawl:
        kept = read_rates(path, f"{path}")
        if (kept.machine, kept.mantus_version) == (machine(), mantus.__version__):
            return kept
    return measure_rates(MEASURED_MB, MEASURED_VOCAB, crawl, path)


def read_rates(path: Path, where: str) -> Rates:
    """Rates as `measure_rates` writes them. ValueError names the file and what is wrong."""
    try:
        found = Rates(**json.loads(path.read_bytes()))
        values = {name: float(value) for name, value in found.values.items()}
    except FileNotFoundError:
        raise ValueError(f"{where}: no such file; `mantus plan --measure` writes {kept_path()}") from None
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{where}: no rates ({error}); measure them with --measure") from None
    for name in MEANINGS.keys() ^ values.keys():
        raise ValueError(f"{where}: {name}: {'missing' if name in MEANINGS else 'unknown'}; measure with --measure")
    for name, value in values.items():
        check_input(name, value, where)
    return Rates(values, *(getattr(found, name) for name in Rates.__slots__[1:]))


def check_input(name: str, value: float, where: str) -> None:
    """ValueError when a rate or a ratio is none."""
    top = 1.0 if name.endswith("_survival") else math.inf
    if not (0 <= value <= top) or (value == 0 and not name.endswith("_s_per_mb")) or math.isinf(value):
        raise ValueError(f"{where}: {name}: expected {'a share' if top == 1 else 'a positive number'} (got {value:g})")


def measure_rates(megabytes: float, vocab_size: int, crawl: str, keep: Path) -> Rates:
    """Run the phases on a small crawl in a process of its own, and keep what came of it.

    RuntimeError when a phase fails, ValueError where it says that the crawl is wrong.
    """
    console.say("measuring the data phases on this machine (about a minute; --measure does it again)")
    with tempfile.TemporaryDirectory(prefix="mantus-plan-") as scratch:
        command = [sys.executable, "-m", "mantus.launch.plan.measure", str(megabytes), str(vocab_size), crawl]
        place = {"MANTUS_CACHE": scratch, "MANTUS_EVENTS": "0", "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
        done = run_child(command, env={**os.environ, **place})
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        if crawl and lines[-1].startswith("ValueError: "):
            raise ValueError(f"--warc {crawl}: {lines[-1].removeprefix('ValueError: ')}")
        raise RuntimeError(f"measuring the data phases failed: {lines[-1]}")
    values = json.loads(done.stdout.splitlines()[-1])
    sample = crawl or f"{megabytes:g} MB of texts of installed packages"
    rates = Rates(values, machine(), mantus.__version__, commit(), today(), sample)
    keep.parent.mkdir(parents=True, exist_ok=True)
    temporary = keep.with_name(f".{keep.name}-{os.getpid()}")
    temporary.write_text(json.dumps(asdict(rates), indent=1) + "\n")
    temporary.replace(keep)
    return rates


def of_artifact(uri: str) -> dict[str, Input]:
    """What the lineage of a token or corpus artifact says: survival, sizes, bytes a token.

    ValueError when there is no artifact, or none of the data phases in its lineage.
    """
    from mantus.launch.plan.measure import ratios

    found: dict[str, Manifest] = {}
    todo = [uri]
    while todo:
        place = todo.pop(0)
        try:
            manifest = read_manifest(place)
        except (FileNotFoundError, ValueError) as error:
            if place == uri:
                raise ValueError(f"--like: {error}") from None
            continue  # a source that is no artifact
        found.setdefault(manifest.kind, manifest)
        todo += [entry.uri for entry in manifest.inputs if manifest.kind in ("tokens", "dedup", "clean")]
    values = ratios(found)
    if not values:
        raise ValueError(f"--like {uri}: a {next(iter(found))}, not made of a corpus; name a tokens artifact")
    return {name: Input(name, value, *MEANINGS[name], f"of {uri}") for name, value in values.items()}


def assumed(settings: Sequence[str], known: dict[str, Input]) -> dict[str, Input]:
    """`NAME=VALUE` as inputs. ValueError names one that is unknown or no number."""
    found = {}
    for setting in settings:
        name, _, text = setting.partition("=")
        if name not in known:
            raise ValueError(f"--assume {setting}: expected NAME=VALUE with one of {', '.join(known)}")
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        check_input(name, value, f"--assume {setting}")
        found[name] = Input(name, value, known[name].unit, known[name].meaning, "assumed, --assume")
    return found
