"""What steps leave in the heap beyond what one needs goes back to the kernel, and only that."""

import json
import subprocess
import sys

import pytest

from mantus.processes import child_environment
from mantus.training.launch import SETTINGS

MIB = 1 << 20
STEPS = """
import json, torch
from mantus.training.speed import Heap, resident

heap, seen = Heap(slack=100 << 20), []
for mebibytes in (50, 60, 50, 400, 50, 50):
    held = [torch.ones(1 << 18) for _ in range(mebibytes)]
    del held
    before = resident()
    heap.bound()
    seen.append([before, resident()])
print(json.dumps(seen))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_what_a_step_needs_is_kept_and_more_goes_back():
    environment = child_environment(1, **SETTINGS)
    done = subprocess.run([sys.executable, "-c", STEPS], env=environment, capture_output=True, text=True, check=True)
    seen = json.loads(done.stdout)
    first = seen[0][0]
    assert all(before == after for before, after in (*seen[:3], *seen[4:]))
    before, after = seen[3]
    assert before > first + 300 * MIB
    assert after < first + 10 * MIB
    assert seen[4][0] < first + 60 * MIB
