"""Clusters of documents that say the same, and which of each stays: the verdict on every document.

It knows signatures and numbers, not texts. Documents of older corpora come first in the numbering and always stay.
"""

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mantus.data.dedup import minhash
from mantus.data.dedup.signatures import Signed, Sketch
from mantus.data.dedup.takedown import TAKEN_DOWN

ROUNDS = 64
"""How many documents of a cluster are tried as survivors."""
SEGMENT, MOST_SEGMENTS = 1 << 18, 256
"""Documents whose hashes are sorted at a time, and in how many files the rest waits; with more than their product, more
are sorted at a time."""
BATCH = 1 << 18
"""Members of clusters that are judged at a time, and those of one cluster in any case."""
EXACT, NEAR, KNOWN = "exact duplicate", "near duplicate", "in an older corpus"


@dataclass
class Library:
    """Several corpora as one, numbered through: older ones first, the one that is judged last."""

    corpora: list[Signed]
    sketch: Sketch
    scratch: Path

    def __post_init__(self) -> None:
        self.bounds = np.cumsum([0, *map(len, self.corpora)])

    def __len__(self) -> int:
        return int(self.bounds[-1])

    @property
    def num_old(self) -> int:
        """Documents of the older corpora."""
        return int(self.bounds[-2])

    @property
    def taken(self) -> dict[int, str]:
        """Number of each document that was asked to be taken down -> the request."""
        starts = self.bounds.tolist()
        return {
            start + own: rule
            for start, corpus in zip(starts, self.corpora, strict=False)
            for own, rule in corpus.taken.items()
        }

    def has_words(self) -> Any:
        """Whether each document has words, [num_documents]."""
        return np.concatenate([corpus.nums > 0 for corpus in self.corpora])

    def segments(self, *names: str) -> Iterator[tuple[Any, Any]]:
        """Columns of hashes, [num, len(names)], and the numbers of the documents that have them, ascending.

        All documents once; those with the same hashes in the same segment. Memory: one segment.
        """
        bits = min((len(self) - 1) // SEGMENT, MOST_SEGMENTS - 1).bit_length()
        if not bits:
            parts = list(self._hashes(names))
            yield np.concatenate([values for values, _ in parts]), np.concatenate([numbers for _, numbers in parts])
            return
        self.scratch.mkdir(parents=True, exist_ok=True)
        paths = [self.scratch / f"segment-{number:03d}.bin" for number in range(1 << bits)]
        with ExitStack() as stack:
            files = [stack.enter_context(path.open("wb")) for path in paths]
            for values, numbers in self._hashes(names):
                records = np.concatenate([values, numbers[:, None].astype(np.uint64)], axis=1)
                owner = values[:, 0] >> np.uint64(64 - bits)
                order = np.argsort(owner, kind="stable")
                edges = np.searchsorted(owner[order], np.arange((1 << bits) + 1, dtype=np.uint64))
                for file, first, last in zip(files, edges[:-1].tolist(), edges[1:].tolist(), strict=True):
                    records[order[first:last]].tofile(file)
        for path in paths:
            records = np.fromfile(path, np.uint64).reshape(-1, len(names) + 1)
            path.unlink()
            yield records[:, :-1], records[:, -1].astype(np.int64)

    def _hashes(self, names: tuple[str, ...]) -> Iterator[tuple[Any, Any]]:
        """The columns of one file after the other, and the numbers of its documents."""
        start = 0
        for corpus in self.corpora:
            for values in corpus.columns(names):
                yield values, np.arange(start, start + len(values))
                start += len(values)

    def _corpus(self, number: int) -> tuple[Signed, int]:
        place = int(np.searchsorted(self.bounds, number, side="right")) - 1
        return self.corpora[place], number - int(self.bounds[place])

    def pick(self, name: str, numbers: Any) -> list[Any]:
        """One column of some documents, in their order."""
        found: list[Any] = [None] * len(numbers)
        for place, corpus in enumerate(self.corpora):
            mine = np.flatnonzero((numbers >= self.bounds[place]) & (numbers < self.bounds[place + 1]))
            values = corpus.pick(name, numbers[mine] - self.bounds[place])
            for index, value in zip(mine.tolist(), values, strict=True):
                found[index] = value
        return found

    def overlaps(self, pairs: Any) -> Any:
        """The Jaccard similarity of pairs of documents, [num_pairs]."""
        for place, corpus in enumerate(self.corpora):
            mine = pairs[(pairs >= self.bounds[place]) & (pairs < self.bounds[place + 1])] - self.bounds[place]
            corpus.have(np.unique(mine), self.sketch, self.scratch / f"again-{place}")
        return minhash.overlaps(pairs, self._shingles)

    def _shingles(self, number: int) -> Any:
        corpus, own = self._corpus(number)
        return corpus.shingles_of(own)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What becomes of each document of a library, by its number."""

    num_old: int
    group: Any
    """The first document with the same words, [num_documents]."""
    best: Any
    """The document that stands for each; itself when it stays."""
    jaccard: Any
    """Similarity to that one."""
    sizes: Any
    """How many documents of the last corpus each stands for."""
    taken: dict[int, str]
    """Why a document is taken down."""

    def __len__(self) -> int:
        """Documents of the last corpus."""
        return len(self.best) - self.num_old

    def rows(self, start: int, stop: int) -> Any:
        """The verdicts on documents start to stop of the last corpus, a frame in their order.

        reason: null for one that stays.  rule: what decided.  survivor: the number of the one that stands for it.
        jaccard: similarity to that one.  cluster_size: how many that stands for.
        """
        import polars as pl

        numbers = np.arange(start, stop) + self.num_old
        best = self.best[numbers]
        rule = pl.Series("rule", [self.taken.get(number) for number in numbers.tolist()], dtype=pl.String)
        dropped = best != numbers
        reason = (
            pl.when(rule.is_not_null()).then(pl.lit(TAKEN_DOWN))
            .when(pl.Series(dropped & (best < self.num_old))).then(pl.lit(KNOWN))
            .when(pl.Series(dropped & (self.group[numbers] == self.group[best]))).then(pl.lit(EXACT))
            .when(pl.Series(dropped)).then(pl.lit(NEAR))
            .alias("reason")
        )  # fmt: skip
        sizes = self.sizes[best].astype(np.int64)
        columns = {"rule": rule, "survivor": best, "jaccard": self.jaccard[numbers], "cluster_size": sizes}
        return pl.DataFrame(columns).with_columns(reason)

    def kept_sizes(self) -> Any:
        """How many documents each one that stays stands for."""
        numbers = np.arange(self.num_old, len(self.best))
        stays = self.best[numbers] == numbers
        stays[[number - self.num_old for number in self.taken if number >= self.num_old]] = False
        return self.sizes[numbers[stays]]


def judge(library: Library, threshold: float, verify: bool) -> Verdict:
    """The verdict on each document of the last corpus. Memory: some 50 bytes a document of the library."""
    group = _exact_groups(library)
    pairs = _near(library, group, threshold if verify else None)
    copies = np.flatnonzero(group != np.arange(len(group)))
    exact = np.stack([group[copies], copies], axis=1)
    roots = minhash.clusters(len(group), np.concatenate([exact, pairs]))
    taken = _taken(library, roots, group, threshold)
    best, jaccard = _survivors(library, roots, taken, group, threshold if verify else 0.0)
    sizes = np.bincount(best[library.num_old :], minlength=len(group)).astype(np.uint32)
    return Verdict(library.num_old, group, best, jaccard, sizes, taken)


def _exact_groups(library: Library) -> Any:
    """For each document the first one with the same words."""
    group = np.arange(len(library))
    for values, numbers in library.segments("exact_0", "exact_1"):
        order = np.lexsort(values.T[::-1])  # stable, so that the first of equals is the one with the smallest number
        values, numbers = values[order], numbers[order]
        starts = np.flatnonzero(np.concatenate([[True], (values[1:] != values[:-1]).any(axis=1)])[: len(numbers)])
        group[numbers] = np.repeat(numbers[starts], np.diff(starts, append=len(numbers)))
    return group


def _near(library: Library, group: Any, threshold: float | None) -> Any:
    """Pairs of documents that share a band, and so many shingles as `threshold` says where it is given."""
    searched = (group == np.arange(len(group))) & library.has_words()

    def bands() -> Iterator[tuple[Any, Any]]:
        for name in library.sketch.columns():
            for values, numbers in library.segments(name):
                chosen = searched[numbers]
                yield values[chosen, 0], numbers[chosen]

    pairs = minhash.candidate_pairs(bands())
    pairs = pairs[pairs[:, 1] >= library.num_old]  # older ones have been compared with each other
    return pairs if threshold is None else pairs[library.overlaps(pairs) >= threshold]


def _taken(library: Library, roots: Any, group: Any, threshold: float) -> dict[int, str]:
    """Why documents are taken down: asked for, or a copy of one that was."""
    why = library.taken
    if not why:
        return why
    asked = np.array(sorted(why))
    names = dict(zip(asked.tolist(), library.pick("id", asked), strict=True))
    order = np.argsort(roots, kind="stable")
    first, last = (np.searchsorted(roots[order], roots[asked], side) for side in ("left", "right"))
    near = []
    for number, begin, end in zip(asked.tolist(), first.tolist(), last.tolist(), strict=True):
        others = [other for other in order[begin:end].tolist() if other not in why]
        same = {other for other in others if group[other] == group[number]}
        why |= dict.fromkeys(same, f"exact copy of {names[number]}")
        near += [(number, other) for other in others if other not in same]
    pairs = np.array(near, np.int64).reshape(-1, 2)
    for number, other in pairs[library.overlaps(pairs) >= threshold].tolist():
        why.setdefault(other, f"near copy of {names[number]}")
    return why


def _batches(roots: Any, taken: dict[int, str]) -> Iterator[Any]:
    """Numbers of documents that are not alone in their clusters, whole clusters at a time."""
    several = np.bincount(roots, minlength=len(roots))[roots] > 1
    several[list(taken)] = False
    members = np.flatnonzero(several)
    members = members[np.argsort(roots[members], kind="stable")]
    ends = np.flatnonzero(np.diff(roots[members], append=-1)) + 1
    begin = 0
    while begin < len(members):
        end = int(ends[min(int(np.searchsorted(ends, begin + BATCH)), len(ends) - 1)])
        yield members[begin:end]
        begin = end


def _ordered(library: Library, numbers: Any, roots: Any) -> Any:
    """Numbers and roots of the clusters' members, each cluster's in the order in which they would stay."""
    import polars as pl

    columns = {"number": numbers, "root": roots[numbers], "new": numbers >= library.num_old}
    kinds = {"bytes": pl.Int64, "id": pl.String}
    columns |= {name: pl.Series(library.pick(name, numbers), dtype=kind) for name, kind in kinds.items()}
    frame = pl.DataFrame(columns)
    ordered = frame.sort("root", "new", "bytes", "id", "number", descending=[False, False, True, False, False])
    return ordered.select("number", "root").to_numpy().astype(np.int64)


def _survivors(library: Library, roots: Any, taken: dict[int, str], group: Any, threshold: float) -> tuple[Any, Any]:
    """For each document the one that stands for it, and their similarity."""
    best, jaccard = np.arange(len(group)), np.ones(len(group))
    for numbers in _batches(roots, taken):
        _choose(library, _ordered(library, numbers, roots), group, threshold, (best, jaccard))
    return best, jaccard


def _choose(library: Library, members: Any, group: Any, threshold: float, found: tuple[Any, Any]) -> None:
    """Write into `found` (best, jaccard) which member of its cluster stands for each, and their similarity.

    members: what `_ordered` made.  Of each cluster the first member stays and takes those that are like it; of the rest
    the first stays, and so on: nothing goes that is not like what stays. After ROUNDS the rest goes with the next one.
    Older documents take, and are not taken.
    """
    best, jaccard = found
    for last in [False] * ROUNDS + [True]:
        numbers, roots = members.T
        starts = np.flatnonzero(np.diff(roots, prepend=-1))
        leader = np.repeat(numbers[starts], np.diff(starts, append=len(roots)))
        asked = np.flatnonzero((numbers != leader) & (numbers >= library.num_old))
        if not len(asked):
            break
        pairs = np.stack([numbers[asked], leader[asked]], axis=1)
        near = group[pairs[:, 0]] != group[pairs[:, 1]]
        overlap = np.ones(len(pairs))
        overlap[near] = library.overlaps(pairs[near])
        like = (overlap >= threshold) | last
        best[pairs[like, 0]], jaccard[pairs[like, 0]] = pairs[like, 1], overlap[like]
        left = numbers != leader
        left[asked[like]] = False
        members = members[left]
