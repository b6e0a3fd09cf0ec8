"""Dedup: drop copies, what was taken down and what evaluation sets hold, and write down why each document went.

It does not judge quality. Of a cluster the longest text stays, of equal ones that with the smallest id, then the first,
and what is like it goes; of the rest the same again. Documents of older corpora stay before that. In this order:
take-down and its copies, copies, repeated lines, evaluation sets. Memory: the texts and shingles of one part, and about
500 bytes a document of this corpus and of those it is compared with.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import Field

from mantus import console
from mantus.data.corpus import part_paths
from mantus.data.dedup import output
from mantus.data.dedup.cluster import Library, judge
from mantus.data.dedup.contamination import EvaluationSet, Search, passed, read_set, set_files
from mantus.data.dedup.signatures import SIGNATURES, Signed, Sketch, read_index, sign
from mantus.data.dedup.takedown import Requests, inherited, read_list, requested, whole_text
from mantus.data.sources.resolve import Resolved, resolve
from mantus.processes import apply_all
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute
from mantus.storage.phase import RUNTIME
from mantus.storage.share import gather, share


class DedupConfig(PhaseConfig):
    """Drop copies, what was taken down and what evaluation sets hold."""

    corpus: ArtifactURI
    """The corpus to search."""
    threshold: float = Field(default=0.8, gt=0, le=1)
    """Near duplicates share at least this much of their runs of words (Jaccard similarity)."""
    ngram: int = Field(default=5, ge=1)
    """Words in a run."""
    bands: int = Field(default=20, ge=1, le=100)
    """MinHash bands: more find more pairs of low similarity."""
    rows: int = Field(default=5, ge=1)
    """MinHash values in a band: more make a band harder to share."""
    verify: bool = True
    """Compare the shingles of each pair that shares a band, and keep those below the threshold apart."""
    against: list[ArtifactURI] = Field(default_factory=list)
    """Older corpora (dedup): what they have is dropped here, and what they were asked to take down is here too."""
    taken_down: tuple[str, ...] = ()
    """Documents that must be in nothing made from now on, with their copies: ids, URLs, sha256 of their texts."""
    taken_down_list: str = ""
    """A file of such entries, one a line: a path, http(s)://, s3://."""
    repeated: Literal["keep", "count", "remove"] = "keep"
    """What to do with lines that many documents have: keep them, count them in a column, or remove them."""
    repeated_unit: Literal["line", "paragraph"] = "line"
    """Whether `repeated` means lines or paragraphs."""
    repeated_documents: int = Field(default=10, ge=2)
    """A line is repeated when so many documents have it, once those that are copies are gone."""
    repeated_everywhere: bool = False
    """Also lines of code and rows of tables."""
    evaluation_sets: tuple[EvaluationSet, ...] = ()
    """Sets to look for: entries with path, name, fields (see `EvaluationSet`)."""
    evaluation_data: list[ArtifactURI] = Field(default_factory=list)
    """Sets to look for that are artifacts (tooldata, chatdata): their held-out rows."""
    evaluation_ngram: int = Field(default=13, ge=2)
    """Words in a run that a document and a row of a set must share."""
    contaminated: Literal["report", "drop"] = "report"
    """What to do with documents that share one."""
    max_contaminated: float = Field(default=1.0, ge=0, le=1)
    """Largest share of a set's rows that may be in what is kept; else the phase fails."""
    workers: int = Field(default=1, ge=1, json_schema_extra=RUNTIME)
    """Processes that read at once; each needs the memory of one part."""

    @property
    def sketch(self) -> Sketch:
        """How documents are hashed."""
        return Sketch(self.ngram, self.bands, self.rows)


def run(config: DedupConfig) -> Manifest:
    """Make the corpus without duplicates, or find it.

    ValueError when a list, an older corpus or an evaluation set is not there, when nothing is left, and when
    more than `max_contaminated` of an evaluation set is in the corpus.
    """
    listed = requested(config.taken_down_list, "taken_down_list")
    sets = [resolve(item.source, f"evaluation_sets[{number}]") for number, item in enumerate(config.evaluation_sets)]
    references = [found.reference for found in (*listed, *sets)]
    return execute("dedup", config, lambda work: _produce(work, config, listed, sets), references)


def _produce(work: Work, config: DedupConfig, listed: list[Resolved], sets: list[Resolved]) -> dict[str, Any]:
    older = work.inputs.get("against", [])
    requests = read_list(listed, (*inherited(older), *config.taken_down), "taken_down_list")
    search = _search(work, config, sets)
    if not (parts := part_paths(work.inputs["corpus"])):
        raise ValueError(f"corpus: {work.manifests['corpus'].uri}: has no documents; name a corpus that clean made")
    folders = [work.scratch / part.stem for part in parts]
    mine = share(len(parts), work)
    total = work.manifests["corpus"].stats["bytes"] / 1e6
    _sign_all([parts[n] for n in mine], [folders[n] for n in mine], config, requests, total)
    gather(work, folders)
    signed = Signed([folder / SIGNATURES for folder in folders], parts).load()
    corpora = [_older(work, number, config, requests) for number in range(len(older))]
    library = Library([*corpora, signed], config.sketch, work.scratch)
    verdict = judge(library, config.threshold, config.verify)
    for corpus in library.corpora:
        corpus.close()
    settings = output.Settings(
        unit=config.repeated_unit,
        everywhere=config.repeated_everywhere,
        least=config.repeated_documents,
        mode=config.repeated,
        drop_contaminated=config.contaminated == "drop",
    )
    stats = output.write(library, verdict, settings, search, work.out)
    output.write_requests(requests, work.out)
    if search is not None:
        found = search.report()
        output.write_report(found, work.out)
        if config.contaminated == "report":
            passed(found, config.max_contaminated)
        stats["evaluation_sets"] = {
            name: {**values, "samples": len(values["samples"])} for name, values in found.items()
        }
    return stats


def _sign_all(parts: list[Path], folders: list[Path], config: DedupConfig, requests: Requests, total: float) -> None:
    tasks = [(part, folder, config.sketch, requests) for part, folder in zip(parts, folders, strict=True)]
    with console.progress("dedup", total, "MB") as bar:
        for megabytes in apply_all(sign, tasks, config.workers, "dedup"):
            bar.advance(megabytes)


def _older(work: Work, number: int, config: DedupConfig, requests: Requests) -> Signed:
    """The signatures of an older corpus: its own where they can be compared, else made anew from its texts."""
    corpus, uri = work.inputs["against"][number], work.manifests["against"][number].uri
    if not (parts := part_paths(corpus)):
        raise ValueError(f"against[{number}]: {uri}: has no documents; name a corpus that dedup made")
    if (index := read_index(corpus, config.sketch)) is not None:
        return index.load(requests)
    console.say(f"{uri}: no index that can be compared with these hashes; hashing its texts again")
    folders = [work.scratch / f"against-{number}" / part.stem for part in parts]
    total = work.manifests["against"][number].stats["bytes"] / 1e6
    _sign_all(parts, folders, config, requests, total)
    return Signed([folder / SIGNATURES for folder in folders], parts).load()


def _search(work: Work, config: DedupConfig, sets: list[Resolved]) -> Search | None:
    """What to look for; None when there is nothing. ValueError when two sets have one name."""
    found = {}
    for number, (item, resolved) in enumerate(zip(config.evaluation_sets, sets, strict=True)):
        where = f"evaluation_sets[{number}]"
        if item.title in found:
            raise ValueError(f"{where}.name: {item.title!r} is the name of another set too")
        found[item.title] = read_set(whole_text(resolved, where), item.fields, where)
    for number, folder in enumerate(work.inputs.get("evaluation_data", [])):
        manifest, where = work.manifests["evaluation_data"][number], f"evaluation_data[{number}]"
        text = "\n".join(path.read_text(encoding="utf-8") for path in set_files(folder))
        found[f"{manifest.kind} {manifest.key[:8]}"] = read_set(text, (), f"{where}: {manifest.uri}")
    return Search(found, config.evaluation_ngram) if found else None
