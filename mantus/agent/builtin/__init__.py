"""The tools that Mantus brings: calculator, search, file_read, file_write; on request http_get, web_search, run_python.

It knows no model and no loop.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mantus.agent.tools import Tool

USUAL = ("calculator", "search", "file_read", "file_write")
ON_REQUEST = ("http_get", "web_search", "run_python")


def toolbox(root: Path, index: Path | None = None, names: Sequence[str] = USUAL, web_search: str = "") -> "list[Tool]":
    """The tools of these names, bound to a working folder and a search index; without an index there is no search.

    web_search: the address of a search service that answers in JSON, with {query} in it.
    ValueError names a tool that there is not.
    """
    from mantus.agent.builtin.calculator import calculator
    from mantus.agent.builtin.files import file_read, file_write

    folder = str(root.absolute())
    made = [calculator, file_read.bind(root=folder), file_write.bind(root=folder)]
    if index and "search" in names:
        from mantus.agent.builtin.search import search

        made.append(search.bind(index=str(index.absolute())))
    if set(names) & set(ON_REQUEST):
        from mantus.agent.builtin.program import run_python
        from mantus.agent.builtin.web import http_get
        from mantus.agent.builtin.web import web_search as searching

        made += [http_get, run_python, *([searching.bind(service=web_search)] if web_search else [])]
    found = {tool.name: tool for tool in made}
    for name in names:
        if name not in (*USUAL, *ON_REQUEST):
            raise ValueError(f"no tool {name!r}; there are {', '.join((*USUAL, *ON_REQUEST))}")
        if name == "web_search" and not web_search:
            raise ValueError("tool 'web_search' needs the address of a search service (--web-search)")
    return [found[name] for name in names if name in found]
