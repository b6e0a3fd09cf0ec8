"""The yardstick of model FLOPs utilisation (MFU): what a large matrix product reaches here. It knows no models."""

import time

import torch

SIDE = {"cpu": 1024, "cuda": 8192}
TRIES = 5


def peak_flops(dtype: torch.dtype) -> float:
    """FLOP/s of the best of a few square matrix products, with the threads and the device of this process."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    side = SIDE[device]
    square = torch.ones(side, side, dtype=dtype, device=device)
    times = []
    for _ in range(TRIES + 1):  # the first one warms up
        begin = time.perf_counter()
        torch.mm(square, square)
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return 2 * side**3 / min(times[1:])
