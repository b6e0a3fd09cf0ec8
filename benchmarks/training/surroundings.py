"""What training gives its processes, for benchmarks that take steps in their own."""

import os
import sys

from mantus.processes import child_environment
from mantus.training.launch import SETTINGS
from mantus.training.worker import settle_arithmetic


def settle() -> None:
    """Begin this program again in training's environment, unless it has that; before anything is computed."""
    wanted = child_environment(**SETTINGS)
    if os.environ != wanted:
        os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], wanted)
    settle_arithmetic()
