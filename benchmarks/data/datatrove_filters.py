"""Run datatrove's quality filters in datatrove's own environment: verdicts on every document, or a whole run timed.

`python datatrove_filters.py verdicts|timed --parts FOLDER --out FOLDER [--words spaces|own]`. words: `spaces` splits
words at white space and sentences by a pattern; `own` leaves datatrove's splitters (spaCy). It knows nothing of Mantus.
"""

import argparse
import json
import re
import resource
from pathlib import Path

import pyarrow.parquet as parquet
from datatrove.data import Document
from datatrove.executor import LocalPipelineExecutor
from datatrove.pipeline.filters import (
    C4QualityFilter,
    FineWebQualityFilter,
    GopherQualityFilter,
    GopherRepetitionFilter,
    c4_filters,
    fineweb_quality_filter,
    gopher_quality_filter,
    gopher_repetition_filter,
)
from datatrove.pipeline.readers import ParquetReader
from datatrove.pipeline.writers import ParquetWriter

BOUNDARY = re.compile(r"[.?!][\"')\]]{0,3}[ \t]")


def words(text: str, language: str = "") -> list[str]:
    return text.split()


def sentences(text: str, language: str = "") -> list[str]:
    return [piece for piece in BOUNDARY.split(text) if piece]


def split_at_spaces() -> None:
    """Replace the splitters of all four filters."""
    for module in (gopher_quality_filter, gopher_repetition_filter, fineweb_quality_filter):
        module.split_into_words = words
    c4_filters.split_into_sentences = sentences


def filters() -> dict:
    """The filters, in FineWeb's order and with FineWeb's settings."""
    return {
        "gopher repetition": GopherRepetitionFilter(),
        "gopher quality": GopherQualityFilter(),
        "c4": C4QualityFilter(filter_no_terminal_punct=False),
        "fineweb": FineWebQualityFilter(),
    }


def verdicts(parts: Path, out: Path) -> None:
    """verdicts.jsonl: for each document its id, what each filter alone says of it, and what all say in a row.

    '' = kept. A filter in the row sees the text as those before it left it.
    """
    found = filters()
    with (out / "verdicts.jsonl").open("w") as file:
        for path in sorted(parts.glob("part-*.parquet")):
            for row in parquet.read_table(path, columns=["id", "text"]).to_pylist():
                said = {name: reason(each, Document(text=row["text"], id=row["id"])) for name, each in found.items()}
                document = Document(text=row["text"], id=row["id"])
                said["all"] = next((why for each in found.values() if (why := reason(each, document))), "")
                file.write(json.dumps({"id": row["id"], **said}) + "\n")


def reason(each: object, document: Document) -> str:
    verdict = each.filter(document)
    return "" if verdict is True else verdict[1] if isinstance(verdict, tuple) else "dropped"


def timed(parts: Path, out: Path) -> None:
    """timed.json: CPU seconds of reading, filtering and writing, imports left out."""
    found = filters()
    warm = Document(text="The model of a word splitter is loaded here, before the clock starts.", id="")
    for each in found.values():
        reason(each, warm)
    reader = ParquetReader(str(parts), glob_pattern="part-*.parquet")
    writer = ParquetWriter(str(out / "kept"), compression="zstd")
    start = cpu()
    LocalPipelineExecutor([reader, *found.values(), writer], logging_dir=str(out / "logs")).run()
    (out / "timed.json").write_text(json.dumps({"cpu": cpu() - start}))


def cpu() -> float:
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mode", choices=("verdicts", "timed"))
    parser.add_argument("--parts", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--words", choices=("spaces", "own"), default="spaces")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    if given.words == "spaces":
        split_at_spaces()
    (verdicts if given.mode == "verdicts" else timed)(given.parts, given.out)


if __name__ == "__main__":
    main()
