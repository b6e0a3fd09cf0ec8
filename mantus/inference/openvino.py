"""The OpenVINO GenAI engine, which runs in a process of its own (pipeline.py): this is the server's end of its wire.

A thread starts that process and hears its tokens, another sends it requests, so that nobody who asks ever waits for a
step. Prompts are scored here, by a second copy of the model.
"""

import itertools
import json
import multiprocessing
import queue
import subprocess
import sys
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from mantus.inference.engine import Engine, EngineStats, OnToken, Sampling, Scored, Token
from mantus.inference.pipeline import Message, Step, add_request, generation, open_pipeline, properties, read_all
from mantus.processes import num_processors, start_child

PROGRAM = ["-c", "from mantus.inference.pipeline import main; main()"]
"""Not -m: what it sends would be of the module __main__, which is another one here."""
BLOCK = 32
"""Positions of a block of KV cache on CPU."""
GRACE_S = 10.0
"""Seconds that the process may take for its last step when it is told to end."""


@dataclass(eq=False, frozen=True, slots=True)
class _Request:
    """A request under way; see `Handle`."""

    number: int
    on_token: OnToken
    outbox: "queue.SimpleQueue[Message]"

    def cancel(self) -> None:
        """See `Handle`."""
        self.outbox.put(self.number)


class OpenVINOEngine(Engine):
    """See `Engine`."""

    def __init__(self, folder: Path, threads: int = 0, cache_gib: float = 0.5) -> None:
        config = json.loads((folder / "config.json").read_text())
        self.max_context = int(config["max_position_embeddings"])
        self.vocab_size = int(config["vocab_size"])
        self._given = folder, threads or num_processors(), num_blocks(config, cache_gib)
        self._scorer: Any = None
        self._logits: Any = None
        self._scorer_lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._requests: dict[int, _Request] = {}
        self._step = Step([])
        self._outbox: queue.SimpleQueue[Message] = queue.SimpleQueue()
        self._closing = False
        opened: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, args=(opened,), daemon=True, name="engine")
        self._thread.start()
        if problem := opened.get():
            raise RuntimeError(problem)

    def submit(self, prompt: Sequence[int], sampling: Sampling, on_token: OnToken) -> _Request:
        """See `Engine`."""
        request = _Request(next(self._numbers), on_token, self._outbox)
        self._requests[request.number] = request
        self._outbox.put((request.number, list(prompt), sampling))
        return request

    def score(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """Log probabilities of prompt tokens, through a second pipeline over the same model.

        The serving pipeline cannot give them: tokens found in its prefix cache come back without any.
        """
        with self._scorer_lock:
            if self._scorer is None:
                self._scorer = open_pipeline(*self._given, prefix_caching=False)
            config = generation(Sampling(max_tokens=1, ignore_stop=True))
            config.echo = True
            handles = [add_request(self._scorer, index, prompt, config) for index, prompt in enumerate(prompts)]
            while self._scorer.has_non_finished_requests():
                self._scorer.step()
            return [
                [float(value) for value in read_all(handle)[1][1 : len(prompt)]]
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

    def embed(self, prompt: Sequence[int]) -> Any:
        """Through the model that scores prompts."""
        with self._scorer_lock:
            return self._prompt_logits().embed(prompt)

    def _prompt_logits(self) -> Any:
        from mantus.inference.logits import PromptLogits

        self._logits = self._logits or PromptLogits(self._given[0], properties(*self._given[:2]))
        return self._logits

    def stats(self) -> EngineStats:
        """Running and waiting requests, share of the KV cache in use."""
        asked = len(self._requests)
        running = min(asked, self._step.scheduled)
        return EngineStats(running, asked - running, self._step.cache_usage)

    def close(self) -> None:
        """See `Engine`."""
        self._closing = True
        self._outbox.put(None)
        self._thread.join(GRACE_S + 1)

    def _work(self, opened: "queue.SimpleQueue[str]") -> None:
        """Start the process and hear it to its end: it dies with the thread that starts it, so one thread does both."""
        ours, theirs = multiprocessing.Pipe()
        words = [sys.executable, *PROGRAM, str(theirs.fileno()), *map(str, self._given)]
        child = start_child(words, pass_fds=[theirs.fileno()])
        self.pid = child.pid
        theirs.close()
        try:
            with ours, suppress(EOFError, OSError):
                opened.put(problem := ours.recv())
                if not problem:
                    threading.Thread(target=self._send, args=(ours,), daemon=True, name="engine's requests").start()
                    self._hear(ours)
        finally:
            ended = _end(child)
            self.failure = self.failure or ("" if self._closing else ended)
            opened.put(ended)
            self._drop()

    def _hear(self, wire: Connection) -> None:
        """Hand out tokens as long as any come."""
        while True:
            self._step = wire.recv()
            self.failure = self._step.failure
            for number, token in self._step.tokens:
                request = self._requests.pop(number) if token.finish else self._requests[number]
                request.on_token(token)

    def _send(self, wire: Connection) -> None:
        """Send what is asked until there is no more; who asks a process that is gone is told so."""
        message: Message = 0
        while message is not None:
            message = self._outbox.get()
            with suppress(OSError):
                wire.send(message)
            if self.failure:
                self._drop()

    def _drop(self) -> None:
        """End every request, and what is asked of it."""
        last = Token(-1, 0.0, "error" if self.failure else "cancelled", self.failure)
        with suppress(KeyError):
            while True:
                self._requests.popitem()[1].on_token(last)


def _end(child: "subprocess.Popen[bytes]") -> str:
    """See that a process whose wire is closed ends; how it ended."""
    try:
        code = child.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        code = child.wait()
    return f"the engine was killed by signal {-code}" if code < 0 else f"the engine ended with exit code {code}"


def num_blocks(config: dict[str, Any], cache_gib: float) -> int:
    """Blocks of KV cache (float16) in so many GiB, but enough for one sequence as long as the context at least."""
    heads, width = config["num_key_value_heads"], config.get("head_dim")
    width = width or config["hidden_size"] // config["num_attention_heads"]
    position = 2 * 2 * config["num_hidden_layers"] * heads * width
    longest = -(-int(config["max_position_embeddings"]) // BLOCK) + 1
    return int(max(longest, cache_gib * (1 << 30) // (BLOCK * position)))
