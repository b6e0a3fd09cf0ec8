"""Checkpoints: `step-%09d/` with torch DCP files, `train_state.json`, and `COMMITTED` with digests, written last.

It knows state dicts and folders, not what is trained. A checkpoint without a matching COMMITTED is never read.
"""

import json
import os
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist

from mantus import console
from mantus.storage import Store
from mantus.storage.artifact import digest_file
from mantus.training.strategies.distributed import largest
from mantus.training.strategies.native import Strategy

COMMITTED, STATE = "COMMITTED", "train_state.json"
PATIENCE_S = 600
"""How long a store may fail until the upload of the last checkpoint is given up."""
MAX_WAIT_S = 30


class Checkpoints:
    """The checkpoints of one piece of work: a local folder, and a prefix of the store when `store` is given.

    Training goes on while a thread writes, commits and uploads what was copied. Processes on several machines share
    nothing but the store: each writes and uploads its own files, the first one commits with the digests of all, and who
    lacks files of a checkpoint downloads it. Where the store fails, the next checkpoint is the next try.
    """

    def __init__(self, folder: Path, keep: int, store: Store | None = None, prefix: str = "") -> None:
        self.folder, self.keep, self.store, self.prefix = folder, keep, store, prefix
        self._group = dist.new_group(backend="gloo") if dist.is_initialized() else None  # the thread's own
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def save(self, step: int, strategy: Strategy, state: dict[str, Any], wait: bool = False) -> None:
        """Begin to write a checkpoint after `step` steps; every process calls this.

        One still under way is let go on and this one left out, or waited for where `wait` is set. RuntimeError when the
        last one failed.
        """
        if wait:
            self._join()
        self._complain()
        busy = self._thread is not None and self._thread.is_alive()
        if largest(busy, _world()):
            return
        self._join()
        target = self.folder / f"step-{step:09d}"
        if _leads_machine():
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
        if dist.is_initialized():
            dist.barrier()
        write = strategy.snapshot(target, self._group)
        text = json.dumps({"step": step, "layout": strategy.layout, **state})
        self._thread = threading.Thread(target=self._work, args=(target, write, text, wait), daemon=True)
        self._thread.start()
        if wait:
            self._join()
            self._complain()

    def finish(self) -> None:
        """Return when nothing is written any more. RuntimeError as `save`."""
        self._join()
        self._complain()

    def _join(self) -> None:
        if self._thread is not None:
            self._thread.join()

    def _complain(self) -> None:
        if self._error is not None:
            raise RuntimeError(f"checkpoint: {self._error}; the one before it is whole: mend this and run again")

    def _work(self, target: Path, write: Callable[[], None], state: str, last: bool) -> None:
        try:
            write()
            if _rank() == 0:
                (target / STATE).write_text(state)
            self._commit(target, PATIENCE_S if last else 0)
        except Exception as error:  # noqa: BLE001 - raised again in the training thread
            self._error = error

    def _commit(self, target: Path, patience_s: float) -> None:
        self._all(None)  # every process of this machine has written
        own = _digests(target) if _leads_machine() else {}
        digests = {name: digest for found in self._all(own) for name, digest in found.items()}
        first = _rank() == 0
        if first:
            (target / COMMITTED).write_text(json.dumps(digests, sort_keys=True))
        if all(self._all(self._upload(target, list(own), patience_s))) and first:
            self._upload(target, [COMMITTED], patience_s)
            with suppress(OSError):  # the next one does it
                self._forget_stored()
        if _leads_machine():
            for folder in sorted(path for path in self.folder.glob("step-*") if path <= target)[: -self.keep]:
                shutil.rmtree(folder)

    def load(self, strategy: Strategy) -> dict[str, Any] | None:
        """Restore the newest committed checkpoint; its train state, None when there is none.

        RuntimeError when this strategy cannot read it.
        """
        source = self._newest()
        if source is None:
            return None
        state: dict[str, Any] = json.loads((source / STATE).read_text())
        if state["layout"] != strategy.layout:
            found = f"{source.name} was written by {state['layout']}, and {strategy.layout} cannot read it"
            raise RuntimeError(f"{found}: go on with what wrote it, or remove {self.folder} to start again")
        strategy.restore(source)
        return state

    def _newest(self) -> Path | None:
        """The folder of the newest checkpoint that every process can have, complete on this machine."""
        local = {path.name for path in self.folder.glob("step-*") if _is_whole(path)}
        everywhere: set[str] = set.intersection(*self._all(local))
        stored: set[str] = self._all(self._stored() if _rank() == 0 else set())[0]
        for name in sorted(everywhere | stored, reverse=True):
            if name not in local and _leads_machine():
                self._download(name)
            self._all(None)
            if all(self._all(_is_whole(self.folder / name))):
                return self.folder / name
        return None

    def _stored(self) -> set[str]:
        if self.store is None:
            return set()
        names = (item.name.removeprefix(self.prefix + "/").split("/") for item in self.store.list(self.prefix + "/"))
        return {parts[0] for parts in names if parts[1:] == [COMMITTED]}

    def _upload(self, folder: Path, names: list[str], patience_s: float) -> bool:
        """Whether the files are in the store; one that fails is tried again for so long."""
        waited, delay = 0.0, 1.0
        while self.store is not None:
            try:
                for name in names:
                    self.store.upload(folder / name, f"{self.prefix}/{folder.name}/{name}")
                return True
            except OSError as error:
                if waited >= patience_s:
                    console.say(f"checkpoint {folder.name} stays on this machine: {error}")
                    return False
                time.sleep(delay)
                waited, delay = waited + delay, min(2 * delay, MAX_WAIT_S)
        return False

    def _download(self, name: str) -> None:
        assert self.store is not None
        shutil.rmtree(self.folder / name, ignore_errors=True)
        start = f"{self.prefix}/{name}/"
        for item in list(self.store.list(start)):
            self.store.download(item.name, self.folder / name / item.name.removeprefix(start))

    def _forget_stored(self) -> None:
        """Drop all but the newest in the store, by what lies there: another machine may have written it."""
        for name in sorted(self._stored())[: -self.keep]:
            assert self.store is not None
            mark = f"{self.prefix}/{name}/{COMMITTED}"
            self.store.delete(mark)  # first: what goes on without its mark is never read
            for item in list(self.store.list(f"{self.prefix}/{name}/")):
                self.store.delete(item.name)

    def _all(self, value: Any) -> list[Any]:
        """The value that each process has, by rank."""
        if not dist.is_initialized():
            return [value]
        found: list[Any] = [None] * dist.get_world_size()
        dist.all_gather_object(found, value, group=self._group)
        return found


def _rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def _world() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def _leads_machine() -> bool:
    return os.environ.get("LOCAL_RANK", "0") == "0"


def _digests(folder: Path) -> dict[str, str]:
    """sha256 of every file beneath, by its path."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != COMMITTED)
    return {path.relative_to(folder).as_posix(): digest_file(path) for path in files}


def _is_whole(folder: Path) -> bool:
    mark = folder / COMMITTED
    try:
        return bool(json.loads(mark.read_text()) == _digests(folder))
    except (OSError, ValueError):
        return False
