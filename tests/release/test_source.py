"""Any directory of the Llama, Qwen2 or Qwen3 class is read, exported and says the same; others get one clear line."""

import json
from pathlib import Path

import pytest
import torch

from mantus.inference.logits import PromptLogits
from mantus.release.export import convert_gguf
from mantus.release.gguf import write_gguf
from mantus.release.source import half, open_source, write_model
from tests.release.others import logits, make_model

IDS = list(range(5, 45))


@pytest.mark.parametrize(("kind", "tied"), [("llama", True), ("llama", False), ("qwen2", False), ("qwen3", False)])
def test_gguf_of_other_classes_says_the_same(kind: str, tied: bool, inputs, tmp_path: Path):
    folder = make_model(tmp_path / "model", inputs, kind, tied)
    write_gguf(open_source(folder), tmp_path / "gguf" / "model.gguf", "F16")
    convert_gguf(tmp_path / "gguf" / "model.gguf", tmp_path / "openvino")
    expected = logits(folder, IDS).log_softmax(-1)
    found = torch.from_numpy(PromptLogits(tmp_path / "openvino", {"INFERENCE_PRECISION_HINT": "f32"}).logprobs(IDS))
    divergence = (expected.exp() * (expected - found)).sum(-1)
    assert divergence.max() < 1e-3


def test_sharded_weights_are_read(inputs, tmp_path: Path):
    folder = make_model(tmp_path / "model", inputs, "qwen2", False)
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(folder).save_pretrained(tmp_path / "shards", max_shard_size="50KB")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        (tmp_path / "shards" / name).write_bytes((folder / name).read_bytes())
    assert len(list((tmp_path / "shards").glob("*.safetensors"))) > 1
    one, many = (dict(open_source(path).weights()) for path in (folder, tmp_path / "shards"))
    assert one.keys() == many.keys()
    assert all(torch.equal(one[name], many[name]) for name in one)


def test_bf16_keeps_the_chat_template(inputs, tmp_path: Path):
    folder = make_model(tmp_path / "model", inputs, "llama", True)
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    settings["chat_template"] = (folder / "chat_template.jinja").read_text()
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    (folder / "chat_template.jinja").unlink()
    source = open_source(folder)
    write_model(source, tmp_path / "hf", half(source.weights()), dtype="bfloat16")
    assert (tmp_path / "hf" / "chat_template.jinja").read_text() == settings["chat_template"]
    assert {tensor.dtype for _, tensor in open_source(tmp_path / "hf").weights()} == {torch.bfloat16}
    assert logits(tmp_path / "hf", IDS).shape == (len(IDS), 384)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"model_type": "mamba"}, "model_type 'mamba' is not one of llama, qwen2, qwen3"),
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 1e4}}, "rope_type 'llama3' cannot be exported"),
        ({"attention_bias": True}, "attention_bias True cannot be exported"),
        ({"hidden_act": "gelu"}, "hidden_act 'gelu' cannot be exported; expected 'silu'"),
    ],
)
def test_what_cannot_be_exported_is_named(changed: dict, said: str, inputs, tmp_path: Path):
    folder = make_model(tmp_path / "model", inputs, "llama", True)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changed))
    with pytest.raises(ValueError, match=said) as raised:
        open_source(folder)
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("missing", ["config.json", "model.safetensors", "tokenizer.json"])
def test_missing_files_are_named(missing: str, inputs, tmp_path: Path):
    folder = make_model(tmp_path / "model", inputs, "llama", True)
    (folder / missing).unlink()
    with pytest.raises(ValueError, match=r"no .* here"):
        open_source(folder)


def test_an_unknown_pre_tokenizer_is_named(inputs, tmp_path: Path):
    folder = make_model(tmp_path / "model", inputs, "llama", True)
    stored = json.loads((folder / "tokenizer.json").read_text())
    stored["pre_tokenizer"] = {"type": "Whitespace"}
    (folder / "tokenizer.json").write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="its pre-tokenizer has no name in GGUF"):
        write_gguf(open_source(folder), tmp_path / "model.gguf")
