"""Phase `release`: model -> variants, their measured quality, the gate's verdict.

It knows the order of things; exporting and measuring are next door.
"""

import json
from pathlib import Path
from typing import Any

from pydantic import Field

from mantus import console
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Work, execute


class ReleaseConfig(PhaseConfig):
    """Settings of `mantus release`."""

    model: ArtifactURI
    """The model to release."""
    tokens: ArtifactURI
    """Token shards; quality is measured on their held-out documents where `data` is empty."""
    data: list[ArtifactURI] = Field(default_factory=list)
    """Conversations; quality is measured on their held-out ones: a tuned model has forgotten plain text, and noise in
    what it says of that would decide."""
    variants: list[str] = Field(default_factory=lambda: ["hf", "gguf", "openvino-int8", "onnx-int8"])
    """What to write: hf, gguf, openvino-int8, onnx-int8."""
    served: str = "openvino-int8"
    """The variant that will serve; the gate judges this one."""
    windows: int = Field(default=64, ge=1)
    """Held-out windows to measure."""
    window_tokens: int = Field(default=256, ge=16)
    """Tokens a window, at most."""
    max_ppl_change: float = 0.01
    """Largest relative rise of perplexity that passes."""
    min_top1: float = 0.92
    """Smallest agreement with the trained model's most likely tokens that passes."""


def run(config: ReleaseConfig) -> Manifest:
    """Release, or find the release. A refused release is kept for looking at; its verdict says so."""
    known = ("hf", "gguf", "openvino-int8", "onnx-int8")
    wrong = [name for name in config.variants if name not in known]
    if wrong or config.served not in config.variants:
        raise ValueError(f"release.variants: {(wrong or [config.served])[0]!r} must be among {', '.join(known)}")

    def produce(work: Work) -> dict[str, Any]:
        from mantus.release.export import EXPORTS

        with console.progress("release", len(config.variants) * 2, "steps") as bar:
            for name in config.variants:
                EXPORTS[name](work.inputs["model"], work.out / name)
                bar.advance(1, f"{name} written")
            rows = _measure(work, config, bar)
        return _conclude(work, config, rows)

    return execute("release", config, produce)


def _measure(work: Work, config: ReleaseConfig, bar: console.Progress) -> list[dict[str, Any]]:
    from mantus.release.export import folder_bytes
    from mantus.release.gate import MEASURES, measure_reference

    reference = measure_reference(work.inputs["model"], _windows(work, config))
    rows: list[dict[str, Any]] = []
    for name in config.variants:
        row: dict[str, Any] = {"name": name, "path": name, "bytes": folder_bytes(work.out / name)}
        if name in MEASURES:
            found = MEASURES[name](work.out / name, reference)
            change = found.perplexity / reference.perplexity - 1
            row |= {"ppl": found.perplexity, "ppl_change": change, "top1": found.top1}
            bar.advance(1, f"{name}: perplexity {change:+.2%}, top-1 {found.top1:.1%}")
        rows.append(row)
    model = {"name": "trained", "path": "", "bytes": folder_bytes(Path(work.inputs["model"]))}
    return [{**model, "ppl": reference.perplexity, "ppl_change": 0.0, "top1": 1.0}, *rows]


def _windows(work: Work, config: ReleaseConfig) -> list[list[int]]:
    """Held-out token ids to measure on: conversations, by turns from each of `data`, or stretches of documents."""
    length = config.window_tokens
    if not config.data:
        from mantus.data.shards import TokenShards

        tokens = TokenShards.open(work.inputs["tokens"] / "heldout").all_tokens()
        starts = range(0, min(len(tokens) - length, config.windows * length) + 1, length)
        return [tokens[at : at + length].tolist() for at in starts]
    from mantus.text.chat import render
    from mantus.text.tokenizer import Tokenizer

    tokenizer = Tokenizer.load(work.inputs["model"])
    files = [(folder / "heldout.jsonl").read_text(encoding="utf-8").splitlines() for folder in work.inputs["data"]]
    rows = [json.loads(line) for turn in zip(*files, strict=False) for line in turn]
    rendered = (render(tokenizer, row["messages"], row.get("tools") or ()).ids[:length] for row in rows)
    return [ids for ids in rendered if len(ids) > 16][: config.windows]


def _conclude(work: Work, config: ReleaseConfig, rows: list[dict[str, Any]]) -> dict[str, Any]:
    from mantus.release.gate import judge

    gate = judge(config.served, rows, config.max_ppl_change, config.min_top1)
    lineage = {name: _lineage(found) for name, found in work.manifests.items()}
    release = {"served": config.served, "variants": rows, "gate": gate, "lineage": lineage}
    (work.out / "release.json").write_text(json.dumps(release, indent=1) + "\n")
    console.say(f"release: {gate['verdict']}; " + "; ".join(check["message"] for check in gate["checks"]))
    served = next(row for row in rows if row["name"] == config.served)
    change, top1 = round(100 * served["ppl_change"], 4), round(100 * served["top1"], 2)
    figures = [
        {"name": "int8_perplexity_change", "value": change, "unit": "%", "bar": f"<= {100 * config.max_ppl_change:g}"},
        {"name": "int8_top1_agreement", "value": top1, "unit": "%", "bar": f">= {100 * config.min_top1:g}"},
    ]
    return {"verdict": gate["verdict"], "figures": figures}


def _lineage(found: Any) -> Any:
    return [_lineage(item) for item in found] if isinstance(found, list) else {"kind": found.kind, "key": found.key}
