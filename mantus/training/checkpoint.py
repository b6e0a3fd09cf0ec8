"""Checkpoints: `step-%09d/` with torch DCP files, `train_state.json`, and `COMMITTED` with digests, written last.

It knows state dicts and folders, not what is trained. A checkpoint without a matching COMMITTED is never read.
"""

import hashlib
import json
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
    """The checkpoints of one piece of work: a local folder, and a prefix of the store when `store` is given."""

    def __init__(self, folder: Path, keep: int, store: Store | None = None, prefix: str = "") -> None:
        self.folder, self.keep, self.store, self.prefix = folder, keep, store, prefix

    def save(
        self, step: int, module: NextToken, optimizers: list[torch.optim.Optimizer], state: dict[str, Any]
    ) -> None:
        """Write a checkpoint after `step` steps; every process calls this, the first one commits."""
        target = self.folder / f"step-{step:09d}"
        first = not dist.is_initialized() or dist.get_rank() == 0
        if first:
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
        model_state, optimizer_state = get_state_dict(module, optimizers)
        tree = {"model": model_state, "optimizer": optimizer_state}
        save(tree, checkpoint_id=target, no_dist=not dist.is_initialized())
        if first:
            (target / STATE).write_text(json.dumps({"step": step, **state}))
            (target / COMMITTED).write_text(json.dumps(_digests(target)))
            self._upload(target)
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
        for folder in sorted(self.folder.glob("step-*"), reverse=True):
            if _is_whole(folder):
                return folder
        return self._download()

    def _upload(self, folder: Path) -> None:
        if self.store is None:
            return
        files = sorted(path for path in folder.iterdir() if path.name != COMMITTED)
        for path in [*files, folder / COMMITTED]:
            self.store.upload(path, f"{self.prefix}/{folder.name}/{path.name}")

    def _download(self) -> Path | None:
        if self.store is None:
            return None
        names = [item.name for item in self.store.list(self.prefix + "/")]
        whole = sorted(name.rpartition("/")[0] for name in names if name.endswith("/" + COMMITTED))
        for prefix in reversed(whole):
            target = self.folder / prefix.rpartition("/")[2]
            for name in names:
                if name.startswith(prefix + "/"):
                    self.store.download(name, target / name.rpartition("/")[2])
            if _is_whole(target):
                return target
        return None

    def _forget(self) -> None:
        for folder in sorted(self.folder.glob("step-*"))[: -self.keep]:
            shutil.rmtree(folder)
            if self.store is not None:
                for item in list(self.store.list(f"{self.prefix}/{folder.name}/")):
                    self.store.delete(item.name)


def _digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.name != COMMITTED)
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def _is_whole(folder: Path) -> bool:
    mark = folder / COMMITTED
    try:
        return bool(json.loads(mark.read_text()) == _digests(folder))
    except (OSError, ValueError):
        return False
