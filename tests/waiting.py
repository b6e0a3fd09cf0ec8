"""Wait for what other processes bring about."""

import time
from collections.abc import Callable


def wait_for(found: Callable[[], bool], seconds: float) -> bool:
    """Whether `found` became true within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if found():
            return True
        time.sleep(0.02)
    return False
