"""Phase `evaluate`: a model through lm-eval, a release or endpoint through its API -> one results file.

It knows which measurements go with which input, not how they are taken.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus.evaluation.scores import Score
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Reference, Work, execute
from mantus.storage.phase import RUNTIME

MAX_SAMPLES = 200


class EvaluateConfig(PhaseConfig):
    """Settings of `mantus evaluate`. Give a model with tokens, or tooldata with a release or an endpoint."""

    model: ArtifactURI = ""
    """A model to measure on held-out documents; needs `tokens`."""
    tokens: ArtifactURI = ""
    """Token shards; their held-out documents come back as text."""
    release: ArtifactURI = ""
    """A release to serve and measure; needs `tooldata`."""
    endpoint: str = ""
    """An OpenAI-compatible endpoint to measure instead, such as http://127.0.0.1:8080/v1."""
    tooldata: ArtifactURI = ""
    """Tool conversations with held-out phrasings and unseen tools."""
    max_heldout_kb: int = Field(default=600, ge=1)
    """Kilobytes of held-out text to measure, whole documents."""
    window: int = Field(default=256, ge=8)
    """Tokens that the model sees at once."""
    cloze: int = Field(default=120, ge=0)
    """Cloze questions."""
    max_rows: int = Field(default=300, ge=1)
    """Tool conversations of each split to ask."""
    max_bits_per_byte: float = Field(default=0.0, ge=0, json_schema_extra=RUNTIME)
    """The pipeline's gate: most bits per byte of held-out text; 0: fewer than xz -9e needs for the same bytes."""
    min_scores: dict[str, float] = Field(default_factory=dict, json_schema_extra=RUNTIME)
    """The pipeline's gate: least value of scores, such as {seen_tools.tool_selection: 0.9}."""


def run(config: EvaluateConfig) -> Manifest:
    """Measure, or find the results. ValueError when inputs are missing."""
    if config.model and not config.tokens:
        raise ValueError("evaluate.tokens: needed to measure a model")
    if (config.release or config.endpoint) and not config.tooldata:
        raise ValueError("evaluate.tooldata: needed to measure a release or an endpoint")
    if not (config.model or config.release or config.endpoint):
        raise ValueError("evaluate: give model, release or endpoint")

    def produce(work: Work) -> dict[str, Any]:
        scores: list[Score] = []
        samples: list[dict[str, Any]] = []
        extra: dict[str, Any] = {}
        if config.model:
            scores += _measure_model(work, config)
        if config.tooldata:
            with _endpoint(work, config) as url:
                found, samples, extra = _measure_tools(work, config, url)
            scores += found
        rows = [score.row() for score in scores]
        (work.out / "results.json").write_text(json.dumps({"results": rows}, indent=1) + "\n")
        (work.out / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples[:MAX_SAMPLES]))
        return {
            "scores": {f"{s.task}.{s.metric}": round(s.value, 6) for s in scores},
            "figures": _figures(scores),
            **extra,
        }

    sources = [Reference(config.endpoint, config.endpoint)] if config.endpoint else None
    return execute("evaluation", config, produce, sources)


def _measure_model(work: Work, config: EvaluateConfig) -> list[Score]:
    from mantus.data.shards import heldout_texts
    from mantus.evaluation.local import measure
    from mantus.text.tokenizer import Tokenizer

    texts: list[str] = []
    left = config.max_heldout_kb * 1000
    for text in heldout_texts(work.inputs["tokens"], Tokenizer.load(work.inputs["model"])):
        left -= len(text.encode())
        if left >= 0 or not texts:
            texts.append(text)
    return measure(work.inputs["model"], texts, work.scratch / "tasks", config.window, config.cloze)


@contextmanager
def _endpoint(work: Work, config: EvaluateConfig) -> Iterator[str]:
    if config.endpoint:
        yield config.endpoint
        return
    from mantus.serving.local import served

    with served(work.inputs["release"]) as url:
        yield url


def _measure_tools(
    work: Work, config: EvaluateConfig, url: str
) -> tuple[list[Score], list[dict[str, Any]], dict[str, Any]]:
    from mantus.evaluation.tools import Outcome, ask, scores

    found: list[Score] = []
    everything: list[Outcome] = []
    for split, name in (("heldout", "seen_tools"), ("unseen", "unseen_tools")):
        lines = (Path(work.inputs["tooldata"]) / f"{split}.jsonl").read_text().splitlines()[: config.max_rows]
        rows = [json.loads(line) for line in lines]
        if rows:
            auto = ask(url, rows, "auto", name)
            due = [outcome.row for outcome in auto if outcome.expected]
            required = ask(url, due, "required", f"{name}, required")
            found += scores(name, auto, required)
            everything += auto
    samples = [
        {
            "request": outcome.row["messages"][0]["content"],
            "offered": [tool["function"]["name"] for tool in outcome.row["tools"]],
            "expected": [[call.name, call.arguments] for call in outcome.expected],
            "found": [[call.name, call.arguments] for call in outcome.found],
            "text": outcome.text,
            "exact": outcome.exact,
        }
        for outcome in sorted(everything, key=lambda outcome: (outcome.exact, outcome.chosen))
    ]
    return found, samples, {"latency": _latency(everything)}


def _latency(outcomes: Sequence[Any]) -> dict[str, float]:
    """Of whole requests, 8 at a time; in the manifest's stats only, since it differs from run to run."""
    seconds = sorted(outcome.seconds for outcome in outcomes)
    return {
        "request_p50_s": round(seconds[len(seconds) // 2], 4),
        "request_p95_s": round(seconds[len(seconds) * 95 // 100], 4),
        "tokens_per_second": round(sum(o.tokens for o in outcomes) * 8 / max(1e-9, sum(seconds)), 1),
    }


def _figures(scores: Sequence[Score]) -> list[dict[str, Any]]:
    """The ones that have a bar, and those shown beside them."""
    by_name = {f"{score.task}.{score.metric}": score.value for score in scores}
    found = []
    if "heldout.bits_per_byte" in by_name:
        limit = round(by_name["heldout.xz_bits_per_byte"], 4)
        value = round(by_name["heldout.bits_per_byte"], 4)
        found.append({"name": "heldout_bits_per_byte", "value": value, "unit": "bits", "bar": f"< {limit}"})
        found.append({"name": "xz_bits_per_byte", "value": limit, "unit": "bits"})
    for name, metric, bar in (
        ("seen_tools", "tool_selection", ">= 95"),
        ("unseen_tools", "tool_selection", ""),
        ("seen_tools", "arguments_exact", ""),
        ("seen_tools", "irrelevance", ""),
        ("seen_tools", "parse_rate", ">= 100"),
        ("unseen_tools", "parse_rate", ">= 100"),
    ):
        if f"{name}.{metric}" in by_name:
            value = round(100 * by_name[f"{name}.{metric}"], 2)
            found.append({"name": f"{metric}_{name}", "value": value, "unit": "%", "bar": bar})
    return found
