"""The waterfall: from what was collected to what is in the shards, every reason for a drop one bar, by source.

It knows the stats of manifests, no files.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from mantus.report.corpus.excerpt import harmless
from mantus.report.corpus.facts import Chain
from mantus.report.plots import Strip, legend, strips
from mantus.report.sections import megabytes, table

COLOURS = 5
"""Sources with a colour of their own; the others share one."""
NAMES = {"corpus": "collected", "clean": "after cleaning", "dedup": "after deduplication"}
MADE = "Unicode, spaces, lines"
"""What changes texts without dropping them."""

Mix = dict[str, tuple[int, int]]
"""Documents and bytes by source."""


@dataclass(frozen=True, slots=True)
class Step:
    """One row: what is there after a phase, or what a reason took."""

    name: str
    mix: Mix
    drop: bool = False

    @property
    def documents(self) -> int:
        """Of all sources."""
        return sum(documents for documents, _ in self.mix.values())

    @property
    def bytes(self) -> int:
        """Of all sources."""
        return sum(size for _, size in self.mix.values())


def steps(made: Chain) -> Iterator[Step]:
    """Every row of the waterfall, from the first corpus to the last."""
    first = made.corpora[0].manifest
    if first.kind != "corpus":
        yield Step("read", _mix(first.stats, "documents_read", "bytes_read"))
    for stage in made.corpora:
        yield from _drops(stage.manifest.stats)
        yield Step(NAMES[stage.manifest.kind], _mix(stage.manifest.stats, "documents", "bytes"))
    if "tokens" in made.made:
        yield Step("tokenised", _mix(made.made["tokens"].manifest.stats, "documents", "bytes"))


def by_source(stats: Mapping[str, Any]) -> Mapping[str, Any]:
    """The stats of each source; of all as one where a phase did not count by source."""
    return stats.get("sources") or {"all": stats}


def _mix(stats: Mapping[str, Any], documents: str, size: str) -> Mix:
    return {name: (entry.get(documents, 0), entry.get(size, 0)) for name, entry in by_source(stats).items()}


def _drops(stats: Mapping[str, Any]) -> Iterator[Step]:
    """What a phase took, the largest first, and by how much texts became shorter without being dropped."""
    found: dict[str, Mix] = {}
    for source, entry in by_source(stats).items():
        for reason, drop in entry.get("dropped", {}).items():
            if isinstance(drop, dict):  # collect counts what never was a document
                found.setdefault(reason, {})[source] = (drop["documents"], drop["bytes"])
    dropped = [Step(reason.replace("_", " "), mix, drop=True) for reason, mix in found.items()]
    yield from sorted(dropped, key=lambda step: (-step.bytes, step.name))
    shorter = {}
    for source, entry in by_source(stats).items():
        if "bytes_read" in entry:
            gone = sum(drop["bytes"] for drop in entry["dropped"].values())
            shorter[source] = (0, entry["bytes_read"] - gone - entry["bytes"])
    if any(size for _, size in shorter.values()):
        yield Step(MADE, shorter, drop=True)


def palette(made: Chain) -> dict[str, int]:
    """The colour of each source: those with most bytes have one of their own."""
    mix = next(step for step in steps(made) if not step.drop).mix
    order = sorted(mix, key=lambda name: (-mix[name][1], name))
    return {name: min(number, COLOURS) for number, name in enumerate(order)}


def colours(made: Chain) -> str:
    """The legend of the sources."""
    named = [(colour, name) for name, colour in palette(made).items()]
    others = [name for colour, name in named if colour == COLOURS]
    shown = [(colour, harmless(name, 40)) for colour, name in named if colour < COLOURS]
    return legend(shown + ([(COLOURS, f"{len(others)} other sources")] if others else []))


def coloured(sizes: Mapping[str, float], palette: Mapping[str, int], say: Any) -> list[tuple[int, float, str]]:
    """The parts of a bar: sources in the order of their colours; `say` writes a size for people."""
    order = sorted((name for name in sizes if sizes[name] > 0), key=lambda name: (palette.get(name, COLOURS), name))
    return [(palette.get(name, COLOURS), sizes[name], f"{harmless(name, 40)} {say(sizes[name])}") for name in order]


def waterfall(made: Chain) -> str:
    """The picture in bytes, the same in documents folded, the numbers by source folded."""
    found = list(steps(made))
    size = strips("Bytes of text, step by step", ("step", "documents", "size", "left"), _rows(found, made, 1))
    documents = strips("Documents, step by step", ("step", "documents", "size", "left"), _rows(found, made, 0))
    refused = _never_documents(made)
    return (
        f"{colours(made)}{size}<details><summary>The same in documents</summary>{documents}</details>"
        f"<details><summary>By source, in numbers</summary>{_numbers(found)}</details>"
        + (f"<details><summary>What never was a document</summary>{refused}</details>" if refused else "")
    )


def _rows(found: Iterable[Step], made: Chain, unit: int) -> list[Strip]:
    """unit: 0 draws documents, 1 bytes."""
    shown, left, first, colour = [], 0.0, 0, palette(made)
    for step in found:
        sizes = {name: float(entry[unit]) for name, entry in step.mix.items()}
        total = sum(sizes.values())
        left = left - total if step.drop else total
        first = first or int(total)
        parts = coloured(sizes, colour, megabytes if unit else "{:,.0f}".format)
        cells = (f"{step.documents:,}" if step.documents else "", _signed(step), f"{left / first:.1%}" if first else "")
        kind = "drop" if step.drop else "total"
        shown.append(Strip(step.name, parts, cells, max(0.0, left) if step.drop else 0, kind))
    return shown


def _signed(step: Step) -> str:
    return f"{'-' if step.bytes >= 0 else '+'}{megabytes(abs(step.bytes))}" if step.drop else megabytes(step.bytes)


def _numbers(found: list[Step]) -> str:
    """Documents and size of each step by source."""
    sources = list(dict.fromkeys(name for step in found for name in step.mix))
    rows = []
    for step in found:
        cells = [step.mix.get(name, (0, 0)) for name in sources]
        said = [f"{documents:,} / {megabytes(size)}" if documents or size else "" for documents, size in cells]
        rows.append((f"- {step.name}" if step.drop else step.name, *said))
    return table(("step", *(harmless(name, 40) for name in sources)), rows)


def _never_documents(made: Chain) -> str:
    """What collecting met and did not make a document of: how often, by source and reason."""
    if "corpus" not in made.made:
        return ""
    sources = by_source(made.made["corpus"].manifest.stats)
    rows = [
        (harmless(name, 40), reason, count)
        for name, entry in sources.items()
        for reason, count in sorted(entry.get("dropped", {}).items())
    ]
    return table(("source", "reason", "times"), rows)
