"""Second pass of the shuffle: put one bucket after another into the order of its hashes, and write both splits.

It knows which sides are held out and how often sources are seen, not why. Memory: one bucket.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

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
        import polars as pl

        shutil.rmtree(folder, ignore_errors=True)  # of a process that was killed
        folder.mkdir()
        for bucket in range(self.buckets):
            for frame in slices(self.folders, bucket):
                times = self._times(frame)
                for time in range(1, int(times.max() or 0)):
                    again = frame.filter(times > time)
                    places = [hash64(f"{place} {time}") for place in again["place"]]
                    scatter(again.with_columns(pl.Series("place", places, pl.UInt64)), self.buckets, folder)
        return Shuffle((*self.folders, folder), self.buckets, self.limit, self.epochs)

    def write(self, train: Split, heldout: Split) -> None:
        """Write both splits."""
        for bucket in range(self.buckets):
            self._write(bucket, train, heldout)

    def _write(self, bucket: int, train: Split, heldout: Split) -> None:
        """Write one bucket; it is forgotten before the next one is read."""
        import polars as pl

        if frames := list(slices(self.folders, bucket)):
            frame = pl.concat(frames).sort("place", maintain_order=True)
            train.write(frame.filter(self._times(frame) > 0))
            heldout.write(frame.filter(self._held()))

    def _held(self) -> Any:
        """Whether a document is held out, as an expression."""
        import polars as pl

        return pl.col("side") < pl.lit(self.limit, pl.UInt64)

    def _times(self, frame: Any) -> Any:
        """How often each document is seen in training, as a series."""
        import polars as pl

        held = frame.select(held=self._held())["held"]
        times = copies(frame["id"], frame["source"], self.epochs) if self.epochs else [1] * frame.height
        return pl.select(pl.when(held).then(0).otherwise(pl.Series(times, dtype=pl.Int64)).alias("times"))["times"]
