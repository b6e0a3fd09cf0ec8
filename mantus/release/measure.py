"""What a model says about held-out text: log probabilities, most likely tokens, tool calls, through its own engine.

It knows engines and torch, not limits (gate.py).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from mantus.inference.engine import Engine, Sampling, open_engine

EVERY = 8
"""Whole distributions, and most likely tokens, are compared at every 8th position; perplexity takes all."""
CALL_TOKENS = 48
"""A call's name comes within so many tokens."""

ENGINES = {"openvino-int8": "OpenVINO", "onnx-int8": "onnxruntime-genai"}
"""What our own engines read, and what runs it."""

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class ToolTask:
    """A conversation up to a reply, and the tool that is due in it ('': none)."""

    prompt: list[int]
    expected: str


@dataclass(frozen=True, slots=True)
class Questions:
    """What every model is asked: stretches of text as token ids, and tool tasks."""

    windows: list[list[int]]
    calibration: list[list[int]]
    """Other stretches, for what a quantiser must see of inputs."""
    tools: list[ToolTask]
    called: Callable[[Sequence[int]], str]
    """The name of the tool that generated ids call first, '' when they call none."""
    stop_ids: list[int]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a model says. Against a reference: kl in nats a token, over the compared positions."""

    perplexity: float
    kl_mean: float
    kl_p99: float
    top1: float
    """Share of positions where its most likely token is the reference's."""
    tools: float | None
    """Share of tool tasks with the right choice."""
    engine: str


@dataclass(frozen=True, slots=True)
class Reference:
    """The trained model's own answers."""

    questions: Questions
    measured: Measured
    rows: list[npt.NDArray[np.float16]]
    """For each window the log probabilities [positions, V] at every EVERY-th position."""
    best: list[npt.NDArray[np.int64]]
    """The most likely token at each; float16 would make ties of them."""


class Speaker(Protocol):
    """A model that can be asked."""

    engine: str

    def logprobs(self, window: Sequence[int]) -> Floats:
        """Log probabilities [T, V] of what follows each token of a window."""

    def scores(self, windows: Sequence[Sequence[int]]) -> list[list[float]]:
        """For each window the log probability of its tokens from the second on."""

    def complete(self, prompts: Sequence[Sequence[int]], max_tokens: int, stop_ids: Sequence[int]) -> list[list[int]]:
        """Greedy continuations."""


def positions(window: Sequence[int]) -> list[int]:
    """Where distributions are compared."""
    return list(range(EVERY, len(window) - 1, EVERY))


def measure_reference(speaker: Speaker, questions: Questions, folder: Path) -> Reference:
    """Ask the trained model. Its distributions go to `folder` as files: they may be larger than memory."""
    folder.mkdir(parents=True, exist_ok=True)
    total, rows, best = 0.0, [], []
    for number, window in enumerate(questions.windows):
        found = speaker.logprobs(window)
        total -= float(found[np.arange(len(window) - 1), window[1:]].sum(dtype=np.float64))
        path, compared = folder / f"{number}.npy", found[positions(window)]
        np.save(path, compared.astype(np.float16))
        rows.append(np.load(path, mmap_mode="r"))
        best.append(compared.argmax(-1))
    perplexity = math.exp(total / sum(len(window) - 1 for window in questions.windows))
    measured = Measured(perplexity, 0.0, 0.0, 1.0, _tool_share(speaker, questions), speaker.engine)
    return Reference(questions, measured, rows, best)


def measure(speaker: Speaker, reference: Reference, tools: bool = True) -> Measured:
    """Ask a variant the same."""
    questions = reference.questions
    scores = [value for window in speaker.scores(questions.windows) for value in window]
    divergences, agreed = [], []
    for window, stored, best in zip(questions.windows, reference.rows, reference.best, strict=True):
        expected = np.asarray(stored, dtype=np.float32)
        found = speaker.logprobs(window)[positions(window)]
        divergences.append((np.exp(expected) * (expected - found)).sum(-1))
        agreed.append(found.argmax(-1) == best)
    kl = np.concatenate(divergences)
    return Measured(
        perplexity=math.exp(-sum(scores) / len(scores)),
        kl_mean=float(kl.mean()),
        kl_p99=float(np.quantile(kl, 0.99)),
        top1=float(np.concatenate(agreed).mean()),
        tools=_tool_share(speaker, questions) if tools else None,
        engine=speaker.engine,
    )


def _tool_share(speaker: Speaker, questions: Questions) -> float | None:
    if not questions.tools:
        return None
    prompts = [task.prompt for task in questions.tools]
    replies = speaker.complete(prompts, CALL_TOKENS, questions.stop_ids)
    right = [questions.called(ids) == task.expected for ids, task in zip(replies, questions.tools, strict=True)]
    return sum(right) / len(right)


class TorchSpeaker:
    """A transformers model."""

    def __init__(self, model: Any, engine: str) -> None:
        self.model, self.engine = model.eval(), engine

    def logprobs(self, window: Sequence[int]) -> Floats:
        """See Speaker."""
        import torch

        with torch.inference_mode():
            logits = self.model(torch.tensor([list(window)])).logits[0].float()
            found: Floats = logits.log_softmax(-1).numpy()
        return found

    def scores(self, windows: Sequence[Sequence[int]]) -> list[list[float]]:
        """See Speaker."""
        return [own_tokens(self.logprobs(window), window) for window in windows]

    def complete(self, prompts: Sequence[Sequence[int]], max_tokens: int, stop_ids: Sequence[int]) -> list[list[int]]:
        """See Speaker."""
        import torch

        replies = []
        settings = {"do_sample": False, "max_new_tokens": max_tokens, "eos_token_id": list(stop_ids) or None}
        for prompt in prompts:
            ids = torch.tensor([list(prompt)])
            found = self.model.generate(ids, attention_mask=torch.ones_like(ids), pad_token_id=0, **settings)
            replies.append(found[0, len(prompt) :].tolist())
        return replies


class EngineSpeaker:
    """A variant in the engine that serves it."""

    def __init__(self, name: str, served: Engine) -> None:
        self.engine, self._served = name, served

    def logprobs(self, window: Sequence[int]) -> Floats:
        """See Speaker."""
        found: Floats = self._served.logprobs(window)
        return found

    def scores(self, windows: Sequence[Sequence[int]]) -> list[list[float]]:
        """See Speaker."""
        return self._served.score(windows)

    def complete(self, prompts: Sequence[Sequence[int]], max_tokens: int, stop_ids: Sequence[int]) -> list[list[int]]:
        """See Speaker."""
        sampling = Sampling(max_tokens=max_tokens, stop_ids=frozenset(stop_ids))
        return [[token.id for token in reply if token.id >= 0] for reply in self._served.complete(prompts, sampling)]


def own_tokens(logprobs: Floats, window: Sequence[int]) -> list[float]:
    """The entries of a window's own next tokens."""
    found: list[float] = logprobs[np.arange(len(window) - 1), list(window[1:])].tolist()
    return found


def torch_model(folder: Path, dtype: str = "float32") -> Any:
    """A Hugging Face directory in transformers."""
    import torch
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype))


@contextmanager
def open_speaker(variant: str, folder: Path) -> Iterator[Speaker]:
    """The written variant in the engine that runs it; vLLM is none of ours, so its arithmetic is emulated."""
    if variant in ENGINES:
        engine = open_engine(folder)
        try:
            yield EngineSpeaker(ENGINES[variant], engine)
        finally:
            engine.close()
    elif variant == "vllm-int8":
        from mantus.release.w8a8 import load_emulated

        yield TorchSpeaker(load_emulated(folder), "emulation of vLLM's int8 kernel")
    else:
        yield TorchSpeaker(torch_model(folder, "bfloat16"), "transformers, bf16")
