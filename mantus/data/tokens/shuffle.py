"""Second pass of the shuffle: put one bucket after another into the order of its hashes, and write both splits.

It knows which sides are held out and how often sources are seen, not why. Memory: one bucket twice.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from mantus.data.tokens.buckets import hash64, scatter, slices
from mantus.data.tokens.mixture import copies
from mantus.data.tokens.split import Split


@dataclass(frozen=True, slots=True)
class Shuffle:
    """A corpus in buckets, and what is done with its documents."""

    folders: tuple[Path, ...]
    """Where slices of the buckets are."""
    buckets: int
    limit: int
    """Documents with sides below are held out."""
    epochs: dict[str, float]
    """How often each source is seen in training; empty: all once. What is held out is never repeated."""

    def repeat(self, folder: Path) -> "Shuffle":
        """Lay what is seen more than once into buckets of `folder`: each time has a place of its own in the shuffle."""
        import pyarrow as pa

        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        folder.mkdir()
        for bucket in range(self.buckets):
            for table in slices(self.folders, bucket):
                times = self._times(table)
                for time in range(1, int(times.max(initial=0))):
                    again = table.take(np.flatnonzero(times > time))
                    places = [hash64(f"{place} {time}") for place in again["place"].to_pylist()]
                    scatter(again.set_column(0, "place", pa.array(places, pa.uint64())), self.buckets, folder)
        return Shuffle((*self.folders, folder), self.buckets, self.limit, self.epochs)

    def write(self, train: Split, heldout: Split) -> None:
        """Write both splits."""
        import pyarrow as pa

        for bucket in range(self.buckets):
            if tables := list(slices(self.folders, bucket)):
                table = pa.concat_tables(tables).combine_chunks()
                del tables  # the bucket is there twice, not three times
                order = np.argsort(table["place"].to_numpy(), kind="stable")
                train.write(table, order[self._times(table)[order] > 0])
                heldout.write(table, order[self._held(table)[order]])

    def _held(self, table: Any) -> npt.NDArray[np.bool_]:
        held: npt.NDArray[np.bool_] = table["side"].to_numpy() < np.uint64(self.limit)
        return held

    def _times(self, table: Any) -> npt.NDArray[np.int64]:
        """How often each document is seen in training, [documents]."""
        times = np.ones(table.num_rows, np.int64)
        if self.epochs:
            times = copies(table["id"].to_pylist(), table["source"].to_pylist(), self.epochs)
        return np.where(self._held(table), 0, times)
