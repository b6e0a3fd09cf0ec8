"""Mantus' engine without its server; prints its Speeds: FOLDER PLAN.json THREADS."""

import json
import sys
import threading
import time
from pathlib import Path

from benchmarks.serving.plan import Plan, Speeds, middle, prompts
from mantus.inference.engine import Engine, Sampling, Token, open_engine


def rate(engine: Engine, batch: list[list[int]], tokens: int) -> float:
    """Output tokens a second of a batch that arrives at once."""
    start = time.perf_counter()
    engine.complete(batch, Sampling(max_tokens=tokens, ignore_stop=True))
    return len(batch) * tokens / (time.perf_counter() - start)


def main() -> None:
    """Measure and print."""
    folder, plan, threads = Path(sys.argv[1]), Plan(**json.loads(Path(sys.argv[2]).read_text())), int(sys.argv[3])
    engine = open_engine(folder, threads, 1.0)

    def times(ids: list[int], tokens: int) -> list[float]:
        """Seconds until each token of one reply."""
        start, seen = time.perf_counter(), []
        done = threading.Event()

        def take(token: Token) -> None:
            seen.append(time.perf_counter() - start)
            if token.finish:
                done.set()

        engine.submit(ids, Sampling(max_tokens=tokens, ignore_stop=True), take)
        done.wait()
        return seen

    times(prompts(plan, 1, 16, 99)[0], 8)
    firsts = [times(ids, 1)[0] for ids in prompts(plan, plan.repeats, plan.prompt, 0)]
    num_in, num_out = plan.decode
    decoded = [times(ids, num_out) for ids in prompts(plan, plan.repeats, num_in, 1)]
    rates = [(num_out - 1) / (seen[-1] - seen[0]) for seen in decoded]
    throughput = {}
    for streams in plan.streams:
        batches = [prompts(plan, streams, plan.load[0], 1000 * streams + repeat) for repeat in range(plan.repeats)]
        throughput[str(streams)] = middle([rate(engine, batch, plan.load[1]) for batch in batches])
    print(Speeds(middle(firsts), middle(rates), throughput).as_json(), flush=True)
    time.sleep(2)  # its memory is read meanwhile
    engine.close()


if __name__ == "__main__":
    main()
