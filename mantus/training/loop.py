"""The one training loop: batches in, a trained model out; resumes where its last checkpoint ended.

It knows a strategy, batches by step, and checkpoints; not what the text is about.
"""

import math
import signal
import sys
import threading
import time
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from mantus import console
from mantus.model.config import ModelConfig, flops_per_token
from mantus.training.objectives.batches import in_passes
from mantus.training.objectives.objective import Objective
from mantus.training.speed import Heap, peak_memory
from mantus.training.strategies.checkpoint import Checkpoints
from mantus.training.strategies.distributed import largest, total
from mantus.training.strategies.native import Strategy
from mantus.training.strategies.optim import learning_rate
from mantus.training.trackers import Trackers

PREEMPTED = 143
"""Exit code after SIGTERM: 128 and above may be tried again."""
RECENT = 128
"""Steps whose losses and gradient norms tell what is usual."""
ENOUGH = 16
"""Of them, before anything is called unusual."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; the fields of the phases' configs that the loop needs."""

    steps: int
    lr: float
    schedule: str
    warmup: int
    decay_share: float
    clip: float
    skip_outliers: float
    micro_tokens: int
    checkpoint_every: int
    log_every: int
    evaluate_every: int


@dataclass
class Interrupt:
    """SIGTERM asks the loop to stop after the step it is in."""

    asked: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        signal.signal(signal.SIGTERM, lambda *_: self.asked.set())


@dataclass
class Loop:
    """State of one run of the loop."""

    strategy: Strategy
    model: ModelConfig
    plan: Plan
    objective: Objective
    checkpoints: Checkpoints
    rank: int
    world: int
    fingerprint: str
    """Of the data and their order."""
    peak: float
    """FLOP/s that one process can reach (see speed.py)."""
    tensor: int = 1
    """Processes that work on the same rows, each with a share of the matrices."""
    frozen: bool = False
    """Only adapters learn."""
    history: list[dict[str, Any]] = field(default_factory=list)
    recent: list[list[float]] = field(default_factory=list)
    """[loss, gradient norm] of the last steps that were taken."""
    skipped: int = 0
    speeds: list[float] = field(default_factory=list)
    """Tokens a second of each step of this process, over all processes."""

    def run(self, trackers: Trackers | None, what: str) -> None:
        """Train to the last step. SystemExit 143 after SIGTERM, RuntimeError when the loss is not finite."""
        interrupt = Interrupt()
        start, heap = self._resume(), Heap()
        with console.progress(what, self.plan.steps, "steps") as bar:
            bar.advance(start)
            for step in range(start, self.plan.steps):
                self._step(step, trackers, bar)
                heap.bound()
                done = step + 1
                stop = bool(total(float(interrupt.asked.is_set()), self.world))
                if stop or (self.plan.checkpoint_every and done % self.plan.checkpoint_every == 0):
                    self._save(done, stop)
                if stop:
                    console.say(f"{what}: asked to stop; checkpoint written after step {done}")
                    raise SystemExit(PREEMPTED)
        self.checkpoints.finish()

    def _resume(self) -> int:
        state = self.checkpoints.load(self.strategy)
        if state is None:
            self._evaluate(0)
            return 0
        if state["fingerprint"] != self.fingerprint:
            raise RuntimeError("the checkpoint was made from other data; remove the scratch folder to start again")
        self.history[:], self.recent[:], self.skipped = state["history"], state["recent"], state["skipped"]
        return int(state["step"])

    def _save(self, step: int, stop: bool) -> None:
        state = {"fingerprint": self.fingerprint, "history": self.history, "recent": self.recent}
        self.checkpoints.save(step, self.strategy, {**state, "skipped": self.skipped}, wait=stop)

    def _step(self, step: int, trackers: Trackers | None, bar: console.Progress) -> None:
        begin = time.monotonic()
        whole = self.objective.batch(step, self.rank // self.tensor, self.world // self.tensor)
        agree = partial(largest, world=self.world)
        passes = in_passes(whole, self.plan.micro_tokens, agree, self.objective.group)
        valid = total(self.objective.count(whole), self.world)
        waited = time.monotonic() - begin
        plan = self.plan
        share = learning_rate(step, plan.steps, plan.warmup, plan.schedule, plan.decay_share)
        # The sum over the global count; times world because data parallelism averages gradients. With tensor
        # parallelism fewer average, but the rows of a group are counted as often.
        scale = self.world / max(1.0, valid)
        loss = sum(self.strategy.backward(part, scale, part is passes[-1]) for part in passes)
        mean = total(loss, self.world) / self.world
        limit = self._limit(mean)
        norm = self.strategy.update(share, plan.clip, limit)
        self._judge(step, mean, norm, limit)
        seconds = time.monotonic() - begin
        tokens = int(total(float(whole[0].numel()), self.world)) // self.tensor
        self.speeds.append(tokens / seconds)
        mfu = tokens * flops_per_token(self.model, whole[0].shape[1], self.frozen) / (seconds * self.peak * self.world)
        speed = f"{tokens / seconds:,.0f} tokens/s  {mfu:.0%} MFU  {waited / seconds:.0%} waiting for data"
        bar.advance(1, f"loss {mean:.3f}  {speed}  {peak_memory() / 2**30:.1f} GiB")
        self._record(step, mean, norm, share, valid / self.tensor)
        if trackers is not None:
            row = {"loss": mean, "grad_norm": norm, "learning_rate": plan.lr * share, "step_seconds": seconds}
            row |= {"data_wait_seconds": waited, "mfu": mfu, "tokens_per_second": tokens / seconds}
            row |= {"peak_memory_bytes": peak_memory()}
            trackers.log(step, row, tokens)

    def _limit(self, loss: float) -> float:
        """The largest gradient norm with which the step is taken; -1 when its loss alone forbids it."""
        if not math.isfinite(loss):
            return -1.0
        if not self.plan.skip_outliers or len(self.recent) < ENOUGH:
            return sys.float_info.max
        losses, norms = zip(*self.recent, strict=True)
        return -1.0 if loss > self._usual(losses) else self._usual(norms)

    def _usual(self, values: tuple[float, ...]) -> float:
        mean = sum(values) / len(values)
        spread = math.sqrt(sum((value - mean) ** 2 for value in values) / len(values))
        return mean + self.plan.skip_outliers * spread

    def _judge(self, step: int, loss: float, norm: float, limit: float) -> None:
        """Count a step that was skipped as an outlier. RuntimeError where loss or gradient is not finite."""
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise RuntimeError(f"step {step}: loss {loss}, gradient norm {norm}: stopped before the update; lower lr")
        if norm > limit:
            self.skipped += 1
            console.say(f"step {step}: loss {loss:.3f}, gradient norm {norm:.3f}: an outlier, skipped")
        else:
            self.recent[:] = [*self.recent[1 - RECENT :], [loss, norm]]

    def _record(self, step: int, loss: float, norm: float, share: float, valid: float) -> None:
        done, last = step + 1, step + 1 == self.plan.steps
        if done % self.plan.log_every == 0 or last:
            row = {"step": done, "loss": loss, "lr": self.plan.lr * share, "grad_norm": norm, "tokens": int(valid)}
            self.history.append(row)
        if last or (self.plan.evaluate_every and done % self.plan.evaluate_every == 0):
            self._evaluate(done)

    def _evaluate(self, step: int) -> None:
        """Held-out loss, the same on every process."""
        batches = self.objective.held_out()
        if not batches:
            return
        sums = [(self.strategy.loss(batch), self.objective.count(batch)) for batch in batches]
        loss = sum(part for part, _ in sums) / max(1.0, sum(count for _, count in sums))
        self.history.append({"step": step, "heldout_loss": loss})
