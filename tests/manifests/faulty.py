"""A real server whose engine stands still, crawls or fails while a file says so.

python -m tests.manifests.faulty FILE, then the server's own arguments.
"""

import sys
import time
from pathlib import Path

from mantus.inference import openvino, pipeline
from mantus.inference.pipeline import Step, Stepper

STEP_S = 2.5
"""A step that crawls."""


def spoil(file: Path) -> None:
    """Look into the file before every step of the engine."""
    step = Stepper.step

    def spoilt(stepper: Stepper) -> Step:
        while (fault := file.read_text()) == "stuck":
            time.sleep(0.05)
        if fault == "broken":
            raise RuntimeError("broken on purpose")
        if fault == "slow":
            time.sleep(STEP_S)
        return step(stepper)

    Stepper.step = spoilt


def engine() -> None:
    """The engine's process: FILE, then the engine's own arguments."""
    spoil(Path(sys.argv.pop(1)))
    pipeline.main()


if __name__ == "__main__":
    from mantus.serving.server import main

    openvino.PROGRAM += [sys.argv.pop(1)]
    openvino.PROGRAM[1] = "from tests.manifests.faulty import engine; engine()"
    main()
