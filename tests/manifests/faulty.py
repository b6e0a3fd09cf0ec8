"""A real server whose engine stands still, crawls or fails while a file says so.

python -m tests.manifests.faulty FILE, then the server's own arguments.
"""

import sys
import time
from pathlib import Path

from mantus.inference.openvino import OpenVINOEngine
from mantus.serving.server import main

STEP_S = 2.5
"""A step that crawls."""


def spoil(file: Path) -> None:
    """Look into the file before every step of the engine."""
    step = OpenVINOEngine._step

    def spoilt(engine: OpenVINOEngine) -> None:
        while (fault := file.read_text()) == "stuck":
            time.sleep(0.05)
        if fault == "broken":
            raise RuntimeError("broken on purpose")
        if fault == "slow":
            time.sleep(STEP_S)
        step(engine)

    OpenVINOEngine._step = spoilt


if __name__ == "__main__":
    spoil(Path(sys.argv.pop(1)))
    main()
