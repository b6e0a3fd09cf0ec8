"""Print what Mantus needs, without Mantus itself, so that an image can have its dependencies in a layer of their own.

    python3 requirements.py EXTRA...

It reads pyproject.toml beside the current folder's files; versions are constraints.txt's business.
"""

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

OWN_EXTRAS = re.compile(r"mantus\[(.+)\]")


def requirements(project: dict[str, Any], extras: list[str]) -> list[str]:
    """The project's dependencies and those of its extras, sorted, each once. KeyError when an extra is unknown."""
    return sorted({*project["dependencies"], *(line for extra in extras for line in _of_extra(project, extra))})


def _of_extra(project: dict[str, Any], extra: str) -> Iterator[str]:
    for line in project["optional-dependencies"][extra]:
        if own := OWN_EXTRAS.fullmatch(line):
            for name in own[1].split(","):
                yield from _of_extra(project, name.strip())
        else:
            yield line


if __name__ == "__main__":
    print(*requirements(tomllib.loads(Path("pyproject.toml").read_text())["project"], sys.argv[1:]), sep="\n")
