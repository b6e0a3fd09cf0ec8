"""The gate: what int8 cost, measured through the engine that serves, against limits.

It knows models and engines, not how variants were made.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mantus.inference.engine import Sampling, open_engine
from mantus.model.hf import load_model

POSITIONS_EVERY = 8
"""The most likely next token is compared at every 8th position."""


@dataclass(frozen=True, slots=True)
class Reference:
    """What the trained model itself says about the windows."""

    windows: list[list[int]]
    perplexity: float
    best: list[dict[int, int]]
    """For each window: position -> the most likely token after it."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What a variant says about the same windows."""

    perplexity: float
    top1: float
    """Share of positions where its most likely token is the reference's."""


@torch.no_grad()
def measure_reference(model: Path, windows: list[list[int]]) -> Reference:
    """Measure the trained model in float32."""
    network = load_model(model).eval()
    total, best = 0.0, []
    for window in windows:
        logits = network(torch.tensor([window]))[0].log_softmax(-1)
        total -= float(logits[:-1].gather(1, torch.tensor(window[1:])[:, None]).sum())
        best.append({at: int(logits[at].argmax()) for at in range(POSITIONS_EVERY, len(window) - 1, POSITIONS_EVERY)})
    return Reference(windows, math.exp(total / sum(len(window) - 1 for window in windows)), best)


def measure_openvino(folder: Path, reference: Reference) -> Measured:
    """Through continuous batching, as served: scores of the windows, greedy next tokens of their prefixes."""
    engine = open_engine(folder)
    try:
        scores = engine.score(reference.windows)
        pairs = [
            (window[: at + 1], token)
            for window, best in zip(reference.windows, reference.best, strict=True)
            for at, token in best.items()
        ]
        replies = engine.complete([prefix for prefix, _ in pairs], Sampling(max_tokens=1, ignore_stop=True))
    finally:
        engine.close()
    agreed = [reply[0].id == token for reply, (_, token) in zip(replies, pairs, strict=True)]
    flat = [value for window in scores for value in window]
    return Measured(math.exp(-sum(flat) / len(flat)), sum(agreed) / len(agreed))


def measure_onnx(folder: Path, reference: Reference) -> Measured:
    """Through onnxruntime-genai."""
    import onnxruntime_genai as og

    model = og.Model(str(folder))
    total, agreed = 0.0, []
    for window, best in zip(reference.windows, reference.best, strict=True):
        parameters = og.GeneratorParams(model)
        parameters.set_search_options(max_length=len(window) + 1)
        generator = og.Generator(model, parameters)
        generator.append_tokens(np.array(window, dtype=np.int32))
        logits = torch.from_numpy(np.array(generator.get_output("logits"))[0]).float().log_softmax(-1)
        total -= float(logits[:-1].gather(1, torch.tensor(window[1:])[:, None]).sum())
        agreed += [int(logits[at].argmax()) == token for at, token in best.items()]
    count = sum(len(window) - 1 for window in reference.windows)
    return Measured(math.exp(total / count), sum(agreed) / len(agreed))


MEASURES: dict[str, Callable[[Path, Reference], Measured]] = {
    "openvino-int8": measure_openvino,
    "onnx-int8": measure_onnx,
}


def judge(served: str, rows: Sequence[dict[str, Any]], max_ppl_change: float, min_top1: float) -> dict[str, Any]:
    """The verdict over the served variant: {verdict, checks: [{name, value, limit, passed, message}]}."""
    row = next(row for row in rows if row["name"] == served)
    checks = [
        _check(served, "perplexity change", row["ppl_change"], max_ppl_change, row["ppl_change"] <= max_ppl_change),
        _check(served, "top-1 agreement", row["top1"], min_top1, row["top1"] >= min_top1),
    ]
    return {"verdict": "passed" if all(check["passed"] for check in checks) else "refused", "checks": checks}


def _check(served: str, name: str, value: float, limit: float, passed: bool) -> dict[str, Any]:
    message = f"{served}: {name} {value:.2%}, limit {limit:.2%}"
    return {"name": name, "value": value, "limit": limit, "passed": bool(passed), "message": message}
