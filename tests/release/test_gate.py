"""The gate passes what is close enough, keeps layers in bf16 before it gives up, and says every limit."""

import json
import math
from pathlib import Path

import pytest
import torch

from mantus.release.gate import Limits, attempt, check, passes
from mantus.release.measure import Measured, torch_model
from mantus.release.run import ReleaseConfig, run
from mantus.release.sensitivity import quantised, rank_layers, round_blocks
from mantus.release.w8a8 import quantize_rows
from mantus.storage import fetch
from tests.conftest import TEXT
from tests.release.others import make_model

LIMITS = Limits(max_ppl_change=0.01, max_kl_mean=0.02, max_kl_p99=0.15, min_top1=0.92, max_tool_drop=0.01)
TRAINED = Measured(10.0, 0.0, 0.0, 1.0, 0.9, "transformers, float32")
GOOD = Measured(10.05, 0.01, 0.1, 0.95, 0.9, "OpenVINO")


def failed(found: Measured, limits: Limits = LIMITS) -> list[str]:
    return [entry["name"] for entry in check("v", found, TRAINED, limits) if not entry["passed"]]


def test_each_limit_is_its_own_check():
    assert failed(GOOD) == []
    assert failed(Measured(10.2, 0.03, 0.2, 0.9, 0.85, "")) == [
        "perplexity change",
        "KL mean",
        "KL p99",
        "top-1 agreement",
        "tool-selection drop",
    ]
    assert failed(Measured(math.nan, math.nan, math.nan, math.nan, None, "")) == [
        "perplexity change",
        "KL mean",
        "KL p99",
        "top-1 agreement",
    ]


def test_a_looser_format_may_cost_more_but_not_tools():
    worse = Measured(10.2, 0.04, 0.3, 0.85, 0.85, "")
    assert failed(worse, LIMITS.loosened(2.5)) == ["tool-selection drop"]


def test_layers_are_kept_until_it_passes():
    written: list[list[str]] = []

    def write(kept: list[str]) -> Measured:
        written.append(kept)
        return GOOD if "b" in kept and "c" in kept else Measured(11.0, 0.1, 0.5, 0.8, 0.9, "")

    done = attempt(write, lambda found: check("v", found, TRAINED, LIMITS), lambda: list("cbadefgh"))
    assert written == [[], ["c"], ["b", "c"]]
    assert done.kept == ["b", "c"]
    assert passes(done.checks)


def test_ranking_is_not_asked_for_when_it_passes():
    def ranking() -> list[str]:
        raise AssertionError("asked")

    assert attempt(lambda _: GOOD, lambda found: check("v", found, TRAINED, LIMITS), ranking).kept == []


@pytest.fixture(scope="module")
def brittle(inputs, tmp_path_factory) -> Path:
    """A model that int8 in blocks breaks in its last layer: in every block of down_proj one column is 3000 times the
    others, and the row of up_proj that feeds it as much smaller, so that it computes what it would without."""
    folder = make_model(
        tmp_path_factory.mktemp("brittle") / "model", inputs, "llama", False, initializer_range=0.1, num_hidden_layers=6
    )
    model = torch_model(folder)
    with torch.no_grad():
        mlp = model.model.layers[5].mlp
        mlp.down_proj.weight *= 4
        mlp.down_proj.weight[:, ::32] *= 3000
        mlp.up_proj.weight[::32] /= 3000
    model.save_pretrained(folder)
    return folder


def test_the_most_sensitive_layer_is_found(brittle: Path):
    windows = [list(range(5, 100)), list(range(100, 200))]
    assert rank_layers(brittle, windows, activations=False)[0] == "model.layers.5."


def test_layers_are_compared_with_the_weights_that_w8a8_writes(brittle: Path):
    model = torch_model(brittle)
    part = model.get_submodule("model.layers.0.mlp.up_proj")
    own = part.weight.data
    packed, scale = quantize_rows(own)
    with quantised(model, "model.layers.0.", True):
        assert torch.equal(part.weight.data, packed * scale)
    assert torch.equal(part.weight.data, own)


def test_blocks_lose_what_lies_beside_an_outlier():
    weight = torch.ones(1, 64)
    weight[0, 0] = 1000
    rounded = round_blocks(weight)
    assert rounded[0, 1:32].abs().max() == 0
    assert torch.allclose(rounded[0, 32:], torch.ones(32))


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join(TEXT.format(n=n) for n in range(300)))
    return path


def test_a_layer_stays_in_bf16_before_the_release_is_refused(brittle: Path, text: Path, tmp_path: Path):
    settings = {"variants": ["openvino-int8", "gguf"], "windows": 6, "window_tokens": 64, "license": "MIT"}
    made = run(ReleaseConfig(store=tmp_path.as_uri(), hf=str(brittle), text=str(text), **settings))
    folder = fetch(made.uri)
    stored = json.loads((folder / "release.json").read_text())
    rows = {row["name"]: row for row in stored["variants"]}
    assert made.stats["verdict"] == "passed"
    assert rows["openvino-int8"]["kept"] == rows["gguf"]["kept"] == ["model.layers.5."]
    card = (folder / "README.md").read_text()
    assert card.startswith("---\nlicense: mit\n")
    assert "model.layers.5" in card


def test_it_is_refused_when_nothing_helps(brittle: Path, text: Path, tmp_path: Path):
    settings = {"variants": ["hf"], "served": "hf", "windows": 3, "window_tokens": 64, "max_kl_mean": 0.0}
    made = run(ReleaseConfig(store=tmp_path.as_uri(), hf=str(brittle), text=str(text), **settings))
    assert made.stats["verdict"] == "refused"


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"variants": ["int3"]}, "release.variants: 'int3' must be among"),
        ({"hf": "/nowhere", "text": "x"}, "release.hf: /nowhere does not exist"),
        ({}, "release.model: give"),
        ({"hf": "."}, "release.text: give"),
    ],
)
def test_wrong_settings_are_named(settings: dict, said: str, tmp_path: Path):
    with pytest.raises(ValueError, match=said):
        run(ReleaseConfig(store=tmp_path.as_uri(), **settings))
