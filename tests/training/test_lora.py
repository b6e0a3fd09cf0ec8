"""Adapters: nothing changes at first, only they are trained, folded in they give the same logits."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.utils.flop_counter import FlopCounterMode

from mantus.data.conversations.tooldata import ToolDataConfig
from mantus.data.conversations.tooldata import run as make_tooldata
from mantus.model.config import flops_per_token, resolve_size
from mantus.model.hf import load_model
from mantus.model.transformer import Transformer, init_weights
from mantus.storage import fetch
from mantus.training.objectives.lora import adapt, merged
from mantus.training.objectives.loss import NextToken
from mantus.training.sft import SftConfig, run


def small() -> Transformer:
    model = Transformer(resolve_size("nano", 320, num_layers=2, hidden_size=64, num_heads=2, num_kv_heads=1))
    init_weights(model, 1)
    return model


def test_at_first_nothing_changes_and_only_adapters_are_trained():
    plain, adapted = small(), small()
    adapt(adapted, 4, 8.0, seed=1)
    ids = torch.arange(40).view(2, 20)
    assert torch.equal(plain(ids), adapted(ids))
    trained = {name for name, weight in adapted.named_parameters() if weight.requires_grad}
    assert len(trained) == 2 * 7 * 2
    assert all(name.endswith(("lora_A", "lora_B")) for name in trained)


@pytest.mark.parametrize("rank", [0, 1])
def test_the_work_of_a_token_is_what_torch_counts(rank: int):
    shape = resolve_size("nano", 320)
    model = Transformer(shape)
    if rank:
        adapt(model, rank, 8.0, seed=1)
    ids = torch.arange(128).view(2, 64)
    with FlopCounterMode(display=False) as counted:
        NextToken(model, torch.float32)(ids, ids).backward()
    assert counted.get_total_flops() == pytest.approx(128 * flops_per_token(shape, 64, bool(rank)), rel=0.06)


def test_folded_in_they_give_the_same_logits():
    adapted, plain = small(), small()
    adapt(adapted, 4, 8.0, seed=1)
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        for name, weight in adapted.named_parameters():
            if name.endswith("lora_B"):
                weight.normal_(std=0.1, generator=generator)
    plain.load_state_dict(merged(adapted.state_dict(), 8.0 / 4))
    ids = torch.arange(40).view(2, 20)
    assert (plain(ids) - small()(ids)).abs().max() > 0.1
    assert torch.allclose(plain(ids), adapted(ids), atol=1e-4)


def test_tuning_writes_model_and_adapter_that_agree(inputs, trained):
    talk = make_tooldata(ToolDataConfig(store=inputs["store"], rows=60, heldout_rows=12, unseen_rows=0)).uri
    settings = {"seq_len": 1024, "batch_tokens": 2048, "dtype": "fp32", "optimizer": "adamw", "lr": 1e-2, "warmup": 2}
    tuned = run(SftConfig(store=inputs["store"], model=trained.uri, data=[talk], steps=8, lora_rank=4, **settings))
    out, base = fetch(tuned.uri), fetch(trained.uri)
    config = json.loads((out / "adapter" / "adapter_config.json").read_text())
    assert (config["peft_type"], config["r"], config["lora_alpha"]) == ("LORA", 4, 16.0)
    again = load_model(base)
    adapt(again, 4, 16.0, seed=0)
    again.load_state_dict({**again.state_dict(), **adapter(out / "adapter")})
    ids = torch.arange(60).view(2, 30)
    assert torch.allclose(load_model(out)(ids), again(ids), atol=1e-4)
    before, after = (load_file(folder / "model.safetensors") for folder in (base, out))
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {name for name in before if "_proj" in name}


def adapter(folder: Path) -> dict[str, torch.Tensor]:
    """An adapter's weights under the names they have in training."""
    found = load_file(folder / "adapter_model.safetensors")
    return {name.removeprefix("base_model.model.").removesuffix(".weight"): value for name, value in found.items()}
