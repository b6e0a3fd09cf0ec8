"""Join and leave a group of training processes (torchrun's environment, gloo or NCCL).

It knows processes, not models' meaning.
"""

import gc
import os

import torch
import torch.distributed as dist


def join() -> tuple[int, int]:
    """(rank, world size). One process needs no group."""
    rank, world = int(os.environ.get("RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    if world > 1 and not dist.is_initialized():
        if torch.cuda.is_available():
            torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
    return rank, world


def total(value: float, world: int) -> float:
    """The sum of a number over all processes."""
    return value if world == 1 else _reduced(value, dist.ReduceOp.SUM)


def largest(value: int, world: int) -> int:
    """The largest of a number over all processes."""
    return value if world == 1 else int(_reduced(value, dist.ReduceOp.MAX))


def _reduced(value: float, how: dist.ReduceOp.RedOpType) -> float:
    tensor = torch.tensor(value, dtype=torch.float64)
    dist.all_reduce(tensor, how)
    return float(tensor)


def shutdown_distributed() -> None:
    """Leave the group. The caller has dropped its model and optimisers: torch 2.13's gloo aborts at exit otherwise."""
    gc.collect()
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()
