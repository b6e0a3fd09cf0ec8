"""Write every page that is made from the code: `python -m mantus.launch.reference [CHECKOUT]`."""

import sys
from pathlib import Path

from mantus.launch.reference.components import catalogue
from mantus.launch.reference.phases import reference


def main(root: Path) -> None:
    """Write docs/phases.md and the components' pages beneath a checkout."""
    pages = {root / "docs" / "phases.md": reference(), **{root / name: text for name, text in catalogue().items()}}
    for path, text in pages.items():
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path())
