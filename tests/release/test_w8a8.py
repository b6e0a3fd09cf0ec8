"""W8A8 for vLLM: folding changes nothing, int8 little; what is kept stays in bf16; the files are as vLLM reads them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from mantus.release.measure import torch_model
from mantus.release.source import open_source
from mantus.release.w8a8 import input_peaks, load_emulated, quantize_rows, smooth, write_w8a8
from tests.release.others import logits, make_model

CALIBRATION = [list(range(20, 100)), list(range(100, 200))]
IDS = list(range(5, 60))


@pytest.mark.parametrize("kind", ["llama", "qwen2", "qwen3"])
def test_folding_changes_nothing(kind: str, inputs, tmp_path: Path):
    folder = make_model(tmp_path / "model", inputs, kind, False)
    model = torch_model(folder).eval()
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    smooth(model, input_peaks(model, CALIBRATION))
    with torch.inference_mode():
        found = model(torch.tensor([IDS])).logits[0]
    assert (found - logits(folder, IDS)).abs().max() < 1e-3
    changed = {name.split(".")[-2] for name, weight in model.state_dict().items() if not weight.equal(before[name])}
    assert {"down_proj", "o_proj", "up_proj", "gate_proj", "q_proj", "input_layernorm"} <= changed


def test_smoothing_helps_where_inputs_have_outliers(inputs, tmp_path: Path):
    """One channel of the norm's output is 200 times the others: per-token scales alone lose the rest."""
    folder = make_model(tmp_path / "model", inputs, "llama", False, initializer_range=0.05)
    model = torch_model(folder)
    with torch.no_grad():
        for layer in model.model.layers:
            layer.input_layernorm.weight[3] *= 200
            for part in (layer.self_attn.q_proj, layer.self_attn.k_proj, layer.self_attn.v_proj):
                part.weight[:, 3] /= 200
    model.save_pretrained(folder)
    expected = logits(folder, IDS).log_softmax(-1)
    damage = {}
    for name, windows in (("smooth", CALIBRATION), ("plain", None)):
        write_w8a8(open_source(folder), tmp_path / name, windows or [])
        with torch.inference_mode():
            found = load_emulated(tmp_path / name)(torch.tensor([IDS])).logits[0].float().log_softmax(-1)
        damage[name] = float((expected.exp() * (expected - found)).sum(-1).mean())
    assert damage["smooth"] < damage["plain"] / 3


def test_the_files_are_as_vllm_reads_them(inputs, tmp_path: Path):
    from safetensors.torch import load_file

    folder = make_model(tmp_path / "model", inputs, "qwen2", True)
    write_w8a8(open_source(folder), tmp_path / "out", CALIBRATION, ["model.layers.1."])
    weights = load_file(tmp_path / "out" / "model.safetensors")
    assert weights["model.layers.0.self_attn.q_proj.weight"].dtype == torch.int8
    assert weights["model.layers.0.self_attn.q_proj.weight_scale"].shape == (128, 1)
    assert weights["model.layers.0.self_attn.q_proj.bias"].dtype == torch.bfloat16
    assert weights["model.layers.1.mlp.up_proj.weight"].dtype == torch.bfloat16
    assert "lm_head.weight" not in weights
    scheme = json.loads((tmp_path / "out" / "config.json").read_text())["quantization_config"]
    assert (scheme["quant_method"], scheme["format"]) == ("compressed-tensors", "int-quantized")
    assert "lm_head" in scheme["ignore"]
    assert "model.layers.1.mlp.up_proj" in scheme["ignore"]
    assert not any(name.startswith("model.layers.0.") for name in scheme["ignore"])


def test_int8_costs_little(inputs, tmp_path: Path):
    folder = make_model(tmp_path / "model", inputs, "qwen3", False, initializer_range=0.05)
    write_w8a8(open_source(folder), tmp_path / "out", CALIBRATION)
    expected = logits(folder, IDS).log_softmax(-1)
    with torch.inference_mode():
        found = load_emulated(tmp_path / "out")(torch.tensor([IDS])).logits[0].float().log_softmax(-1)
    assert 0 < (expected.exp() * (expected - found)).sum(-1).mean() < 0.01


def test_rows_have_a_scale_each():
    packed, scale = quantize_rows(torch.tensor([[1.0, -127.0], [0.5, 0.25]]))
    assert packed.tolist() == [[1, -127], [85, 42]]
    assert torch.allclose(scale, torch.tensor([[1.0], [0.75 / 127]]))


@pytest.mark.parametrize("make", [torch.randn, torch.rand, torch.ones], ids=["normal", "of one sign", "all equal"])
def test_no_pair_of_products_is_cut_off_in_16_bits(make: Callable[..., torch.Tensor]):
    torch.manual_seed(0)
    packed, _ = quantize_rows(make(64, 96))
    for inputs in (torch.randint(0, 256, (50, 96)), torch.full((1, 96), 255)):
        products = (inputs[:, None] * packed.int()).unflatten(-1, (-1, 2)).sum(-1)
        assert products.abs().max() < 1 << 15
