"""The cost of pretraining as formulas: parameters, FLOPs, memory of each process, time.

It knows a recipe's `pretrain` section and the shape of models; the speed is given, or measured by a few real steps.
"""

import json
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mantus.launch.figures import machine, today
from mantus.launch.phases import parse_config
from mantus.launch.plan import memory
from mantus.launch.plan.arithmetic import Formula, Input
from mantus.model.config import ModelConfig, count_params, matmul_params, resolve_size
from mantus.processes import child_environment, num_processors, run_child

F = Formula
STEPS = 5
MAX_STEP_FLOPS = 3e12
"""Of a step that is measured here; 5 such steps take about two minutes of one processor."""

FORMULAS = (
    F("pretrain_tokens", "steps * batch_tokens", "tokens", "tokens trained on"),
    F("flops_per_token", "6 * matmul_params + 12 * layers * heads * head_dim * seq_len / 2", "FLOP",
      "FLOPs of a token, forward and backward"),
    F("flops", "pretrain_tokens * flops_per_token", "FLOP", "FLOPs in all"),
    F("tokens_per_parameter", "pretrain_tokens / parameters", "", "tokens for each parameter (20: compute-optimal)"),
    *memory.FORMULAS,
    F("model_store", "parameters * 4", "B", "the model (safetensors, float32)"),
)  # fmt: skip
ETA = F("pretrain_h", "flops / (flops_per_s * devices) / 3600", "h", "hours")


@dataclass(frozen=True, slots=True)
class Training:
    """What a recipe asks of pretraining."""

    size: str
    shape: ModelConfig
    config: dict[str, Any]

    def inputs(self) -> dict[str, Input]:
        """Numbers that the recipe decides."""
        hidden = matmul_params(self.shape) - self.shape.vocab_size * self.shape.hidden_size
        recipe = ("steps", "batch_tokens", "seq_len")
        found = [Input(name, self.config[name], "", f"pretrain.{name}", "recipe") for name in recipe]
        facts = {
            "parameters": (count_params(self.shape), "weights, shared ones once"),
            "matmul_params": (matmul_params(self.shape), "weights that multiply every token"),
            "muon_parameters": (hidden if self.config["optimizer"] == "muon" else 0, "weights that Muon moves"),
            "layers": (self.shape.num_layers, "layers"),
            "heads": (self.shape.num_heads, "attention heads"),
            "head_dim": (self.shape.head_dim, "width of a head"),
        }
        found += [Input(name, value, "", text, f"size {self.size}") for name, (value, text) in facts.items()]
        found += memory.inputs(self.shape, self.config)
        return {item.name: item for item in found}


def training_of(recipe: Mapping[str, Any]) -> Training:
    """The model and the schedule of a recipe. ValueError names a field that is wrong."""
    settings = dict(recipe.get("pretrain") or {})
    needed = {"tokens": "file:///unknown", "tokenizer": "file:///unknown"}
    config = parse_config("pretrain", {**needed, **settings}, where="pretrain").model_dump()
    shape = resolve_size(config["size"], vocab_of(recipe), **config["overrides"])
    if not config["steps"]:
        raise ValueError("pretrain.steps: 0 steps train nothing; nothing to plan")
    return Training(config["size"], shape, config)


def vocab_of(recipe: Mapping[str, Any]) -> int:
    """The vocabulary that a recipe's tokenizer will have."""
    settings = dict(recipe.get("tokenizer") or {})
    config = parse_config("tokenizer", {"corpus": "file:///unknown", **settings}, where="tokenizer").model_dump()
    return int(config["vocab_size"])


def speed(training: Training, flops: float) -> Input:
    """FLOP/s of one device: those given (0: none), else measured by a few steps of this model on this machine.

    ValueError when a step is too large to be measured here, RuntimeError when the steps fail.
    """
    if flops:
        return Input("flops_per_s", flops, "FLOP/s", "what a device sustains", "flag --flops")
    values = {item.name: item.value for item in training.inputs().values()}
    step = values["batch_tokens"] * 6 * values["matmul_params"]
    if step > MAX_STEP_FLOPS:
        raise ValueError(
            f"pretrain: a step of {step:.1e} FLOPs is not measured here (at most {MAX_STEP_FLOPS:.0e}); "
            "give --flops, the FLOP/s that a device sustains"
        )
    job = {"size": training.size, "vocab_size": training.shape.vocab_size, **training.config}
    command = [sys.executable, "-m", "mantus.launch.plan.training", json.dumps(job)]
    paths = os.pathsep.join(filter(None, sys.path))
    done = run_child(command, env=child_environment(1, PYTHONPATH=paths, TORCH_CPP_LOG_LEVEL="ERROR"))
    if done.returncode:
        lines = done.stderr.strip().splitlines() or [f"exit {done.returncode}"]
        raise RuntimeError(f"measuring pretraining failed: {lines[-1]}")
    rate = float(done.stdout.split()[-1]) * num_processors()
    origin = f"measured {today()} on {machine()}"
    return Input("flops_per_s", rate, "FLOP/s", "what this machine's processors would do without loss", origin)


def measure(job: dict[str, Any]) -> float:
    """FLOP/s of one processor: the cheapest of a few steps on random tokens, by the model's own count of FLOPs.

    One thread and its processor time, since threads that wait for each other on a busy machine burn several times it.
    """
    import torch

    from mantus.model.config import flops_per_token
    from mantus.model.transformer import Transformer, init_weights
    from mantus.training.objectives.loss import NextToken
    from mantus.training.speed import dtype_of
    from mantus.training.strategies.optim import make_optimizers

    model = Transformer(resolve_size(job["size"], job["vocab_size"], **job["overrides"]))
    init_weights(model, job["seed"])
    module = NextToken(model, dtype_of(job["dtype"]), job["z_loss"])
    named = (job["optimizer"], job["lr"], job["weight_decay"], job["embedding_lr"])
    optimizers = make_optimizers(model, *named, module.dtype)
    rows = max(1, job["batch_tokens"] // job["seq_len"])
    ids = torch.randint(job["vocab_size"], (rows, job["seq_len"]))
    times = []
    for _ in range(STEPS):
        begin = time.process_time()
        (module(ids, ids) / ids.numel()).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        times.append(time.process_time() - begin)
    return ids.numel() * flops_per_token(model.config, job["seq_len"]) / min(times)


if __name__ == "__main__":
    print(measure(json.loads(sys.argv[1])))
