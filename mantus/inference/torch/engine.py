"""The torch engine: batched decoding over slots of KV cache, chunked prefill, prefix reuse; for any machine.

One thread owns the model and steps it; everything else talks to that thread through a queue. It knows ids and slots,
not how a token is chosen (choose.py) or what a layer computes (decode.py).
"""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from mantus.inference.engine import EngineStats, Request, Scored, ThreadedEngine, Token
from mantus.inference.guide import Guides
from mantus.inference.logits import log_softmax, mean_direction, score_stretches
from mantus.inference.torch.choose import Chooser
from mantus.inference.torch.decode import Cache, Decoding
from mantus.model.hf import load_model
from mantus.processes import num_processors

STEP_TOKENS = 256
"""Prompt tokens that one step takes in beside the running replies: what a long prompt delays their next token by."""
LARGE = 50_000_000
"""Weights from which bfloat16 is used where the processor multiplies it; smaller models lose more than they gain."""


@dataclass(eq=False)
class _Request(Request):
    """A request as the engine's thread sees it."""

    chooser: Chooser | None = None
    cache: Cache | None = None
    reply: list[int] = field(default_factory=list)

    @property
    def reserved(self) -> int:
        """Positions of the cache that it may come to need."""
        return len(self.prompt) + self.sampling.max_tokens


class TorchEngine(ThreadedEngine[_Request]):
    """See `Engine`."""

    kind = _Request

    def __init__(self, folder: Path, threads: int = 0, cache_gib: float = 0.5) -> None:
        torch.set_num_threads(threads or num_processors())
        model = load_model(folder).eval()
        large = sum(weight.numel() for weight in model.parameters()) >= LARGE
        native = torch.ops.mkldnn._is_mkldnn_bf16_supported()
        self._decoding = Decoding(model.to(torch.bfloat16 if large and native else torch.float32))
        self.max_context, self.vocab_size = model.config.max_position, model.config.vocab_size
        self._capacity = int(cache_gib * (1 << 30)) // self._decoding.bytes_per_position
        self._guides = Guides(folder, self.vocab_size)
        self._waiting: list[_Request] = []
        self._active: list[_Request] = []
        self._kept: list[Cache] = []
        self._lock = threading.Lock()
        self._start()

    def prompt_scores(self, prompt: Sequence[int], top: int) -> list[Scored]:
        """In stretches through a cache of its own."""
        cache = self._decoding.new_cache()
        with self._lock:
            return score_stretches(prompt, top, lambda ids, _: self._every(cache, ids))

    def logprobs(self, window: Sequence[int]) -> Any:
        """Through a cache of its own."""
        with self._lock:
            return log_softmax(self._every(self._decoding.new_cache(), window))

    def embed(self, prompt: Sequence[int]) -> Any:
        """Through a cache of its own."""
        cache = self._decoding.new_cache()
        with self._lock:
            return mean_direction(prompt, lambda ids, _: self._decoding.hidden([cache], [list(ids)]).float().numpy())

    def _every(self, cache: Cache, ids: Sequence[int]) -> Any:
        return self._decoding.logits([cache], [list(ids)], every=True).float().numpy()

    def stats(self) -> EngineStats:
        """Running and waiting requests, share of the KV cache in use."""
        used = sum(request.reserved for request in self._active)
        waiting = len(self._waiting) + self._inbox.qsize()
        return EngineStats(len(self._active), waiting, min(1.0, used / max(1, self._capacity)))

    def _work(self) -> None:
        """Admit requests, step, until told to end or broken."""
        try:
            while self._take():
                self._admit()
                self._step()
        except (RuntimeError, MemoryError) as error:
            self.failure = str(error).strip().splitlines()[0]
        end = Token(-1, 0.0, "error" if self.failure else "cancelled", self.failure)
        for left in [*self._active, *self._waiting]:
            left.on_token(end)
        self._active, self._waiting = [], []
        while self.failure and (request := self._inbox.get()):
            request.on_token(end)

    def _take(self) -> bool:
        """Empty the inbox, waiting for a request when there is nothing to do; False when told to end."""
        while not (self._active or self._waiting) or not self._inbox.empty():
            request = self._inbox.get()
            if request is None:
                return False
            self._waiting.append(request)
        return True

    def _admit(self) -> None:
        """Give waiting requests their slots, in order, as far as the cache reaches."""
        while self._waiting:
            request = self._waiting[0]
            free = self._capacity - sum(other.reserved for other in self._active)
            if request.cancelled.is_set():
                request.on_token(Token(-1, 0.0, "cancelled"))
            elif request.reserved > self._capacity:
                request.on_token(Token(-1, 0.0, "refused", f"it needs {request.reserved} positions of KV cache"))
            elif request.reserved > free:
                return
            elif self._begin(request):
                self._active.append(request)
            self._waiting.pop(0)

    def _begin(self, request: _Request) -> bool:
        guide = None
        if request.sampling.constraint is not None:
            try:
                guide = self._guides.start(request.sampling.constraint)
            except ValueError as error:
                request.on_token(Token(-1, 0.0, "refused", str(error).splitlines()[0]))
                return False
        request.chooser = Chooser(request.sampling, guide)
        request.cache = self._decoding.new_cache()
        known = [*self._kept, *(other.cache for other in self._active if other.cache)]
        best = max(known, key=lambda cache: cache.shared(request.prompt), default=None)
        if best is not None:
            request.cache.copy(best, min(best.shared(request.prompt), len(request.prompt) - 1))
        return True

    def _step(self) -> None:
        """One forward pass: the next token of every reply that has begun, and a stretch of the prompts."""
        rows, room = [], STEP_TOKENS
        for request in self._active:
            assert request.cache is not None
            ahead = [*request.prompt, *request.reply][len(request.cache.ids) :]
            taken = ahead[: 1 if len(ahead) == 1 else room]
            room -= len(taken) if len(ahead) > 1 else 0
            if taken:
                rows.append((request, request.cache, taken))
        if rows:
            with self._lock:
                logits_BV = self._decoding.logits([cache for _, cache, _ in rows], [ids for *_, ids in rows])
            for (request, cache, _), logits_V in zip(rows, logits_BV, strict=True):
                if len(cache.ids) == len(request.prompt) + len(request.reply):
                    self._choose(request, logits_V)
        self._active = [request for request in self._active if self._goes_on(request)]

    def _choose(self, request: _Request, logits_V: torch.Tensor) -> None:
        """The next token of one reply."""
        assert request.chooser is not None
        token = request.chooser.choose(logits_V.float(), len(request.reply))
        request.reply.append(token.id)
        if token.finish:
            self._finish(request)
        request.on_token(token)

    def _goes_on(self, request: _Request) -> bool:
        if request.cache is None:
            return False
        if request.cancelled.is_set():
            self._finish(request)
            request.on_token(Token(-1, 0.0, "cancelled"))
            return False
        return True

    def _finish(self, request: _Request) -> None:
        """Keep the cache for prompts that begin alike, as long as there is room."""
        assert request.cache is not None
        self._kept.append(request.cache)
        request.cache = None
        used = sum(other.reserved for other in self._active if other.cache)
        while self._kept and used + sum(len(cache.ids) for cache in self._kept) > self._capacity:
            self._kept.pop(0)
