"""The OpenVINO GenAI engine: continuous batching, paged KV cache, prefix cache, grammar-constrained decoding.

One thread owns the pipeline and steps it; everything else talks to that thread through a queue.
"""

import json
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mantus.inference.engine import EngineStats, Request, Sampling, Scored, ThreadedEngine, Token
from mantus.processes import num_processors
from mantus.text.calls import OPEN
from mantus.text.grammar import Constraint

MAX_BATCHED_TOKENS = 1024
BLOCK = 32
"""Positions of a block of KV cache on CPU."""
MAX_GRAMMARS = 1000
"""Grammars after which an idle engine begins with a fresh pipeline: xgrammar keeps each that it has compiled."""
MAX_SHAPES = 64
"""Shapes of steps whose prepared primitives OpenVINO keeps: by default 5,000, and a server's memory doubled in a minute
of varied load."""
MAX_FAILURES = 3
"""Steps that may fail one after the other before the engine gives up."""
PROPERTIES_FILE = "mantus_engine.json"
"""In a variant's folder: CPU plugin properties that the release gate measured with."""


@dataclass(eq=False)
class _Request(Request):
    """A request as the engine's thread sees it."""

    handle: Any = None
    begun: bool = False


class OpenVINOEngine(ThreadedEngine[_Request]):
    """See `Engine`."""

    kind = _Request

    def __init__(self, folder: Path, threads: int = 0, cache_gib: float = 0.5) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.max_context = int(config["max_position_embeddings"])
        self.vocab_size = int(config["vocab_size"])
        self._folder, self._threads = folder, threads or num_processors()
        self._num_blocks = num_blocks(config, cache_gib)
        self._pipeline = self._open(prefix_caching=True)
        self._scorer: Any = None
        self._logits: Any = None
        self._scorer_lock = threading.Lock()
        self._active: list[_Request] = []
        self._number = 0
        self._grammars: set[int] = set()
        self._scheduled, self._cache_usage = 0, 0.0
        self._start()

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

    def prompt_scores(self, prompt: Sequence[int], top: int) -> list[Scored]:
        """Through the compiled model itself: the pipeline reports one alternative of a prompt's token at most."""
        with self._scorer_lock:
            scored: list[Scored] = self._prompt_logits().scores(prompt, top)
            return scored

    def logprobs(self, window: Sequence[int]) -> Any:
        """As `prompt_scores`: the same plugin with the same settings over the same file."""
        with self._scorer_lock:
            return self._prompt_logits().logprobs(window)

    def _prompt_logits(self) -> Any:
        from mantus.inference.logits import PromptLogits

        self._logits = self._logits or PromptLogits(self._folder, properties(self._folder, self._threads))
        return self._logits

    def stats(self) -> EngineStats:
        """Running and waiting requests, share of the KV cache in use."""
        active = len(self._active)
        running = min(active, self._scheduled)
        return EngineStats(running, active - running + self._inbox.qsize(), self._cache_usage)

    def _open(self, prefix_caching: bool) -> Any:
        import openvino_genai

        scheduler = openvino_genai.SchedulerConfig()
        scheduler.num_kv_blocks = self._num_blocks
        scheduler.enable_prefix_caching = prefix_caching
        scheduler.max_num_batched_tokens = MAX_BATCHED_TOKENS
        settings = properties(self._folder, self._threads)
        return openvino_genai.ContinuousBatchingPipeline(str(self._folder), scheduler, "CPU", settings)

    def _work(self) -> None:
        """Take requests, step the pipeline, hand out tokens, until told to end or broken."""
        failed = 0
        while failed < MAX_FAILURES and self._take():
            try:
                self._step()
                failed = 0
            except RuntimeError as error:
                failed += 1
                self._recover(str(error).strip().splitlines()[-1], for_good=failed == MAX_FAILURES)
        for left in self._active:
            left.on_token(Token(-1, 0.0, "cancelled"))
        self._active = []
        while self.failure and (request := self._inbox.get()):
            request.on_token(Token(-1, 0.0, "error", self.failure))

    def _step(self) -> None:
        self._pipeline.step()
        measured = self._pipeline.get_metrics()
        self._cache_usage = measured.cache_usage / 100
        self._active = [request for request in self._active if self._deliver(request)]
        self._scheduled = measured.scheduled_requests if self._active else 0

    def _recover(self, note: str, for_good: bool) -> None:
        """Give up what runs and begin with a fresh pipeline: after a failed step the old one has lost its order.

        The engine compiles a grammar at a request's first step: one that has a grammar and no token yet is at fault.
        """
        for request in self._active:
            at_fault = request.sampling.constraint is not None and not request.begun
            request.on_token(Token(-1, 0.0, "refused" if at_fault else "error", note))
        self._active, self._scheduled = [], 0
        if for_good:
            self.failure = note
        else:
            self._pipeline = self._open(prefix_caching=True)

    def _take(self) -> bool:
        """Move new requests from the inbox to the pipeline, waiting for one when there is nothing to do."""
        while not self._active or not self._inbox.empty():
            if not self._active and len(self._grammars) > MAX_GRAMMARS:
                self._grammars.clear()
                self._pipeline = self._open(prefix_caching=True)
            request = self._inbox.get()
            if request is None:
                for left in self._active:
                    left.handle.cancel()
                return False
            self._add(request)
        return True

    def _add(self, request: _Request) -> None:
        import openvino as ov

        self._number += 1
        prompt = ov.Tensor(np.array([request.prompt], dtype=np.int64))
        try:
            config = self._generation(request.sampling)
            if request.sampling.constraint is not None:
                self._grammars.add(hash(request.sampling.constraint))
            request.handle = self._pipeline.add_request(self._number, prompt, config)
        except (RuntimeError, TypeError) as error:  # for example a grammar that it cannot compile
            request.on_token(Token(-1, 0.0, "refused", str(error).strip().splitlines()[-1]))
            return
        self._active.append(request)

    def _deliver(self, request: _Request) -> bool:
        """Hand out new tokens; whether the request goes on."""
        if request.cancelled.is_set():
            request.handle.cancel()
            request.on_token(Token(-1, 0.0, "cancelled"))
            return False
        ids, logprobs, finish = _read_all(request.handle)
        request.begun = request.begun or bool(ids)
        for index, (token, logprob) in enumerate(zip(ids, logprobs, strict=True)):
            request.on_token(Token(token, float(logprob), finish if index == len(ids) - 1 else ""))
        if not ids and finish:
            note = "the prompt needs more KV cache than there is" if finish == "refused" else ""
            request.on_token(Token(-1, 0.0, finish, note))
        return not finish

    def _generation(self, sampling: Sampling) -> Any:
        import openvino_genai

        config = openvino_genai.GenerationConfig()
        config.max_new_tokens = sampling.max_tokens
        config.logprobs = 1
        config.ignore_eos = sampling.ignore_stop
        config.presence_penalty = sampling.presence_penalty
        config.frequency_penalty = sampling.frequency_penalty
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


def properties(folder: Path, threads: int) -> dict[str, Any]:
    """What the CPU plugin runs a variant's folder with: so many threads, and what the release found to be best."""
    stored = folder / PROPERTIES_FILE
    found = json.loads(stored.read_text()) if stored.is_file() else {}
    return {"INFERENCE_NUM_THREADS": threads, "CPU_RUNTIME_CACHE_CAPACITY": MAX_SHAPES, **found}


def num_blocks(config: dict[str, Any], cache_gib: float) -> int:
    """Blocks of KV cache (float16) in so many GiB, but enough for one sequence as long as the context at least."""
    heads, width = config["num_key_value_heads"], config.get("head_dim")
    width = width or config["hidden_size"] // config["num_attention_heads"]
    position = 2 * 2 * config["num_hidden_layers"] * heads * width
    longest = -(-int(config["max_position_embeddings"]) // BLOCK) + 1
    return int(max(longest, cache_gib * (1 << 30) // (BLOCK * position)))


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
    if handle.get_status() == openvino_genai.GenerationStatus.IGNORED:
        finish = "refused"
    return ids, logprobs, finish


def _structured(constraint: Constraint) -> Any:
    import openvino_genai

    kinds = openvino_genai.StructuredOutputConfig
    if constraint.ebnf:
        return kinds(grammar=constraint.ebnf)
    tags = [kinds.Tag(begin=t.begin, content=kinds.EBNF(t.arguments), end=t.end) for t in constraint.tags]
    return kinds(structural_tags_config=kinds.TriggeredTags(triggers=[OPEN], tags=tags))
