"""The one training loop: batches in, a trained model out; resumes where its last checkpoint ended.

It knows an objective module, batches by step, and checkpoints; not what the text is about.
"""

import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from mantus import console
from mantus.model.config import flops_per_token
from mantus.training.batches import Batch
from mantus.training.checkpoint import Checkpoints
from mantus.training.distributed import total, wrap
from mantus.training.loss import IGNORE, NextToken
from mantus.training.optim import learning_rate, make_optimizers
from mantus.training.trackers import Trackers

PREEMPTED = 143
"""Exit code after SIGTERM: 128 and above may be tried again."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; the fields of the phases' configs that the loop needs."""

    steps: int
    lr: float
    embedding_lr: float
    optimizer: str
    weight_decay: float
    schedule: str
    warmup: int
    decay_share: float
    clip: float
    checkpoint_every: int
    log_every: int
    evaluate_every: int
    compile: bool


@dataclass
class Interrupt:
    """SIGTERM asks the loop to stop after the step it is in."""

    asked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.asked.set())


@dataclass
class Loop:
    """State of one run of the loop."""

    module: NextToken
    plan: Plan
    batch: Callable[[int, int, int], Batch]
    held_out: Callable[[], list[Batch]]
    checkpoints: Checkpoints
    rank: int
    world: int
    fingerprint: str
    peak: float
    """FLOP/s that one process can reach (see speed.py)."""
    history: list[dict[str, Any]] = field(default_factory=list)

    def run(self, trackers: Trackers | None, what: str) -> None:
        """Train to the last step. SystemExit 143 after SIGTERM, RuntimeError when the loss is not finite."""
        interrupt = Interrupt()
        plan = self.plan
        optimizers = make_optimizers(self.module.inner, plan.optimizer, plan.lr, plan.weight_decay, plan.embedding_lr)
        peaks = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        start = self._resume(optimizers)
        module: nn.Module = torch.compile(self.module) if self.plan.compile else self.module  # type: ignore[assignment]
        runner = wrap(module, self.world)
        with console.progress(what, self.plan.steps, "steps") as bar:
            bar.advance(start)
            for step in range(start, self.plan.steps):
                self._step(step, runner, optimizers, peaks, trackers, bar)
                done = step + 1
                stop = bool(total(float(interrupt.asked.is_set()), self.world))
                if stop or (self.plan.checkpoint_every and done % self.plan.checkpoint_every == 0):
                    self._save(done, optimizers)
                if stop:
                    console.say(f"{what}: asked to stop; checkpoint written after step {done}")
                    raise SystemExit(PREEMPTED)

    def _resume(self, optimizers: list[torch.optim.Optimizer]) -> int:
        state = self.checkpoints.load(self.module, optimizers)
        if state is None:
            self._evaluate(0)
            return 0
        if state["fingerprint"] != self.fingerprint:
            raise RuntimeError("the checkpoint was made from other data; remove the scratch folder to start again")
        self.history[:] = state["history"]
        return int(state["step"])

    def _save(self, step: int, optimizers: list[torch.optim.Optimizer]) -> None:
        state = {"fingerprint": self.fingerprint, "history": self.history}
        self.checkpoints.save(step, self.module, optimizers, state)

    def _step(
        self,
        step: int,
        runner: nn.Module,
        optimizers: list[torch.optim.Optimizer],
        peaks: list[list[float]],
        trackers: Trackers | None,
        bar: console.Progress,
    ) -> None:
        begin = time.monotonic()
        ids, targets = self.batch(step, self.rank, self.world)
        valid = total(float((targets != IGNORE).sum()), self.world)
        waited = time.monotonic() - begin
        share = learning_rate(step, self.plan.steps, self.plan.warmup, self.plan.schedule, self.plan.decay_share)
        for optimizer, lrs in zip(optimizers, peaks, strict=True):
            for group, lr in zip(optimizer.param_groups, lrs, strict=True):
                group["lr"] = lr * share
        # The sum over the global count; times world because data parallelism averages gradients.
        loss = runner(ids, targets) * (self.world / max(1.0, valid))
        loss.backward()
        norm = float(nn.utils.clip_grad_norm_(self.module.inner.parameters(), self.plan.clip))
        mean = total(float(loss.detach()), self.world) / self.world
        if not (mean == mean and norm == norm and norm != float("inf")):
            raise RuntimeError(f"step {step}: loss {mean}, gradient norm {norm}: stopped before the update; lower lr")
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        seconds = time.monotonic() - begin
        tokens = int(total(float(ids.numel()), self.world))
        mfu = tokens * flops_per_token(self.module.inner.config, ids.shape[1]) / (seconds * self.peak * self.world)
        bar.advance(1, f"loss {mean:.3f}  {tokens / seconds:,.0f} tokens/s  {mfu:.0%} MFU")
        self._record(step, mean, norm, share, valid)
        if trackers is not None:
            speed = {"step_seconds": seconds, "data_wait_seconds": waited, "mfu": mfu}
            row = {"loss": mean, "grad_norm": norm, "learning_rate": self.plan.lr * share, **speed}
            trackers.log(step, row, tokens)

    def _record(self, step: int, loss: float, norm: float, share: float, valid: float) -> None:
        done, last = step + 1, step + 1 == self.plan.steps
        if done % self.plan.log_every == 0 or last:
            row = {"step": done, "loss": loss, "lr": self.plan.lr * share, "grad_norm": norm, "tokens": int(valid)}
            self.history.append(row)
        if last or (self.plan.evaluate_every and done % self.plan.evaluate_every == 0):
            self._evaluate(done)

    def _evaluate(self, step: int) -> None:
        """Held-out loss, the same on every process."""
        batches = self.held_out()
        if not batches:
            return
        self.module.eval()
        with torch.no_grad():
            sums = [(float(self.module(*batch)), float((batch[1] != IGNORE).sum())) for batch in batches]
        self.module.train()
        loss = sum(part for part, _ in sums) / max(1.0, sum(count for _, count in sums))
        self.history.append({"step": step, "heldout_loss": loss})
