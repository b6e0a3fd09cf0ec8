"""transformers' generate with batches of equal length, its best case; prints its Speeds: FOLDER PLAN.json THREADS."""

import json
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.serving.peers import precision
from benchmarks.serving.plan import Plan, Speeds, middle, prompts


def main() -> None:
    """Measure and print."""
    import torch
    from transformers import AutoModelForCausalLM

    folder, plan, threads = sys.argv[1], Plan(**json.loads(Path(sys.argv[2]).read_text())), int(sys.argv[3])
    torch.set_num_threads(threads)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=precision()).eval()

    def seconds(batch: list[list[int]], tokens: int) -> float:
        ids = torch.tensor(batch)
        start = time.perf_counter()
        with torch.inference_mode():
            mask = torch.ones_like(ids)
            model.generate(
                ids, attention_mask=mask, max_new_tokens=tokens, min_new_tokens=tokens, do_sample=False, pad_token_id=0
            )
        return time.perf_counter() - start

    seconds(prompts(plan, 1, 16, 99), 8)
    firsts = [seconds([ids], 1) for ids in prompts(plan, plan.repeats, plan.prompt, 0)]
    num_in, num_out = plan.decode
    rates = [
        (num_out - 1) / (seconds([ids], num_out) - seconds([ids], 1)) for ids in prompts(plan, plan.repeats, num_in, 1)
    ]
    throughput = {}
    for streams in plan.streams:
        batches = [prompts(plan, streams, plan.load[0], 1000 * streams + repeat) for repeat in range(plan.repeats)]
        throughput[str(streams)] = middle([streams * plan.load[1] / seconds(batch, plan.load[1]) for batch in batches])
    print(Speeds(middle(firsts), middle(rates), throughput).as_json(), flush=True)
    time.sleep(2)  # its memory is read meanwhile


if __name__ == "__main__":
    main()
