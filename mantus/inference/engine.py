"""The engine protocol: token ids in, a stream of token ids out; what release measures and serving runs.

It knows ids, sampling and constraints, not text or HTTP.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from mantus.storage.sums import check_sums
from mantus.text.grammar import Constraint


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to choose tokens; temperature 0 is greedy."""

    max_tokens: int = 256
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    seed: int = 0
    stop_ids: frozenset[int] = frozenset()
    constraint: Constraint | None = None
    ignore_stop: bool = False


@dataclass(frozen=True, slots=True)
class Token:
    """One generated token; `finish` is '' while the request runs, then stop, length, cancelled or error."""

    id: int
    logprob: float
    finish: str = ""


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


class Engine(Protocol):
    """A loaded model. Methods may be called from any thread."""

    max_context: int
    vocab_size: int

    def submit(self, prompt: Sequence[int], sampling: Sampling, on_token: OnToken) -> Handle:
        """Start a request; `on_token` is called on the engine's thread."""

    def complete(self, prompts: Sequence[Sequence[int]], sampling: Sampling) -> list[list[Token]]:
        """Run several requests to their ends, batched."""

    def score(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """For each prompt the log probability of its tokens from the second on, each given those before it."""

    def stats(self) -> EngineStats:
        """What it is doing now."""

    def close(self) -> None:
        """End its thread; requests under way are cancelled."""


def open_engine(folder: Path, threads: int = 0, cache_gib: float = 0.5) -> Engine:
    """The engine for a release variant's folder. ValueError when the folder holds none, or a file of it is damaged."""
    if not (Path(folder) / "openvino_model.xml").is_file():
        raise ValueError(f"{folder}: no OpenVINO model here; give a release's openvino-int8 folder")
    check_sums(Path(folder))
    from mantus.inference.openvino import OpenVINOEngine

    return OpenVINOEngine(Path(folder), threads, cache_gib)
