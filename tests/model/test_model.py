"""The transformer is causal, equals Hugging Face's, and its files come back."""

from pathlib import Path

import pytest
import torch

from mantus.model.config import SIZES, count_params, resolve_size
from mantus.model.hf import load_model, save_model
from mantus.model.induction import add_copying
from mantus.model.transformer import Transformer, init_weights
from mantus.text.tokenizer import train

TINY = {"hidden_size": 64, "num_layers": 2, "num_heads": 4, "num_kv_heads": 2, "head_dim": 32}


@pytest.fixture(scope="module")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokenizer")
    train(["the quick brown fox jumps over the lazy dog " * 50], 280, out)
    return out


def tiny(arch: str = "qwen3") -> Transformer:
    model = Transformer(resolve_size("nano", 280, **TINY, intermediate_size=96, arch=arch))
    init_weights(model, 0)
    return model.eval()


def test_changing_a_token_changes_nothing_before_it():
    model, ids = tiny(), torch.randint(280, (1, 20))
    changed = ids.clone()
    changed[0, 12] += 1
    with torch.no_grad():
        before, after = model(ids), model(changed)
    assert torch.equal(before[:, :12], after[:, :12])
    assert not torch.equal(before[:, 12:], after[:, 12:])


@pytest.mark.parametrize("arch", ["qwen3", "llama"])
def test_logits_equal_hugging_faces(arch: str, tokenizer_folder: Path, tmp_path: Path):
    from transformers import AutoModelForCausalLM

    model = tiny(arch)
    save_model(model, tokenizer_folder, tmp_path)
    theirs = AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32).eval()
    ids = torch.randint(280, (2, 33))
    with torch.no_grad():
        assert (theirs(ids).logits - model(ids)).abs().max() < 1e-4


def test_files_come_back_and_are_the_same_twice(tokenizer_folder: Path, tmp_path: Path):
    model = tiny()
    save_model(model, tokenizer_folder, tmp_path / "a")
    again = load_model(tmp_path / "a")
    save_model(again, tokenizer_folder, tmp_path / "b")
    assert again.config == model.config
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()


@pytest.mark.parametrize("size", ["nano", "tiny", "mini", "small"])
def test_parameters_are_counted_right(size: str):
    config = resolve_size(size, 4096)
    assert count_params(config) == sum(p.numel() for p in Transformer(config).parameters())


def test_base_is_qwen3_and_mistakes_are_named():
    assert count_params(resolve_size("base", 151_936)) == pytest.approx(596e6, rel=0.01)
    assert len(SIZES) == 8
    with pytest.raises(ValueError, match=r"overrides\.layers: not a field"):
        resolve_size("nano", 300, layers=3)


def test_with_the_copying_circuit_an_untrained_model_continues_what_it_has_read():
    plain = Transformer(resolve_size("nano", 4096))
    init_weights(plain, 1)
    ids = torch.randint(4000, (8, 40), generator=torch.Generator().manual_seed(0)).repeat(1, 2)

    def hits() -> float:
        with torch.no_grad():
            return float((plain(ids[:, :-1]).argmax(-1) == ids[:, 1:])[:, 42:].float().mean())

    before = hits()
    add_copying(plain, torch.Generator().manual_seed(1))
    assert hits() > max(0.02, 20 * before)
    with pytest.raises(ValueError, match="needs two layers and the qwen3 architecture"):
        add_copying(tiny("llama"), torch.Generator())
