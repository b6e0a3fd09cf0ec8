"""Pictures of the documentation: SVG by matplotlib, the same bytes for the same numbers.

It knows files, not what is drawn.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def picture(path: Path, size: tuple[float, float], columns: int = 1) -> Iterator[Any]:
    """Axes to draw on, an array of them for several columns; stored at the end. size: width and height in inches."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "mantus"
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, columns, figsize=size, layout="constrained")
    yield axes
    figure.savefig(path, metadata={"Date": None})
