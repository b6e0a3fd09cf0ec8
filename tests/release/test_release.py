"""A release keeps its promises, is the same twice, and is refused when its weights are damaged."""

import json
import shutil
import subprocess
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from mantus.inference.engine import open_engine
from mantus.release.export import EXPORTS
from mantus.release.gate import Check, Limits, check, passes
from mantus.release.heldout import from_shards, questions
from mantus.release.measure import (
    Reference,
    TorchSpeaker,
    measure,
    measure_reference,
    open_speaker,
    own_tokens,
    torch_model,
)
from mantus.release.source import open_source
from mantus.storage import fetch
from mantus.storage.artifact import describe_files
from mantus.storage.sums import check_sums

LIMITS = Limits(max_ppl_change=0.01, max_kl_mean=0.02, max_kl_p99=0.15, min_top1=0.92, max_tool_drop=0.01)


def reference_of(tokens: Path, model: Path, folder: Path, length: int = 64) -> Reference:
    """What a model says about held-out documents; its distributions go to `folder`."""
    source = open_source(model)
    asked = questions(source, from_shards(tokens, 8, length), [], 8)
    return measure_reference(TorchSpeaker(torch_model(model), "torch"), asked, folder)


def export(name: str, trained, out: Path) -> Path:
    EXPORTS[name](open_source(fetch(trained.uri)), out, [], [])
    return out


def judged(name: str, folder: Path, reference: Reference) -> list[Check]:
    with open_speaker(name, folder) as speaker:
        return check(name, measure(speaker, reference), reference.measured, LIMITS)


def damage(variant: Path) -> None:
    """Overwrite the largest int8 matrix of an OpenVINO model with noise."""
    layers = ElementTree.parse(variant / "openvino_model.xml").getroot().iter("data")
    matrices = [layer.attrib for layer in layers if layer.get("element_type") == "u8"]
    place = max(matrices, key=lambda matrix: int(matrix["size"]))
    with (variant / "openvino_model.bin").open("r+b") as weights:
        weights.seek(int(place["offset"]))
        weights.write(np.random.default_rng(0).bytes(int(place["size"])))


def test_a_good_release_passes(released):
    assert released.stats["verdict"] == "passed"
    stored = json.loads((fetch(released.uri) / "release.json").read_text())
    assert [variant["name"] for variant in stored["variants"]] == ["trained", "hf", "openvino-int8", "gguf"]
    assert {"model", "tokens"} == set(stored["lineage"])
    assert {entry["name"] for entry in stored["gate"]["checks"]} == {
        "perplexity change",
        "KL mean",
        "KL p99",
        "top-1 agreement",
    }
    assert (fetch(released.uri) / "README.md").read_text().count("openvino-int8") > 1


def test_every_file_is_signed(released, tmp_path: Path):
    folder = shutil.copytree(fetch(released.uri), tmp_path / "release")
    check_sums(folder)
    check_sums(folder / "openvino-int8")
    done = subprocess.run(["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"], cwd=folder, check=False)
    assert done.returncode == 0
    damage(folder / "openvino-int8")
    with pytest.raises(ValueError, match=r"openvino_model.bin: damaged, its digest is not that in SHA256SUMS"):
        open_engine(folder / "openvino-int8")
    (folder / "gguf" / "model-Q8_0.gguf").unlink()
    with pytest.raises(ValueError, match=r"model-Q8_0.gguf: missing"):
        check_sums(folder / "gguf")


def test_exports_are_the_same_twice(trained, tmp_path: Path):
    for number in "ab":
        for name in ("hf", "gguf", "openvino-int8"):
            export(name, trained, tmp_path / number / name)
    assert describe_files(tmp_path / "a") == describe_files(tmp_path / "b")


def test_damaged_weights_are_refused(trained, reference: Reference, tmp_path: Path):
    damage(export("openvino-int8", trained, tmp_path / "model"))
    checks = judged("openvino-int8", tmp_path / "model", reference)
    assert not passes(checks)
    assert any("limit" in entry["message"] and not entry["passed"] for entry in checks)


def test_what_is_served_agrees_with_what_distributions_come_from(trained, reference: Reference, tmp_path: Path):
    """Continuous batching gives no distributions; they come from a plain run of the same file."""
    export("openvino-int8", trained, tmp_path / "model")
    windows = reference.questions.windows
    with open_speaker("openvino-int8", tmp_path / "model") as speaker:
        served = np.concatenate(speaker.scores(windows))
        plain = np.concatenate([own_tokens(speaker.logprobs(window), window) for window in windows])
    assert abs(served - plain).max() < 0.05


def test_onnx_says_the_same(trained, reference: Reference, tmp_path: Path):
    with open_speaker("onnx-int8", export("onnx-int8", trained, tmp_path / "onnx")) as speaker:
        found = measure(speaker, reference)
    assert abs(found.perplexity / reference.measured.perplexity - 1) < 0.02
    assert found.top1 > 0.9
    assert found.kl_mean < 0.02
