"""Train one shape by another library's means and print its speed: runs in that library's own environment.

`python peers.py trainer|plain|litgpt '{"tokens": FILE, "steps": N, "bf16": true, "compile": false, ...}'`. It knows
nothing of Mantus. Prints one line of JSON: seconds of each step, loss of the last.
"""

import json
import statistics
import sys
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch

Batch = tuple[torch.Tensor, torch.Tensor]


def batches(given: dict[str, Any]) -> Iterator[Batch]:
    """ids and targets [rows, seq_len], at random places of the file."""
    tokens = np.fromfile(given["tokens"], dtype="<u2").astype(np.int64)
    chance = np.random.default_rng(1)
    while True:
        starts = chance.integers(0, len(tokens) - given["seq_len"] - 1, given["rows"])
        rows = torch.from_numpy(np.stack([tokens[at : at + given["seq_len"] + 1] for at in starts]))
        yield rows[:, :-1], rows[:, 1:]


def qwen3(given: dict[str, Any]) -> Any:
    """The shape as transformers has it."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    torch.manual_seed(1)
    return Qwen3ForCausalLM(Qwen3Config(**given["shape"], tie_word_embeddings=True, attn_implementation="sdpa"))


def trainer(given: dict[str, Any]) -> dict[str, Any]:
    """transformers' Trainer, its default precision unless bf16 is asked for."""
    import tempfile

    from transformers import Trainer, TrainerCallback, TrainingArguments

    stream = batches(given)
    rows = [row for _ in range(given["steps"]) for row in next(stream)[0]]
    times: list[float] = []
    losses: list[float] = []

    class Clock(TrainerCallback):
        def on_step_begin(self, *_: Any, **__: Any) -> None:
            times.append(-time.perf_counter())

        def on_step_end(self, *_: Any, **__: Any) -> None:
            times[-1] += time.perf_counter()

        def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
            losses.extend([logs["loss"]] if "loss" in logs else [])

    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            per_device_train_batch_size=given["rows"],
            max_steps=given["steps"],
            learning_rate=given["lr"],
            bf16=given["bf16"],
            torch_compile=given["compile"],
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
            disable_tqdm=True,
        )
        data = [{"input_ids": row, "labels": row} for row in rows]
        Trainer(model=qwen3(given), args=arguments, train_dataset=data, callbacks=[Clock()]).train()
    return {"seconds": times, "loss": losses[-1]}


def plain(given: dict[str, Any]) -> dict[str, Any]:
    """A loop of a dozen lines around the same model: autocast, fused AdamW, compiled as a whole where asked."""
    model = qwen3(given)
    optimizer = torch.optim.AdamW(model.parameters(), lr=given["lr"], betas=(0.9, 0.95), fused=True)

    def loss_of(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        logits = model(input_ids=ids).logits
        return torch.nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return loop(given, loss_of, list(model.parameters()), optimizer)


def litgpt(given: dict[str, Any]) -> dict[str, Any]:
    """litgpt's model and its chunked loss, as its pretraining puts them together."""
    from litgpt import GPT, Config
    from litgpt.utils import chunked_cross_entropy

    shape = given["shape"]
    config = Config(
        block_size=given["seq_len"],
        padded_vocab_size=shape["vocab_size"],
        vocab_size=shape["vocab_size"],
        n_layer=shape["num_hidden_layers"],
        n_head=shape["num_attention_heads"],
        n_query_groups=shape["num_key_value_heads"],
        n_embd=shape["hidden_size"],
        head_size=shape["head_dim"],
        intermediate_size=shape["intermediate_size"],
        rotary_percentage=1.0,
        rope_base=1_000_000,
        parallel_residual=False,
        bias=False,
        norm_class_name="RMSNorm",
        mlp_class_name="LLaMAMLP",
        norm_qk=True,
    )
    torch.manual_seed(1)
    model = GPT(config)
    model.lm_head.weight = model.transformer.wte.weight
    optimizer = torch.optim.AdamW(model.parameters(), lr=given["lr"], betas=(0.9, 0.95), fused=True)

    def loss_of(ids: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return chunked_cross_entropy(model(ids), targets, chunk_size=0)

    return loop(given, loss_of, list(model.parameters()), optimizer)


def loop(given: dict[str, Any], loss_of: Any, parameters: list[Any], optimizer: Any) -> dict[str, Any]:
    """Steps with clipping, timed."""
    step = torch.compile(loss_of) if given["compile"] else loss_of
    times, loss = [], torch.zeros(())
    for _, (ids, targets) in zip(range(given["steps"]), batches(given), strict=False):
        begin = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=given["bf16"]):
            loss = step(ids, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        times.append(time.perf_counter() - begin)
    return {"seconds": times, "loss": float(loss.detach())}


if __name__ == "__main__":
    asked = json.loads(sys.argv[2])
    found = {"trainer": trainer, "plain": plain, "litgpt": litgpt}[sys.argv[1]](asked)
    found["median"] = statistics.median(found["seconds"][len(found["seconds"]) // 3 :])
    print(json.dumps(found))
