"""The engine's interface: token ids in, a stream of token ids out; what release measures and serving runs.

It knows ids, sampling and constraints, not text or HTTP.
"""

import queue
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

from mantus.text.grammar import Constraint


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens; temperature 0 is greedy."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    constraint: Constraint | None = None
    ignore_stop: bool = False
    top: int = 0
    """Alternatives to report with each token; an engine that cannot reports none."""


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token; id -1 carries only `finish`.

    finish: '' while the request runs, then stop, length, cancelled, refused (the request is at fault; `note` says
    why) or error (the engine is).
    """

    id: int
    logprob: float
    finish: str = ""
    note: str = ""
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Scored:
    """A prompt's token: its log probability given those before it, and the most likely ones in its place."""

    logprob: float
    top: tuple[tuple[int, float], ...]


@dataclass(frozen=True, slots=True)
class EngineStats:
    """What the engine is doing; cache_usage from 0 to 1."""

    running: int
    waiting: int
    cache_usage: float


OnToken = Callable[[Token], None]


class Handle(Protocol):
    """A request under way."""

    def cancel(self) -> None:
        """Stop it; its slot is free at the next step. A last token with finish 'cancelled' comes."""


@dataclass(eq=False)
class Request:
    """A request on its way to an engine's thread; engines add what they keep of it."""

    prompt: Sequence[int]
    sampling: Sampling
    on_token: OnToken
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Ask the engine's thread to stop it."""
        self.cancelled.set()


class Engine(ABC):
    """A loaded model. Methods may be called from any thread."""

    max_context: int
    vocab_size: int
    failure: str = ""
    """Why the engine can go on no more; '' while it can."""
    pid: int = 0
    """The process that holds the model; 0 is this one."""

    @abstractmethod
    def submit(self, prompt: Sequence[int], sampling: Sampling, on_token: OnToken) -> Handle:
        """Start a request; `on_token` is called on the engine's thread."""

    def score(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """For each prompt the log probability of its tokens from the second on, each given those before it."""
        return [[scored.logprob for scored in self.prompt_scores(prompt, 0)] for prompt in prompts]

    @abstractmethod
    def prompt_scores(self, prompt: Sequence[int], top: int) -> list[Scored]:
        """The prompt's tokens from the second on, each with the `top` most likely in its place, likeliest first."""

    @abstractmethod
    def logprobs(self, window: Sequence[int]) -> Any:
        """Log probabilities [T, V] (float32) of what follows each token of a window, which goes through at once."""

    def embed(self, prompt: Sequence[int]) -> Any:
        """What the last layer says of a prompt, the mean over its tokens at length 1: [D] in float32.

        ValueError when the engine's model gives its logits only.
        """
        raise ValueError("embeddings: this engine makes none; serve with --engine openvino or torch")

    @abstractmethod
    def stats(self) -> EngineStats:
        """What it is doing now."""

    @abstractmethod
    def close(self) -> None:
        """End its thread; requests under way are cancelled."""

    def complete(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Token]]:
        """Run several requests to their ends, batched."""
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


Asked = TypeVar("Asked", bound=Request)


class ThreadedEngine(Engine, Generic[Asked]):
    """An engine whose model belongs to one thread, which everything else talks to through an inbox."""

    kind: type[Asked]

    def _start(self) -> None:
        """Start the thread; the last thing that a constructor does."""
        self._inbox: queue.Queue[Asked | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True, name="engine")
        self._thread.start()

    @abstractmethod
    def _work(self) -> None:
        """Take requests from the inbox until None comes."""

    def submit(self, prompt: Sequence[int], sampling: Sampling, on_token: OnToken) -> Asked:
        """Start a request."""
        request = self.kind(list(prompt), sampling, on_token)
        self._inbox.put(request)
        return request

    def close(self) -> None:
        """End the thread."""
        self._inbox.put(None)
        self._thread.join(timeout=30)


def in_common(first: Sequence[int], second: Sequence[int]) -> int:
    """How many ids both begin with."""
    pairs = zip(first, second, strict=False)
    return next((at for at, (one, other) in enumerate(pairs) if one != other), min(len(first), len(second)))


def engine_of(folder: Path) -> str:
    """Which engine reads a variant's folder. ValueError when none does."""
    if (Path(folder) / "openvino_model.xml").is_file():
        return "openvino"
    if (Path(folder) / "genai_config.json").is_file():
        return "onnx"
    if any(Path(folder).glob("*.safetensors")):
        return "torch"
    raise ValueError(f"{folder}: no model that an engine reads; give a release's openvino-int8, onnx-int8 or hf folder")


def open_engine(folder: Path, threads: int = 0, cache_gib: float = 0.5, checked: bool = False) -> Engine:
    """The engine for a release variant's folder. ValueError when the folder holds none, or a file of it is damaged.

    checked: its files have just been compared with their digests.
    """
    kind = engine_of(folder)
    if not checked:
        from mantus.storage.sums import check_sums

        check_sums(Path(folder))
    if kind == "torch":
        from mantus.inference.torch.engine import TorchEngine

        return TorchEngine(Path(folder), threads, cache_gib)
    if kind == "onnx":
        from mantus.inference.torch.onnx import OnnxEngine

        return OnnxEngine(Path(folder), threads, cache_gib)
    from mantus.inference.openvino import OpenVINOEngine

    return OpenVINOEngine(Path(folder), threads, cache_gib)
