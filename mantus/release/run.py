"""Phase `release`: model -> variants, their measured quality, the gate's verdict, a model card, digests.

It knows the order of things; exporting and measuring are next door.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from mantus import console
from mantus.storage import ArtifactURI, Manifest, PhaseConfig, Reference, Work, execute

if TYPE_CHECKING:
    from mantus.release.gate import Attempt, Check, Limits
    from mantus.release.measure import Measured, Questions
    from mantus.release.source import Source

VARIANTS = ("hf", "openvino-int8", "gguf", "vllm-int8", "onnx-int8")
"""In the order in which they are made: gguf leaves the layers alone that openvino-int8 had to."""
MEASURED = ("hf", "openvino-int8", "vllm-int8", "onnx-int8")
"""GGUF's engine is none of ours; the plain form of openvino-int8 is made from the same bytes."""


class ReleaseConfig(PhaseConfig):
    """Settings of `mantus release`. Give a model with tokens or data, or a Hugging Face directory with a text."""

    model: ArtifactURI = ""
    """The model to release."""
    hf: str = ""
    """A Hugging Face directory on this machine instead: Llama, Qwen2 or Qwen3 class, safetensors, tokenizer.json."""
    tokens: ArtifactURI = ""
    """Token shards; quality is measured on their held-out documents where `data` is empty."""
    data: list[ArtifactURI] = Field(default_factory=list)
    """Conversations; quality is measured on their held-out ones: a tuned model has forgotten plain text, and noise in
    what it says of that would decide. Those that offer tools also measure which tool is chosen."""
    text: str = ""
    """A text file, or a folder of .txt and .md files, to measure on instead."""
    evaluations: list[ArtifactURI] = Field(default_factory=list)
    """Results of `evaluate` to show in the model card."""
    license: str = ""
    """The model's licence for its card: an SPDX name such as Apache-2.0."""
    variants: list[str] = Field(default_factory=lambda: ["hf", "openvino-int8", "gguf", "onnx-int8"])
    """What to write: hf, openvino-int8, gguf, vllm-int8, onnx-int8."""
    served: str = "openvino-int8"
    """The variant that will serve; the gate judges this one."""
    windows: int = Field(default=64, ge=1)
    """Held-out windows to measure, and tool conversations to ask at most."""
    window_tokens: int = Field(default=256, ge=16)
    """Tokens a window, at most."""
    max_ppl_change: float = 0.01
    """Largest relative rise of perplexity that passes."""
    max_kl_mean: float = Field(default=0.02, ge=0)
    """Largest mean KL divergence from the trained model, nats a token, that passes."""
    max_kl_p99: float = Field(default=0.15, ge=0)
    """Largest KL divergence at all but 1 % of positions that passes."""
    min_top1: float = 0.92
    """Smallest agreement with the trained model's most likely tokens that passes."""
    max_tool_drop: float = Field(default=0.05, ge=0)
    """Largest share of tool conversations by which the right choice may become rarer. Of 64 conversations one is 0.016,
    and some change either way."""
    w8a8_factor: float = Field(default=2.5, ge=1)
    """vllm-int8 rounds activations too, and passes with so many times the loss."""


def run(config: ReleaseConfig) -> Manifest:
    """Release, or find the release. A refused release is kept for looking at; its verdict says so.

    ValueError names a setting that is wrong or missing, or what keeps a directory from being exported.
    """
    wrong = [name for name in config.variants if name not in VARIANTS]
    if wrong or config.served not in config.variants or config.served not in MEASURED:
        raise ValueError(f"release.variants: {(wrong or [config.served])[0]!r} must be among {', '.join(MEASURED)}")
    if bool(config.model) == bool(config.hf):
        raise ValueError("release.model: give the URI of a model, or a Hugging Face directory as release.hf")
    if not (config.data or config.text or (config.model and config.tokens)):
        raise ValueError("release.text: give a text to measure on, or conversations as release.data")

    def produce(work: Work) -> dict[str, Any]:
        return _Releasing(work, config).run()

    return execute("release", config, produce, _sources(config))


def _sources(config: ReleaseConfig) -> list[Reference]:
    """What is read beside artifacts, with digests of all its files."""
    from mantus.storage.artifact import describe_files, digest_file

    found = []
    for name, given in (("hf", config.hf), ("text", config.text)):
        if not given:
            continue
        path = Path(given)
        if not path.exists():
            raise ValueError(f"release.{name}: {given} does not exist")
        entries = describe_files(path) if path.is_dir() else digest_file(path)
        key = json.dumps([asdict(entry) for entry in entries] if isinstance(entries, list) else entries)
        found.append(Reference(path.resolve().as_uri(), _digest(key)))
    return found


def _digest(text: str) -> str:
    import hashlib

    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


@dataclass
class _Releasing:
    """One release under way."""

    work: Work
    config: ReleaseConfig

    def run(self) -> dict[str, Any]:
        """Ask the trained model, then write and measure each variant; returns the phase's stats."""
        from mantus.release.measure import TorchSpeaker, measure_reference, torch_model
        from mantus.release.source import open_source

        self.source: Source = open_source(Path(self.config.hf or self.work.inputs["model"]))
        names = [name for name in VARIANTS if name in self.config.variants]
        with console.progress("release", len(names) + 1, "steps") as bar:
            trained = TorchSpeaker(torch_model(self.source.folder), "transformers, float32")
            self.reference = measure_reference(trained, self._questions(), self.work.scratch / "reference")
            del trained
            bar.advance(1, f"trained: perplexity {self.reference.measured.perplexity:.3f}")
            self.rows: dict[str, dict[str, Any]] = {}
            for name in names:
                self.rows[name] = self._variant(name)
                bar.advance(1, f"{name}: {self.rows[name]['said']}")
        return self._conclude()

    def _questions(self) -> "Questions":
        from mantus.release import heldout

        config, inputs = self.config, self.work.inputs
        rows = heldout.read_rows(inputs["data"]) if config.data else []
        sizes = config.windows, config.window_tokens
        if config.text:
            stretches = heldout.from_text(self.source, Path(config.text), *sizes)
        elif rows:
            stretches = heldout.from_rows(self.source, rows, *sizes)
        else:
            stretches = heldout.from_shards(inputs["tokens"], *sizes)
        return heldout.questions(self.source, stretches, rows, config.windows)

    def _variant(self, name: str) -> dict[str, Any]:
        from mantus.release.export import folder_bytes
        from mantus.release.gate import passes
        from mantus.storage.sums import write_sums

        row: dict[str, Any] = {"name": name, "path": name}
        if name in MEASURED:
            done = self._attempt(name)
            row |= _measures(done.measured, self.reference.measured.perplexity)
            row |= {"kept": done.kept, "checks": done.checks, "passed": passes(done.checks)}
            said = f"perplexity {row['ppl_change']:+.2%}, KL {row['kl_mean']:.4f}, top-1 {row['top1']:.1%}"
        else:
            self._write(name, kept := self.rows.get("openvino-int8", {}).get("kept", []))
            row, said = row | {"kept": kept}, "written"
        row |= {"sha256sums": write_sums(self.work.out / name), "said": said}
        return row | {"bytes": folder_bytes(self.work.out / name)}

    def _attempt(self, name: str) -> "Attempt":
        from mantus.release.gate import attempt
        from mantus.release.sensitivity import rank_layers

        asked, rounded = self.reference.questions.calibration, name == "vllm-int8"
        return attempt(
            lambda kept: self._write_and_measure(name, kept),
            lambda found: self._judge(name, found),
            lambda: rank_layers(self.source.folder, asked, rounded) if name in ("openvino-int8", "vllm-int8") else [],
        )

    def _write(self, name: str, kept: list[str]) -> None:
        import shutil

        from mantus.release.export import EXPORTS

        shutil.rmtree(self.work.out / name, ignore_errors=True)
        EXPORTS[name](self.source, self.work.out / name, self.reference.questions.calibration, kept)

    def _write_and_measure(self, name: str, kept: list[str]) -> "Measured":
        """Of OpenVINO's precisions the one closest to the trained model; where that passes, its fastest form."""
        from mantus.release.export import PRECISIONS, write_properties
        from mantus.release.gate import passes

        self._write(name, kept)
        folder = self.work.out / name
        if name != "openvino-int8":
            return self._measure(name, folder)
        found = {}
        for precision in PRECISIONS:
            write_properties(folder, {"INFERENCE_PRECISION_HINT": precision})
            found[precision] = self._measure(name, folder)
        best = min(found, key=lambda precision: found[precision].kl_mean)
        write_properties(folder, {"INFERENCE_PRECISION_HINT": best})
        plain = found[best]
        return (self._fused(name, kept) if passes(self._judge(name, plain)) else None) or plain

    def _fused(self, name: str, kept: list[str]) -> "Measured | None":
        """OpenVINO's fastest form, where this processor has it and it passes; else None, and the folder stays.

        gguf holds the plain form's matrices and is not measured itself: what this form bears says nothing of that.
        """
        import shutil

        from mantus.release.export import write_properties
        from mantus.release.fused import PROPERTIES, can_fuse, fuse_mlps
        from mantus.release.gate import passes

        if not can_fuse(self.source):
            return None
        folder, tried = self.work.out / name, self.work.scratch / "fused"
        shutil.rmtree(tried, ignore_errors=True)
        shutil.copytree(folder, tried)
        fuse_mlps(self.source, tried, self.reference.questions.calibration, kept)
        write_properties(tried, PROPERTIES)
        found = self._measure(name, tried)
        passed = passes(self._judge(name, found))
        if passed:
            shutil.rmtree(folder)
            shutil.move(tried, folder)
        shutil.rmtree(tried, ignore_errors=True)
        return found if passed else None

    def _measure(self, name: str, folder: Path) -> "Measured":
        from mantus.release.measure import measure, open_speaker

        with open_speaker(name, folder) as speaker:
            return measure(speaker, self.reference)

    def _judge(self, name: str, found: "Measured") -> "list[Check]":
        from mantus.release.gate import check

        limits = self._limits()
        limits = limits.loosened(self.config.w8a8_factor) if name == "vllm-int8" else limits
        return check(name, found, self.reference.measured, limits)

    def _limits(self) -> "Limits":
        from mantus.release.gate import Limits

        names = ("max_ppl_change", "max_kl_mean", "max_kl_p99", "min_top1", "max_tool_drop")
        return Limits(**{name: getattr(self.config, name) for name in names})

    def _conclude(self) -> dict[str, Any]:
        """release.json, the card, digests over all; the stats."""
        from mantus.release.card import ancestors, licences, model_card
        from mantus.release.export import folder_bytes
        from mantus.storage.sums import write_sums

        served = self.rows[self.config.served]
        gate = {"verdict": "passed" if served["passed"] else "refused", "checks": served["checks"]}
        measured = self.reference.measured
        trained = {"name": "trained", "path": "", "bytes": folder_bytes(self.source.folder)}
        trained |= _measures(measured, measured.perplexity)
        given = self.work.manifests
        lineage = list(ancestors([m for found in given.values() for m in _as_list(found)]))
        rows = [{name: value for name, value in row.items() if name != "said"} for row in self.rows.values()]
        release = {
            "served": self.config.served,
            "variants": [trained, *rows],
            "gate": gate,
            "lineage": {name: _lineage(found) for name, found in given.items()},
            "licences": licences(lineage),
            "evaluations": {m.key: m.stats.get("scores", {}) for m in given.get("evaluations", [])},
        }
        (self.work.out / "release.json").write_text(json.dumps(release, indent=1) + "\n")
        made = [f"{m.kind} `{m.key[:12]}`, Mantus {m.mantus_version}" for m in lineage]
        made += [f"Hugging Face directory `{Path(self.config.hf).name}`"] if self.config.hf else []
        card = model_card(release, self.source.config, self.config.license, made)
        (self.work.out / "README.md").write_text(card)
        write_sums(self.work.out)
        console.say(f"release: {gate['verdict']}; " + "; ".join(entry["message"] for entry in gate["checks"]))
        return {"verdict": gate["verdict"], "figures": _figures(served, self.config)}


def _measures(found: Any, reference_ppl: float) -> dict[str, Any]:
    values = asdict(found)
    return {"ppl": values.pop("perplexity"), "ppl_change": found.perplexity / reference_ppl - 1, **values}


def _figures(served: dict[str, Any], config: ReleaseConfig) -> list[dict[str, Any]]:
    change, top1 = round(100 * served["ppl_change"], 4), round(100 * served["top1"], 2)
    kl = {"int8_kl_mean": (served["kl_mean"], config.max_kl_mean), "int8_kl_p99": (served["kl_p99"], config.max_kl_p99)}
    return [
        {"name": "int8_perplexity_change", "value": change, "unit": "%", "bar": f"<= {100 * config.max_ppl_change:g}"},
        {"name": "int8_top1_agreement", "value": top1, "unit": "%", "bar": f">= {100 * config.min_top1:g}"},
        *({"name": n, "value": round(v, 6), "unit": "nats", "bar": f"<= {most:g}"} for n, (v, most) in kl.items()),
    ]


def _as_list(found: Any) -> list[Manifest]:
    return found if isinstance(found, list) else [found]


def _lineage(found: Any) -> Any:
    return [_lineage(item) for item in found] if isinstance(found, list) else {"kind": found.kind, "key": found.key}
