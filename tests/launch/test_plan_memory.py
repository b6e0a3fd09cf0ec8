"""The memory of a process, as planned: what autograd keeps is counted; what does not fit is refused before anything."""

from pathlib import Path
from typing import Any

import pytest
import torch

from mantus.cli import main
from mantus.launch.plan import training
from mantus.launch.plan.arithmetic import evaluate
from mantus.model.config import resolve_size
from mantus.model.transformer import Transformer, init_weights
from mantus.training.objectives.loss import NextToken

SHAPE = {"hidden_size": 192, "num_layers": 3, "num_heads": 6, "num_kv_heads": 2, "head_dim": 32}


def planned(settings: dict[str, Any]) -> dict[str, float]:
    recipe = {"pretrain": {"steps": 10, **settings}, "tokenizer": {"vocab_size": 1000}}
    known = {name: item.value for name, item in training.training_of(recipe).inputs().items()}
    return known | {line.formula.name: line.value for line in evaluate(training.FORMULAS, known)}


def kept_bytes(arch: str, dtype: torch.dtype, recompute: bool, rows: int, seq_len: int) -> int:
    """Of tensors that autograd keeps of one forward pass, weights and their copies left out."""
    model = Transformer(resolve_size("nano", 1000, **SHAPE, arch=arch))
    init_weights(model, 1)
    model.recompute = recompute
    module = NextToken(model, dtype)
    ids = torch.randint(1000, (rows, seq_len))
    weights = {tuple(weight.shape[::turn]) for weight in model.parameters() for turn in (1, -1)}
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tuple(tensor.shape) not in weights:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    alive = []  # so that no address is used twice
    with torch.autograd.graph.saved_tensors_hooks(lambda t: (alive.append(t), keep(t))[1], lambda t: t):
        module(ids, ids)
    return sum(kept.values())


@pytest.mark.parametrize("arch", ["qwen3", "llama"])
@pytest.mark.parametrize("dtype", ["fp32", "bf16"])
def test_activations_are_what_autograd_keeps(arch: str, dtype: str):
    rows, seq_len = 4, 64
    found = planned({"overrides": {**SHAPE, "arch": arch}, "dtype": dtype, "batch_tokens": rows * seq_len})
    precision = {"fp32": torch.float32, "bf16": torch.bfloat16}[dtype]
    counted = kept_bytes(arch, precision, False, rows, seq_len)
    assert found["activation_memory"] == pytest.approx(counted, rel=0.15)


def test_recomputing_and_passes_save_activations():
    whole = planned({"batch_tokens": 8192})
    assert planned({"batch_tokens": 8192, "recompute": True})["activation_memory"] < whole["activation_memory"] / 3
    passes = planned({"batch_tokens": 8192, "micro_tokens": 1024})
    assert passes["activation_memory"] == pytest.approx(whole["activation_memory"] / 8)


@pytest.mark.parametrize(
    ("how", "shares"),
    [
        ({}, (1, 1, 1)),
        ({"strategy": "fsdp2"}, (4, 4, 4)),
        ({"strategy": "fsdp2", "replicas": 2}, (2, 2, 2)),
        ({"strategy": "fsdp2", "tensor": 2}, (4, 4, 4)),
        ({"strategy": "deepspeed", "zero_stage": 1}, (1, 1, 4)),
        ({"strategy": "deepspeed", "zero_stage": 2}, (1, 4, 4)),
        ({"strategy": "deepspeed", "zero_stage": 3}, (4, 4, 4)),
    ],
)
def test_each_strategy_divides_what_it_divides(how: dict[str, Any], shares: tuple[int, int, int]):
    alone = planned({"optimizer": "adamw"})
    divided = planned({"optimizer": "adamw", "processes": 4, **how})
    names = ("weight_memory", "gradient_memory", "optimizer_memory")
    assert tuple(round(alone[name] / divided[name]) for name in names) == shares


def test_what_cannot_fit_is_refused_with_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = tmp_path / "large.yaml"
    recipe.write_text("pretrain: {size: 8b, steps: 10, optimizer: adamw}\ntokenizer: {vocab_size: 32000}\n")
    with pytest.raises(SystemExit) as ended:
        main(["plan", "--config", str(recipe), "--device-gib", "80"])
    assert ended.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    [line] = said.err.strip().splitlines()
    assert line.startswith("mantus: pretrain: does not fit: each process needs 1")
    assert "115 GB for weights, gradients and optimiser: strategy fsdp2" in line
