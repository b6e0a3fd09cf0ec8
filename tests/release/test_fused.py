"""Feed-forward parts in the form that OpenVINO fuses: they say what the model said, and fuse where there is AMX."""

from collections import Counter
from pathlib import Path

import pytest

from mantus.inference.engine import Sampling, open_engine
from mantus.inference.pipeline import has_amx, properties
from mantus.release.export import export_openvino, write_properties
from mantus.release.fused import PROPERTIES, can_fuse, fuse_mlps
from mantus.release.measure import Reference, measure, open_speaker
from mantus.release.source import Source, open_source
from mantus.storage import fetch


@pytest.fixture(scope="module")
def source(trained) -> Source:
    return open_source(fetch(trained.uri))


@pytest.fixture(scope="module")
def fused(source: Source, reference: Reference, tmp_path_factory) -> Path:
    return fuse(source, reference, tmp_path_factory.mktemp("fused") / "model")


def fuse(source: Source, reference: Reference, folder: Path, kept: tuple[str, ...] = ()) -> Path:
    export_openvino(source, folder, [], kept)
    fuse_mlps(source, folder, reference.questions.calibration, kept)
    write_properties(folder, PROPERTIES)
    return folder


def constants(folder: Path) -> Counter[str]:
    """How many matrices of each type the graph holds."""
    import openvino as ov

    nodes = ov.Core().read_model(folder / "openvino_model.xml").get_ordered_ops()
    kinds = [node for node in nodes if node.get_type_name() == "Constant" and len(node.get_output_shape(0)) == 2]
    return Counter(node.get_element_type().get_type_name() for node in kinds)


def operations(folder: Path) -> Counter[str]:
    """What the plugin makes of the graph on this processor."""
    import openvino as ov

    compiled = ov.Core().compile_model(folder / "openvino_model.xml", "CPU", properties(folder, 2))
    return Counter(node.get_rt_info()["layerType"].astype(str) for node in compiled.get_runtime_model().get_ops())


def test_it_says_what_the_trained_model_says(fused: Path, reference: Reference):
    with open_speaker("openvino-int8", fused) as speaker:
        found = measure(speaker, reference)
    assert abs(found.perplexity / reference.measured.perplexity - 1) < 0.01
    assert found.kl_mean < 0.01
    assert found.top1 > 0.92


def test_gate_and_up_are_int8_and_down_is_half(fused: Path, source: Source):
    """Three int8 matrices a layer: gate, up, and query, key and value in one."""
    layers = source.config["num_hidden_layers"]
    assert constants(fused)["i8"] == 3 * layers
    assert constants(fused)["f16"] == layers
    assert (fused / "openvino_model.xml").read_text().count('"decompression"') == layers


def test_layers_that_are_kept_stay_as_they_are(source: Source, reference: Reference, tmp_path: Path):
    folder = fuse(source, reference, tmp_path / "model", kept=("model.layers.0.",))
    assert constants(folder)["i8"] == 3 * (source.config["num_hidden_layers"] - 1)


@pytest.mark.skipif(not has_amx(), reason="no AMX here")
def test_the_plugin_fuses_each_layer(fused: Path, source: Source):
    assert can_fuse(source)
    assert operations(fused)["LLMMLP"] == source.config["num_hidden_layers"]


@pytest.mark.skipif(not has_amx(), reason="no AMX here")
def test_a_release_here_is_fused(released):
    assert constants(fetch(released.uri) / "openvino-int8")["i8"]


def test_one_thread_does_not_fuse(fused: Path):
    """The plugin's kernel would divide by half the threads, and by zero."""
    assert "DYNAMIC_QUANTIZATION_GROUP_SIZE" not in properties(fused, 1)
    assert ("DYNAMIC_QUANTIZATION_GROUP_SIZE" in properties(fused, 2)) == has_amx()
    engine = open_engine(fused, threads=1, cache_gib=0.25)
    try:
        (reply,) = engine.complete([[1, 2, 3]], Sampling(max_tokens=4, ignore_stop=True))
    finally:
        engine.close()
    assert len(reply) == 4
