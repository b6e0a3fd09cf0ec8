"""Clusters of documents that say the same, and which of each stays: the verdict on every document.

It knows signatures and numbers, not texts. Documents of older corpora come first in the numbering and always stay.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mantus.data.dedup import minhash
from mantus.data.dedup.signatures import Signed, Sketch
from mantus.data.dedup.takedown import TAKEN_DOWN

ROUNDS = 64
"""How many documents of a cluster are tried as survivors."""
EXACT, NEAR, KNOWN = "exact duplicate", "near duplicate", "in an older corpus"


@dataclass
class Library:
    """Several corpora as one, numbered through: older ones first, the one that is judged last."""

    corpora: list[Signed]
    sketch: Sketch
    scratch: Path

    def __post_init__(self) -> None:
        import polars as pl

        self.bounds = np.cumsum([0, *map(len, self.corpora)])
        self.facts = pl.concat([corpus.facts for corpus in self.corpora])

    @property
    def num_old(self) -> int:
        """Documents of the older corpora."""
        return int(self.bounds[-2])

    def _corpus(self, number: int) -> tuple[Signed, int]:
        place = int(np.searchsorted(self.bounds, number, side="right")) - 1
        return self.corpora[place], number - int(self.bounds[place])

    def band(self, name: str) -> Any:
        """One band of every document."""
        return np.concatenate([corpus.column(name) for corpus in self.corpora])

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


def judge(library: Library, threshold: float, verify: bool) -> Any:
    """The verdict on each document of the last corpus, a frame in its order.

    reason: null for one that stays.  rule: what decided.  survivor: the number (in the library) of the one that stands
    for it, itself when it stays.  jaccard: similarity to that one.  cluster_size: how many it stands for.
    """
    import polars as pl

    group = _exact_groups(library)
    pairs = _near(library, group, threshold if verify else None)
    exact = np.stack([group, np.arange(len(group))], axis=1)
    roots = minhash.clusters(len(group), np.concatenate([exact[group != exact[:, 1]], pairs]))
    taken = _taken(library, roots, group, threshold)
    gone = taken.is_not_null().to_numpy()
    best, jaccard = _survivors(library, _ordered(library, roots, gone), group, threshold if verify else 0.0)
    dropped = best != np.arange(len(group))
    reason = pl.select(
        pl.when(pl.Series(gone)).then(pl.lit(TAKEN_DOWN))
        .when(pl.Series(dropped & (best < library.num_old))).then(pl.lit(KNOWN))
        .when(pl.Series(dropped & (group == group[best]))).then(pl.lit(EXACT))
        .when(pl.Series(dropped)).then(pl.lit(NEAR))
        .alias("reason")
    )["reason"]  # fmt: skip
    sizes = np.bincount(best[library.num_old :], minlength=len(group))
    verdict = pl.DataFrame(
        {"reason": reason, "rule": taken, "survivor": best, "jaccard": jaccard, "cluster_size": sizes[best]}
    )
    return verdict.with_columns(pl.col("cluster_size").cast(pl.Int64))[library.num_old :]


def _exact_groups(library: Library) -> Any:
    """For each document the first one with the same words."""
    import polars as pl

    numbered = library.facts.select("exact_0", "exact_1").with_row_index("number")
    return numbered.select(pl.col("number").min().over("exact_0", "exact_1"))["number"].to_numpy().astype(np.int64)


def _near(library: Library, group: Any, threshold: float | None) -> Any:
    """Pairs of documents that share a band, and so many shingles as `threshold` says where it is given."""
    numbers = np.arange(len(group))
    searched = np.flatnonzero((group == numbers) & (library.facts["shingles"].to_numpy() > 0))
    found = minhash.candidate_pairs(library.band(name)[searched] for name in library.sketch.columns())
    pairs = searched[found]
    pairs = pairs[pairs[:, 1] >= library.num_old]  # older ones have been compared with each other
    return pairs if threshold is None else pairs[library.overlaps(pairs) >= threshold]


def _taken(library: Library, roots: Any, group: Any, threshold: float) -> Any:
    """For each document why it is taken down, null when it is not: asked for, or a copy of one that was."""
    import polars as pl

    taken = library.facts["taken"]
    asked = np.flatnonzero(taken.is_not_null().to_numpy())
    if not len(asked):
        return taken
    why = dict(zip(asked.tolist(), taken.gather(asked), strict=True))
    order = np.argsort(roots, kind="stable")
    first, last = (np.searchsorted(roots[order], roots[asked], side) for side in ("left", "right"))
    near = []
    for number, begin, end in zip(asked.tolist(), first.tolist(), last.tolist(), strict=True):
        others = [other for other in order[begin:end].tolist() if other not in why]
        same = {other for other in others if group[other] == group[number]}
        why |= dict.fromkeys(same, f"exact copy of {library.facts['id'][number]}")
        near += [(number, other) for other in others if other not in same]
    pairs = np.array(near, np.int64).reshape(-1, 2)
    for number, other in pairs[library.overlaps(pairs) >= threshold].tolist():
        why.setdefault(other, f"near copy of {library.facts['id'][number]}")
    return pl.Series("taken", [why.get(number) for number in range(len(taken))], dtype=pl.String)


def _ordered(library: Library, roots: Any, gone: Any) -> Any:
    """Numbers and roots of the clusters' members, each cluster's in the order in which they would stay."""
    import polars as pl

    frame = library.facts.select("id", "bytes").with_row_index("number")
    frame = frame.with_columns(root=pl.Series(roots), new=pl.col("number") >= library.num_old)
    frame = frame.with_columns(gone=pl.Series(gone))
    several = frame.filter(pl.len().over("root") > 1).filter(~pl.col("gone"))
    several = several.sort("root", "new", "bytes", "id", "number", descending=[False, False, True, False, False])
    return several.select("number", "root").to_numpy().astype(np.int64)


def _survivors(library: Library, members: Any, group: Any, threshold: float) -> tuple[Any, Any]:
    """For each document the one that stands for it, and their similarity.

    members: what `_ordered` made.  Of each cluster the first member stays and takes those that are like it; of the rest
    the first stays, and so on: nothing goes that is not like what stays. After ROUNDS the rest goes with the next one.
    Older documents take, and are not taken.
    """
    best, jaccard = np.arange(len(group)), np.ones(len(group))
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
    return best, jaccard
