"""Checkpoints: `step-%09d/` with torch DCP files, `train_state.json`, and `COMMITTED` with digests, written last.

It knows state dicts and folders, not what is trained. A checkpoint without a matching COMMITTED is never read.
"""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch.distributed.checkpoint.state_dict import get_state_dict, set_state_dict
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save

from mantus.storage import Store
from mantus.training.loss import NextToken

COMMITTED, STATE = "COMMITTED", "train_state.json"


class Checkpoints:
    """The checkpoints of one piece of work: a local folder, and a prefix of the store when `store` is given.

    Processes on several machines share nothing but the store: each writes and uploads its own files, the first one
    commits with the digests of all, and who lacks files of a checkpoint downloads it.
    """

    def __init__(self, folder: Path, keep: int, store: Store | None = None, prefix: str = "") -> None:
        self.folder, self.keep, self.store, self.prefix = folder, keep, store, prefix

    def save(
        self, step: int, module: NextToken, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]
    ) -> None:
        """Write a checkpoint after `step` steps; every process calls this, the first one commits."""
        target = self.folder / f"step-{step:09d}"
        if _leads_machine():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
        _together()
        model_state, optimizer_state = get_state_dict(module, optimizers)
        tree = {"model": model_state, "optimizer": optimizer_state}
        save(tree, checkpoint_id=target, no_dist=not dist.is_initialized())
        first = _rank() == 0
        if first:
            (target / STATE).write_text(json.dumps({"step": step, **state}))
        own = _digests(target) if _leads_machine() else {}
        self._upload(target, list(own))
        digests = {name: digest for found in _all(own) for name, digest in found.items()}
        if first:
            (target / COMMITTED).write_text(json.dumps(digests, sort_keys=True))
            self._upload(target, [COMMITTED])
            self._forget()

    def load(self, module: NextToken, optimizers: list[torch.optim.Optimizer]) -> dict[str, Any] | None:
        """Restore the newest committed checkpoint; its train state, None when there is none."""
        source = self._newest()
        if source is None:
            return None
        model_state, optimizer_state = get_state_dict(module, optimizers)
        tree: dict[str, Any] = {"model": model_state, "optimizer": optimizer_state}
        load(tree, checkpoint_id=source, no_dist=not dist.is_initialized())
        set_state_dict(module, optimizers, model_state_dict=tree["model"], optim_state_dict=tree["optimizer"])
        state: dict[str, Any] = json.loads((source / STATE).read_text())
        return state

    def _newest(self) -> Path | None:
        """The folder of the newest checkpoint that every process can have, complete on this machine."""
        local = {path.name for path in self.folder.glob("step-*") if _is_whole(path)}
        everywhere: set[str] = set.intersection(*_all(local))
        stored: set[str] = _all(self._stored() if _rank() == 0 else set())[0]
        for name in sorted(everywhere | stored, reverse=True):
            if name not in local and _leads_machine():
                self._download(name)
            _together()
            if all(_all(_is_whole(self.folder / name))):
                return self.folder / name
        return None

    def _stored(self) -> set[str]:
        if self.store is None:
            return set()
        names = (item.name.split("/")[-2:] for item in self.store.list(self.prefix + "/"))
        return {step for step, name in names if name == COMMITTED}

    def _upload(self, folder: Path, names: list[str]) -> None:
        if self.store is not None:
            for name in names:
                self.store.upload(folder / name, f"{self.prefix}/{folder.name}/{name}")

    def _download(self, name: str) -> None:
        assert self.store is not None
        shutil.rmtree(self.folder / name, ignore_errors=True)
        for item in list(self.store.list(f"{self.prefix}/{name}/")):
            self.store.download(item.name, self.folder / name / item.name.rpartition("/")[2])

    def _forget(self) -> None:
        """Drop all but the newest. In the store too, by what lies there: another machine may have written it."""
        for folder in sorted(self.folder.glob("step-*"))[: -self.keep]:
            shutil.rmtree(folder)
        for name in sorted(self._stored())[: -self.keep]:
            assert self.store is not None
            mark = f"{self.prefix}/{name}/{COMMITTED}"
            self.store.delete(mark)  # first: what goes on without its mark is never read
            for item in list(self.store.list(f"{self.prefix}/{name}/")):
                self.store.delete(item.name)


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _leads_machine() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _together() -> None:
    if dist.is_initialized():
        dist.barrier()


def _all(value: Any) -> list[Any]:
    """The value that each process has, by rank."""
    if not dist.is_initialized():
        return [value]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, value)
    return found


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.name != COMMITTED)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _is_whole(folder: Path) -> bool:
    mark = folder / COMMITTED
    try:
        return bool(json.loads(mark.read_text()) == _digests(folder))
    except (OSError, ValueError):
        return False
