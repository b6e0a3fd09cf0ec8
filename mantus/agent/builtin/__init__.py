"""The tools that Mantus brings: calculator, search, file_read, file_write.

It knows no model and no loop.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mantus.agent.tools import Tool


def toolbox(root: Path, index: Path | None = None) -> "list[Tool]":
    """The tools bound to a working folder and a search index; without an index there is no search."""
    from mantus.agent.builtin.calculator import calculator
    from mantus.agent.builtin.files import file_read, file_write
    from mantus.agent.builtin.search import search

    found = [search.bind(index=str(index.absolute()))] if index else []
    folder = str(root.absolute())
    return [calculator, *found, file_read.bind(root=folder), file_write.bind(root=folder)]
