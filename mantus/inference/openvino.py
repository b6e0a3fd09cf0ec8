"""The OpenVINO GenAI engine: continuous batching, paged KV cache, prefix cache, grammar-constrained decoding.

One thread owns the pipeline and steps it; everything else talks to that thread through a queue.
"""

import json
import queue
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from mantus.inference.engine import EngineStats, OnToken, Sampling, Token
from mantus.processes import num_processors
from mantus.text.grammar import Constraint

TRIGGER = "<tool_call>"
MAX_BATCHED_TOKENS = 1024
PROPERTIES_FILE = "mantus_engine.json"
"""In a variant's folder: CPU plugin properties that the release gate measured with."""


@dataclass(eq=False)
class _Request:
    """A request as the engine's thread sees it."""

    prompt: Sequence[int]
    sampling: Sampling
    on_token: OnToken
    cancelled: threading.Event = field(default_factory=threading.Event)
    handle: Any = None

    def cancel(self) -> None:
        """Ask the engine's thread to stop it."""
        self.cancelled.set()


class OpenVINOEngine:
    """See `Engine`."""

    def __init__(self, folder: Path, threads: int = 0, cache_gib: float = 0.5) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.max_context = int(config["max_position_embeddings"])
        self.vocab_size = int(config["vocab_size"])
        self._folder, self._threads, self._cache_gib = folder, threads or num_processors(), cache_gib
        self._pipeline = self._open(prefix_caching=True)
        self._scorer: Any = None
        self._scorer_lock = threading.Lock()
        self._inbox: queue.Queue[_Request | None] = queue.Queue()
        self._active: list[_Request] = []
        self._number = 0
        self._cache_usage = 0.0
        self._thread = threading.Thread(target=self._work, daemon=True, name="engine")
        self._thread.start()

    def submit(self, prompt: Sequence[int], sampling: Sampling, on_token: OnToken) -> _Request:
        """Start a request."""
        request = _Request(prompt, sampling, on_token)
        self._inbox.put(request)
        return request

    def complete(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Token]]:
        """Run several requests to their ends."""
        replies: list[list[Token]] = [[] for _ in prompts]
        done = threading.Semaphore(0)

        def collect(reply: list[Token]) -> OnToken:
            def take(token: Token) -> None:
                reply.append(token)
                if token.finish:
                    done.release()

            return take

        for prompt, reply in zip(prompts, replies, strict=True):
            self.submit(prompt, sampling, collect(reply))
        for _ in prompts:
            done.acquire()
        return replies

    def score(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log probabilities of prompt tokens, through a second pipeline over the same model.

        The serving pipeline cannot give them: tokens found in its prefix cache come back without any.
        """
        import openvino as ov

        with self._scorer_lock:
            if self._scorer is None:
                self._scorer = self._open(prefix_caching=False)
            config = self._generation(Sampling(max_tokens=1, ignore_stop=True))
            config.echo = True
            handles = [
                self._scorer.add_request(index, ov.Tensor(np.array([prompt], dtype=np.int64)), config)
                for index, prompt in enumerate(prompts)
            ]
            while self._scorer.has_non_finished_requests():
                self._scorer.step()
            return [
                [float(value) for value in _read_all(handle)[1][1 : len(prompt)]]
                for handle, prompt in zip(handles, prompts, strict=True)
            ]

    def stats(self) -> EngineStats:
        """Running and waiting requests, share of the KV cache in use."""
        return EngineStats(len(self._active), self._inbox.qsize(), self._cache_usage)

    def close(self) -> None:
        """End the thread."""
        self._inbox.put(None)
        self._thread.join(timeout=30)

    def _open(self, prefix_caching: bool) -> Any:
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.cache_size = 1 if self._cache_gib > 0.5 else 0
        if self._cache_gib > 1:
            scheduler.cache_size = round(self._cache_gib)
        scheduler.enable_prefix_caching = prefix_caching
        scheduler.max_num_batched_tokens = MAX_BATCHED_TOKENS
        properties: dict[str, Any] = {"INFERENCE_NUM_THREADS": self._threads}
        stored = self._folder / PROPERTIES_FILE
        if stored.is_file():
            properties |= json.loads(stored.read_text())
        return openvino_genai.ContinuousBatchingPipeline(str(self._folder), scheduler, "CPU", properties)

    def _work(self) -> None:
        """Take requests, step the pipeline, hand out tokens, until told to end."""
        while True:
            idle = not self._active
            while idle or not self._inbox.empty():
                request = self._inbox.get()
                if request is None:
                    for left in self._active:
                        left.handle.cancel()
                        left.on_token(Token(-1, 0.0, "cancelled"))
                    return
                self._add(request)
                idle = not self._active
            self._pipeline.step()
            self._cache_usage = self._pipeline.get_metrics().cache_usage / 100
            self._active = [request for request in self._active if self._deliver(request)]

    def _add(self, request: _Request) -> None:
        import openvino as ov

        self._number += 1
        prompt = ov.Tensor(np.array([request.prompt], dtype=np.int64))
        try:
            config = self._generation(request.sampling)
            request.handle = self._pipeline.add_request(self._number, prompt, config)
        except RuntimeError:  # the engine refuses a request, for example a grammar it cannot compile
            request.on_token(Token(-1, 0.0, "error"))
            return
        self._active.append(request)

    def _deliver(self, request: _Request) -> bool:
        """Hand out new tokens; whether the request goes on."""
        if request.cancelled.is_set():
            request.handle.cancel()
            request.on_token(Token(-1, 0.0, "cancelled"))
            return False
        ids, logprobs, finish = _read_all(request.handle)
        for index, (token, logprob) in enumerate(zip(ids, logprobs, strict=True)):
            request.on_token(Token(token, float(logprob), finish if index == len(ids) - 1 else ""))
        if not ids and finish:
            request.on_token(Token(-1, 0.0, finish))
        return not finish

    def _generation(self, sampling: Sampling) -> Any:
        import openvino_genai

        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = sampling.max_tokens
        config.logprobs = 1
        config.ignore_eos = sampling.ignore_stop
        if sampling.stop_ids and not sampling.ignore_stop:
            config.stop_token_ids = set(sampling.stop_ids)
            config.eos_token_id = min(sampling.stop_ids)
        if sampling.temperature > 0:
            config.do_sample = True
            config.temperature = sampling.temperature
            config.top_p = sampling.top_p
            config.rng_seed = sampling.seed
            if sampling.top_k:
                config.top_k = sampling.top_k
        if sampling.constraint is not None:
            config.structured_output_config = _structured(sampling.constraint)
        return config


def _read_all(handle: Any) -> tuple[list[int], list[float], str]:
    """Everything a handle has ready: ids, their log probabilities, why it finished ('' while it runs)."""
    import openvino_genai

    reasons = openvino_genai.GenerationFinishReason
    ids: list[int] = []
    logprobs: list[float] = []
    finish = ""
    while handle.can_read():
        for output in handle.read().values():
            ids += output.generated_ids
            logprobs += output.generated_log_probs
            finish = {reasons.STOP: "stop", reasons.LENGTH: "length"}.get(output.finish_reason, finish)
    return ids, logprobs, finish


def _structured(constraint: Constraint) -> Any:
    import openvino_genai

    kinds = openvino_genai.StructuredOutputConfig
    if constraint.ebnf:
        return kinds(grammar=constraint.ebnf)
    tags = [kinds.Tag(begin=t.begin, content=kinds.EBNF(t.arguments), end=t.end) for t in constraint.tags]
    return kinds(structural_tags_config=kinds.TriggeredTags(triggers=[TRIGGER], tags=tags))
