"""What every training process runs: read the job, build batches and model, train, and let the first one save.

It knows job files written by pretrain.py and sft.py. `torchrun -m mantus.training.worker job.json`
"""

import json
import os
import sys
import traceback
from pathlib import Path
from statistics import median
from typing import Any

import torch

from mantus.model.config import count_params, resolve_size
from mantus.model.hf import load_model, save_model
from mantus.model.induction import add_copying
from mantus.model.transformer import Transformer, init_weights
from mantus.processes import die_with_parent
from mantus.storage import open_store
from mantus.text.tokenizer import Tokenizer
from mantus.training.launch import FAILED
from mantus.training.loop import Loop, Plan
from mantus.training.objectives.lora import adapt, merged, save_adapter
from mantus.training.objectives.objective import make_objective
from mantus.training.services import open_services
from mantus.training.speed import dtype_of, peak_flops
from mantus.training.strategies.checkpoint import Checkpoints
from mantus.training.strategies.distributed import join, shutdown_distributed
from mantus.training.strategies.native import device, make_strategy
from mantus.training.trackers import Trackers

PEER_LOST = ("Connection closed by peer", "Connection reset by peer", "Broken pipe", "Timed out waiting", "timed out")
"""What gloo says when another process of the group is gone."""


def main(path: str) -> None:
    """Run one job to its end."""
    die_with_parent()
    job = json.loads(Path(path).read_text())
    settle_arithmetic()
    try:
        rank, world = join()
        train(job, rank, world)
        shutdown_distributed()
    except BaseException as error:  # noqa: BLE001 - whatever it is, it must be told before this process ends
        _tell(Path(job["scratch"]), error)
        sys.stderr.flush()
        os._exit(error.code if isinstance(error, SystemExit) and isinstance(error.code, int) else 1)
        # at once: others may be gone, and gloo's own end would wait for them, or abort


def settle_arithmetic() -> None:
    """The same sums every time, and no denormal numbers, in this process and in the threads that it starts later.

    Such sums need no new tensor to be filled before an operator writes it, which torch does to show what reads memory
    that nothing has written: a twentieth of a small model's step.

    The moments of rows that have had no gradient for some hundred steps, such as those of rare tokens, end as denormal
    numbers, which never decay to zero: AdamW then takes twenty times as long for them.
    """
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    torch.set_flush_denormal(True)


def _tell(scratch: Path, error: BaseException) -> None:
    """Leave for launch.py why this process ends, and whether the same work may be tried again."""
    text = " ".join(str(error).split()) or type(error).__name__
    stopped = isinstance(error, SystemExit)
    again = stopped or any(sign in text for sign in PEER_LOST)
    if not stopped:
        traceback.print_exc()
    told = {"error": f"{type(error).__name__}: {text}", "again": again, "rank": int(os.environ.get("RANK", "0"))}
    (scratch / f"{FAILED}{os.environ.get('LOCAL_RANK', '0')}.json").write_text(json.dumps(told))


def train(job: dict[str, Any], rank: int, world: int) -> None:
    """Train, then write the model from the first process. Everything that holds tensors is dropped on return."""
    config = job["config"]
    tokenizer = Tokenizer.load(Path(job["tokenizer"]))
    model = _model(job, tokenizer).to(device())
    objective = make_objective(job, model, tokenizer, rank, world)
    strategy = make_strategy(objective.module, config)
    plan = Plan(steps=objective.steps, **{name: config[name] for name in Plan.__slots__ if name != "steps"})
    store = open_store(job["store"]) if config["upload_checkpoints"] else None
    checkpoints = Checkpoints(Path(job["scratch"]) / "checkpoints", 2, store, f"checkpoint/{job['key']}")
    peak = peak_flops(dtype_of(config["dtype"]))
    tensor = config["tensor"] if world > 1 else 1
    frozen = bool(config.get("lora_rank"))
    loop = Loop(strategy, model.config, plan, objective, checkpoints, rank, world, job["key"], peak, tensor, frozen)
    if rank == 0:
        services = open_services(config, job["what"], job["key"])
        with Trackers(Path(job["scratch"]) / "trackers", config["metrics_port"], services) as trackers:
            loop.run(trackers, job["what"])
    else:
        loop.run(None, job["what"])
    weights = strategy.weights()
    if rank == 0:
        out, rank_of, alpha = Path(job["out"]), config.get("lora_rank", 0), config.get("lora_alpha", 0.0)
        if rank_of:
            save_adapter(weights, rank_of, alpha, out / "adapter")
            weights = merged(weights, alpha / rank_of)
        save_model(model, Path(job["tokenizer"]), out, state=weights)
        (out / "history.jsonl").write_text("".join(json.dumps(row) + "\n" for row in loop.history))
        Path(job["stats"]).write_text(json.dumps(_stats(loop)))


def _stats(loop: Loop) -> dict[str, Any]:
    final = [row["heldout_loss"] for row in loop.history if "heldout_loss" in row]
    stats = {"steps": loop.plan.steps, "parameters": count_params(loop.model), **loop.objective.notes}
    skipped = {"skipped_steps": loop.skipped} if loop.skipped else {}
    settled = loop.speeds[len(loop.speeds) // 3 :]  # the first ones warm up
    speed = {"tokens_per_second": round(median(settled), 1)} if settled else {}
    return {**stats, **speed, **skipped, **({"heldout_loss": final[-1]} if final else {})}


def _model(job: dict[str, Any], tokenizer: Tokenizer) -> Transformer:
    config = job["config"]
    if job["base"]:
        base = load_model(Path(job["base"]))
        if base.config.vocab_size < tokenizer.vocab_size:
            sizes = f"{base.config.vocab_size} tokens, the tokenizer {tokenizer.vocab_size}"
            raise ValueError(f"base: the model knows {sizes}; give the tokenizer that it was made with")
        if config.get("lora_rank"):
            adapt(base, config["lora_rank"], config["lora_alpha"], config["seed"])
        return base
    model = Transformer(resolve_size(config["size"], tokenizer.vocab_size, **config["overrides"]))
    init_weights(model, config["seed"])
    if config["copy_circuit"]:
        add_copying(model, torch.Generator().manual_seed(config["seed"]))
    return model


if __name__ == "__main__":
    main(sys.argv[1])
