"""A release keeps its promises, is the same twice, and is refused when its weights are damaged."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from mantus.data.shards import TokenShards
from mantus.release.export import export_gguf, export_onnx, export_openvino
from mantus.release.gate import judge, measure_onnx, measure_openvino, measure_reference
from mantus.storage import fetch
from mantus.storage.artifact import describe_files


def reference_of(inputs: dict[str, str], trained):
    tokens = TokenShards.open(fetch(inputs["tokens"]) / "heldout").all_tokens()
    return measure_reference(fetch(trained.uri), [tokens[at : at + 64].tolist() for at in range(0, 256, 64)])


def damage(variant: Path) -> None:
    """Overwrite the largest int8 matrix of an OpenVINO model with noise."""
    layers = ElementTree.parse(variant / "openvino_model.xml").getroot().iter("data")
    matrices = [layer.attrib for layer in layers if layer.get("element_type") == "u8"]
    place = max(matrices, key=lambda matrix: int(matrix["size"]))
    with (variant / "openvino_model.bin").open("r+b") as weights:
        weights.seek(int(place["offset"]))
        weights.write(np.random.default_rng(0).bytes(int(place["size"])))


def row(name: str, reference, measured) -> dict[str, float | str]:
    return {"name": name, "ppl_change": measured.perplexity / reference.perplexity - 1, "top1": measured.top1}


def test_a_good_release_passes(released):
    assert released.stats["verdict"] == "passed"
    stored = json.loads((fetch(released.uri) / "release.json").read_text())
    assert [variant["name"] for variant in stored["variants"]] == ["trained", "hf", "gguf", "openvino-int8"]
    assert {"model", "tokens"} == set(stored["lineage"])


def test_exports_are_the_same_twice(trained, tmp_path: Path):
    for number in "ab":
        export_gguf(fetch(trained.uri), tmp_path / number / "gguf")
        export_openvino(fetch(trained.uri), tmp_path / number / "openvino")
    assert describe_files(tmp_path / "a") == describe_files(tmp_path / "b")


def test_damaged_weights_are_refused(inputs, trained, tmp_path: Path):
    export_openvino(fetch(trained.uri), tmp_path / "model")
    damage(tmp_path / "model")
    reference = reference_of(inputs, trained)
    gate = judge("model", [row("model", reference, measure_openvino(tmp_path / "model", reference))], 0.01, 0.92)
    assert gate["verdict"] == "refused"
    assert any("limit" in check["message"] and not check["passed"] for check in gate["checks"])


def test_onnx_says_the_same(inputs, trained, tmp_path: Path):
    export_onnx(fetch(trained.uri), tmp_path / "onnx")
    reference = reference_of(inputs, trained)
    measured = row("onnx", reference, measure_onnx(tmp_path / "onnx", reference))
    assert abs(measured["ppl_change"]) < 0.02
    assert measured["top1"] > 0.9
