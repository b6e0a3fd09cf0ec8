"""Phase `evaluate`: a model through lm-eval, a release or endpoint through its API, BFCL -> one results file.

It knows which measurements go with which input, not how they are taken.
"""

import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus.data.conversations.apart import report_of as apart_report
from mantus.data.conversations.bfcl import Case, data_folder, digest_of, read_cases
from mantus.evaluation import mirror
from mantus.evaluation.bfcl import table
from mantus.evaluation.bfcl.ask import WAYS, Answer, ask_directory
from mantus.evaluation.bfcl.ask import ask as ask_bfcl
from mantus.evaluation.scores import Score
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Reference, Work, execute
from mantus.storage.phase import RUNTIME

MAX_SAMPLES = 200


class EvaluateConfig(PhaseConfig):
    """Settings of `mantus evaluate`. Give a model, a release or an endpoint, and what to measure it with."""

    model: ArtifactURI = ""
    """A model to measure on held-out documents (`tokens`), lm-eval's tasks (`tasks`) or BFCL (`bfcl`)."""
    tokens: ArtifactURI = ""
    """Token shards; their held-out documents come back as text."""
    release: ArtifactURI = ""
    """A release to serve and measure; needs `tooldata` or `bfcl`."""
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
    tasks: list[str] = Field(default_factory=list)
    """Tasks of lm-eval for the model, such as mmlu, hellaswag and lambada_openai; their data lies in `mirror`."""
    mirror: str = ""
    """A folder laid out as the hub is (cais/mmlu, Rowan/hellaswag, ...): nothing is fetched."""
    shots: int = Field(default=-1, ge=-1)
    """Examples before each question of `tasks` (-1: the task's own number)."""
    task_rows: int = Field(default=0, ge=0)
    """Documents of each task to ask (0: all)."""
    bfcl: str = ""
    """BFCL's data, a folder or pypi:bfcl-eval==<version>."""
    bfcl_categories: list[str] = Field(default_factory=lambda: ["simple_python", "multiple", "parallel", "irrelevance"])
    """Categories to ask."""
    bfcl_ways: list[str] = Field(default_factory=lambda: ["free", "required"])
    """How a release or endpoint is asked: free (no grammar), auto (opened calls are held to the schemas), required."""
    bfcl_system: str = ""
    """A system message before every row: how to call, say, for models that were never told."""
    bfcl_rows: int = Field(default=0, ge=0)
    """Rows of each category to ask (0: all)."""
    endpoint_model: str = ""
    """Name of the model at `endpoint`, where it serves several; its key is read from MANTUS_ENDPOINT_KEY."""
    max_bits_per_byte: float = Field(default=0.0, ge=0, json_schema_extra=RUNTIME)
    """The pipeline's gate: most bits per byte of held-out text; 0: fewer than xz -9e needs for the same bytes."""
    min_scores: dict[str, float] = Field(default_factory=dict, json_schema_extra=RUNTIME)
    """The pipeline's gate: least value of scores, such as {seen_tools.tool_selection: 0.9}."""


def run(config: EvaluateConfig) -> Manifest:
    """Measure, or find the results. ValueError when inputs are missing."""
    _check(config)
    bfcl = data_folder(config.bfcl, "evaluate.bfcl") if config.bfcl else None
    cases = read_cases(bfcl, config.bfcl_categories, config.bfcl_rows, config.bfcl_system) if bfcl else []

    def produce(work: Work) -> dict[str, Any]:
        scores: list[Score] = []
        samples: list[dict[str, Any]] = []
        extra: dict[str, Any] = {}
        for found, shown, more in _measured(work, config, cases):
            scores += found
            samples += shown
            extra |= more
        if bfcl and config.tooldata:
            extra["apart"] = apart_report(Path(work.inputs["tooldata"]) / "train.jsonl", bfcl)
        rows = [score.row() for score in scores]
        (work.out / "results.json").write_text(json.dumps({"results": rows}, indent=1) + "\n")
        (work.out / "samples.jsonl").write_text("".join(json.dumps(row) + "\n" for row in samples[:MAX_SAMPLES]))
        return {
            "scores": {f"{s.task}.{s.metric}": round(s.value, 6) for s in scores},
            "figures": _figures(scores),
            **extra,
        }

    sources = [Reference(config.endpoint, config.endpoint)] if config.endpoint else []
    sources += [Reference(config.bfcl, digest_of(cases))] if cases else []
    sources += [Reference(config.mirror, mirror.fingerprint(Path(config.mirror)))] if config.tasks else []
    return execute("evaluation", config, produce, sources or None)


Found = tuple[list[Score], list[dict[str, Any]], dict[str, Any]]
"""Scores, samples, and what else the manifest says."""


def _check(config: EvaluateConfig) -> None:
    """ValueError names what is missing."""
    if config.model and not (config.tokens or config.tasks or config.bfcl):
        raise ValueError("evaluate.tokens: needed to measure a model, or tasks, or bfcl")
    if (config.release or config.endpoint) and not (config.tooldata or config.bfcl):
        raise ValueError("evaluate.tooldata: needed to measure a release or an endpoint, or bfcl")
    if not (config.model or config.release or config.endpoint):
        raise ValueError("evaluate: give model, release or endpoint")
    if config.tasks and not (config.model and config.mirror):
        raise ValueError("evaluate.tasks: need a model, and the folder of their data in mirror")
    if config.tasks:
        mirror.check(Path(config.mirror), config.tasks)
    if wrong := sorted(set(config.bfcl_ways) - set(WAYS)):
        raise ValueError(f"evaluate.bfcl_ways: {wrong[0]!r} is not one of {', '.join(WAYS)}")


def _measured(work: Work, config: EvaluateConfig, cases: Sequence[Case]) -> Iterator[Found]:
    """Everything that is to be measured, one thing after the other."""
    if config.tokens and config.model:
        yield _measure_model(work, config), [], {}
    if config.tasks:
        from mantus.evaluation.adapter import MantusLM

        model = MantusLM(str(work.inputs["model"]), config.window)
        folder, cache = Path(config.mirror).absolute(), work.scratch / "datasets"
        yield mirror.measure(model, config.tasks, folder, config.shots, config.task_rows, cache), [], {}
    if config.model and cases:
        yield _bfcl("directory", list(ask_directory(Path(work.inputs["model"]), cases)))
    if not (config.release or config.endpoint):
        return
    with _endpoint(work, config) as url:
        if config.tooldata:
            yield _measure_tools(work, config, url)
        key = os.environ.get("MANTUS_ENDPOINT_KEY", "")
        for way in config.bfcl_ways if cases else ():
            asked = [case for case in cases if way != "required" or "relevance" not in case.category]
            yield _bfcl(way, ask_bfcl(url, asked, way, config.endpoint_model, key))


def _bfcl(way: str, answers: list[Answer]) -> Found:
    found = table.scores(way, answers)
    return found, table.sampled(way, answers, MAX_SAMPLES // 3), {f"bfcl_errors_{way}": table.errors(answers)}


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
