"""More than 40 broken inputs, made by hand when a test runs: CASES has each maker by its name."""

from tests.data.broken import crawls, dumps, rows, trees
from tests.data.broken.case import CASES

__all__ = ["CASES", "crawls", "dumps", "rows", "trees"]
