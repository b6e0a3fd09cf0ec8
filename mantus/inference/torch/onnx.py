"""The onnxruntime-genai engine: one request after another, each as fast as this runtime can; prefix reuse, llguidance.

The library batches on CUDA only, and its own search knows neither seeds for each request nor our constraints: it runs
the model here, and tokens are chosen as the torch engine chooses them (choose.py).
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mantus.inference.engine import EngineStats, Request, Scored, ThreadedEngine, Token, in_common
from mantus.inference.guide import Guides
from mantus.inference.logits import STRETCH, log_softmax, score_stretches
from mantus.inference.torch.choose import Chooser
from mantus.processes import num_processors


class OnnxEngine(ThreadedEngine[Request]):
    """See `Engine`."""

    kind = Request

    def __init__(self, folder: Path, threads: int = 0, cache_gib: float = 0.5) -> None:
        import onnxruntime_genai

        model = json.loads((folder / "genai_config.json").read_text())["model"]
        decoder, self.vocab_size = model["decoder"], int(model["vocab_size"])
        position = 2 * 4 * decoder["num_hidden_layers"] * decoder["num_key_value_heads"] * decoder["head_size"]
        self.max_context = min(int(model["context_length"]), int(cache_gib * (1 << 30)) // position)
        self._library, config = onnxruntime_genai, onnxruntime_genai.Config(str(folder))
        options = {"session_options": {"intra_op_num_threads": threads or num_processors()}}
        config.overlay(json.dumps({"model": {"decoder": options}}))
        self._model = onnxruntime_genai.Model(config)
        self._guides = Guides(folder, self.vocab_size)
        self._ids: list[int] = []
        self._sequence = self._generator(self.max_context)
        self._running = self._ended = False
        self._start()

    def prompt_scores(self, prompt: Sequence[int], top: int) -> list[Scored]:
        """In stretches through a sequence of its own."""
        sequence = self._generator(len(prompt))
        return score_stretches(prompt, top, lambda ids, _: _logits(sequence, ids))

    def logprobs(self, window: Sequence[int]) -> Any:
        """Through a sequence of its own."""
        return log_softmax(_logits(self._generator(len(window)), window))

    def stats(self) -> EngineStats:
        """One running request at most; the cache's use is its sequence's."""
        return EngineStats(int(self._running), self._inbox.qsize(), len(self._ids) / self.max_context)

    def close(self) -> None:
        """End the thread, and the reply that it is making."""
        self._ended = True
        super().close()

    def _generator(self, positions: int) -> Any:
        parameters = self._library.GeneratorParams(self._model)
        parameters.set_search_options(max_length=positions)
        return self._library.Generator(self._model, parameters)

    def _work(self) -> None:
        """Answer requests in their order until told to end or broken."""
        while (request := self._inbox.get()) is not None:
            self._running = True
            end = Token(-1, 0.0, "error", self.failure)
            if not self.failure:
                end = self._answer(request)
            self._running = False
            if end.finish:
                request.on_token(end)

    def _answer(self, request: Request) -> Token:
        """Hand out a whole reply but its last token, which is returned."""
        sampling, total = request.sampling, len(request.prompt) + request.sampling.max_tokens
        if total > self.max_context:
            return Token(
                -1, 0.0, "refused", f"it needs {total} positions of KV cache, and there are {self.max_context}"
            )
        guide = None
        try:
            if sampling.constraint is not None:
                guide = self._guides.start(sampling.constraint)
        except ValueError as error:
            return Token(-1, 0.0, "refused", str(error).splitlines()[0])
        try:
            return self._reply(request, Chooser(sampling, guide))
        except (RuntimeError, MemoryError) as error:
            self.failure = str(error).strip().splitlines()[0]
            return Token(-1, 0.0, "error", self.failure)

    def _reply(self, request: Request, chooser: Chooser) -> Token:
        ahead = list(request.prompt[self._rewind(request.prompt) :])
        for made in range(request.sampling.max_tokens):
            while ahead:
                if request.cancelled.is_set() or self._ended:
                    return Token(-1, 0.0, "cancelled")
                logits = _logits(self._sequence, ahead[:STRETCH])
                self._ids += ahead[:STRETCH]
                del ahead[:STRETCH]
            token = chooser.choose(torch.from_numpy(logits[-1]), made)
            if token.finish:
                break
            request.on_token(token)
            ahead = [token.id]
        return token

    def _rewind(self, prompt: Sequence[int]) -> int:
        """Keep what the last request has in common with this one, but the prompt's last token; how much that is."""
        kept = in_common(self._ids, prompt[:-1])
        self._sequence.rewind_to(kept)
        del self._ids[kept:]
        return kept


def _logits(sequence: Any, ids: Sequence[int]) -> Any:
    """Append ids to a sequence; logits [T, V] in float32 after each of them."""
    sequence.append_tokens(np.array(ids, dtype=np.int32))
    return np.array(sequence.get_output("logits"))[0]
