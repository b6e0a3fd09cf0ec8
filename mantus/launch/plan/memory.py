"""The memory of one training process as formulas: weights, gradients, optimiser, activations, head, and what fits.

It knows what each strategy divides and what the transformer keeps for its backward pass, not speeds.
A test counts the tensors that are kept and holds the formula to them.
"""

from collections.abc import Mapping
from typing import Any

from mantus.launch.plan.arithmetic import Formula, Input, show
from mantus.model.config import ModelConfig

F = Formula

FORMULAS = (
    F("weight_memory", "parameters * 4 / weight_shards", "B", "weights (float32)", shown=False),
    F("gradient_memory", "parameters * 4 / gradient_shards", "B", "gradients", shown=False),
    F("optimizer_memory", "(4 * muon_parameters + 8 * (parameters - muon_parameters)) / optimizer_shards", "B",
      "optimiser: one moment with Muon, two with AdamW", shown=False),
    F("state_memory", "weight_memory + gradient_memory + optimizer_memory", "B",
      "memory of each process without activations"),
    F("bucket_memory", "8 * min(5e8, parameters) * buckets", "B", "what DeepSpeed exchanges at once", shown=False),
    F("copy_memory", "compute_bytes * (matmul_params if compute_bytes < 4 or weight_shards > 1 else 0)"
      " / (layers / 2 if weight_shards > 1 else 1)", "B",
      "weights in the precision of products, of all layers or of the two that are gathered", shown=False),
    F("layer_bytes", "compute_bytes * (4 * hidden + 4 * intermediate + (3 + qk_norm) * head_dim * (heads + kv_heads))",
      "B", "what a layer keeps of a token", shown=False),
    F("activation_memory", "pass_tokens * (compute_bytes * hidden * layers + layer_bytes / tensor_shards if recompute"
      " else layer_bytes * layers / tensor_shards)", "B", "activations kept for the backward pass"),
    F("head_memory", "vocab_size * hidden * 4 + 3 * 512 * vocab_size * 4 + 2 * pass_tokens * hidden * compute_bytes",
      "B", "the head's gradient, a chunk of its logits", shown=False),
    F("rank_memory", "state_memory + bucket_memory + copy_memory + activation_memory + head_memory", "B",
      "memory of each process in training"),
)  # fmt: skip


def inputs(shape: ModelConfig, config: Mapping[str, Any]) -> list[Input]:
    """What the formulas need to know of a model and of a training config."""
    processes, tensor = config["processes"], config["tensor"]
    zero = config["zero_stage"] if config["strategy"] == "deepspeed" else 0
    each = processes // config["replicas"] if config["strategy"] == "fsdp2" else processes
    divided = [config["strategy"] == "fsdp2" or zero >= stage for stage in (3, 2, 1)]
    weights, gradients, optimizer = (each if whole else 1 for whole in divided)
    tokens = config["batch_tokens"] * tensor / processes
    found = {
        "hidden": (shape.hidden_size, "width"),
        "intermediate": (shape.intermediate_size, "width of the feed-forward part"),
        "kv_heads": (shape.num_kv_heads, "key/value heads"),
        "vocab_size": (shape.vocab_size, "rows of the embedding"),
        "qk_norm": (int(shape.arch == "qwen3"), "whether queries and keys are normalised"),
        "weight_shards": (weights, "processes that divide the weights"),
        "gradient_shards": (gradients, "processes that divide the gradients"),
        "optimizer_shards": (optimizer, "processes that divide the optimiser"),
        "tensor_shards": (tensor, "processes that divide a layer's work"),
        "buckets": (int(zero > 0), "whether DeepSpeed has its buckets"),
        "recompute": (int(config["recompute"]), "whether layers are computed again for gradients"),
        "compute_bytes": (4 if config["dtype"] == "fp32" else 2, "a number in matrix products"),
        "pass_tokens": (min(tokens, config["micro_tokens"] or tokens), "tokens that a process works on at once"),
    }
    return [Input(name, value, "", meaning, "recipe") for name, (value, meaning) in found.items()]


def check(values: Mapping[str, float], device_bytes: float) -> None:
    """ValueError with one line when a process needs more than a device has: what is largest, and the way out."""
    need = values["rank_memory"]
    if need <= device_bytes:
        return
    parts = {
        "weights, gradients and optimiser": ("state_memory", "strategy fsdp2 with more processes divides them"),
        "activations": ("activation_memory", "smaller micro_tokens or recompute saves them"),
        "the head": ("head_memory", "a smaller vocabulary saves it"),
        "copies of weights": ("copy_memory", "strategy fsdp2 divides them"),
        "DeepSpeed's buckets": ("bucket_memory", "strategy fsdp2 has none"),
    }
    name, (field, way) = max(parts.items(), key=lambda part: values[part[1][0]])
    has = f"each process needs {show(need, 'B')}, its device has {show(device_bytes, 'B')}"
    raise ValueError(f"pretrain: does not fit: {has}; of that {show(values[field], 'B')} for {name}: {way}")
