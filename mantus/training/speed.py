"""The precision of matrix products here, what a large one reaches (the yardstick of MFU), and memory.

It knows no models.
"""

import ctypes
import resource
import sys
import time
from pathlib import Path

import torch

from mantus.processes import processor_flags

SIDES = {"cpu": 1024, "cuda": 8192}
BF16_SIDE = 2048
"""On a processor that has bfloat16: with 1,024 it reaches half as much."""
TRIES = 5


def cpu_has_bf16() -> bool:
    """Whether the processor multiplies bfloat16 natively."""
    return not processor_flags().isdisjoint({"avx512_bf16", "amx_bf16"})


def dtype_of(name: str) -> torch.dtype:
    """bf16, fp32, or auto: bfloat16 where the processor multiplies it natively, else float32."""
    if name == "auto":
        return torch.bfloat16 if torch.cuda.is_available() or cpu_has_bf16() else torch.float32
    return torch.bfloat16 if name == "bf16" else torch.float32


def peak_flops(dtype: torch.dtype) -> float:
    """FLOP/s of the best of a few square matrix products, with the threads and the device of this process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = BF16_SIDE if device == "cpu" and dtype == torch.bfloat16 and cpu_has_bf16() else SIDES[device]
    square = torch.ones(side, side, dtype=dtype, device=device)
    times = []
    for _ in range(TRIES + 1):  # the first one warms up
        begin = time.perf_counter()
        torch.mm(square, square)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return 2 * side**3 / min(times[1:])


def peak_memory() -> int:
    """Bytes that this process has had at most: on its accelerator where there is one, else of the machine."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024  # macOS counts bytes, Linux KiB


class Heap:
    """What glibc keeps of freed memory between steps (launch.py), within bounds.

    Steps whose tensors have ever other sizes, as packed conversations have, fit each other's places badly: tuning 135
    million weights went from 4.4 to 14.3 GiB in 200 steps. Beyond half as much again as a step from a tidy heap had,
    and `slack` bytes more, free pages go back to the kernel, and one step has to get them again.
    """

    def __init__(self, slack: int = 1 << 30) -> None:
        self.slack = slack
        self.needed = 0
        """Bytes that the largest of those steps left resident."""
        self.tidy = True
        self._trim = getattr(ctypes.CDLL(None), "malloc_trim", None)

    def bound(self) -> None:
        """Call after each step."""
        now = resident()
        if self.tidy:
            self.needed, self.tidy = max(self.needed, now), False
        elif self._trim is not None and now > max(1.5 * self.needed, self.needed + self.slack):
            self._trim(0)
            self.tidy = True


def resident() -> int:
    """Bytes of this process that are in memory now; 0 off Linux."""
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) * resource.getpagesize() if path.is_file() else 0
