"""Opening the right engine for a server: memory first, then a self-test in a process of its own, then the model.

It knows folders and engines, not what is served. An engine that dies of an illegal instruction on this processor, or
computes nonsense, takes only the test with it; the torch engine then serves the release's bf16 weights.
"""

import hashlib
import json
import math
import os
import sys
from importlib import metadata
from pathlib import Path

from mantus import console
from mantus.inference.engine import Engine, Sampling, engine_of, open_engine
from mantus.processes import child_environment, processor_flags, run_child
from mantus.storage.artifact import cache_root
from mantus.storage.sums import check_sums

WEIGHTS = ("*.bin", "*.safetensors", "*.onnx.data")
OVERHEAD = 1.3
"""Memory that a loaded model takes beside the cache, in sizes of its weights."""
PROMPTS = tuple(tuple(range(start, start + 24)) for start in (10, 60, 110))
REPLY_TOKENS = 8
FOLDERS = {"torch": "hf", "openvino": "openvino-int8", "onnx": "onnx-int8"}
"""Engine -> the folder of a release that it reads."""
PACKAGES = {"torch": "torch", "openvino": "openvino-genai", "onnx": "onnxruntime-genai"}


def start_engine(folder: Path, choice: str, threads: int, cache_gib: float) -> tuple[Engine, Path]:
    """The engine to serve with, and the folder that it serves; `choice` is auto, openvino, torch or onnx.

    ValueError names the folder and what is wrong with it: no model, damaged, larger than memory, fails its self-test.
    """
    chosen = _variant(folder, choice)
    check_sums(chosen)
    problem = self_test(chosen, threads, cache_gib)
    if problem and choice == "auto" and engine_of(chosen) != "torch":
        other = _variant(folder, "torch")
        console.say(f"serve: {chosen.name} fails its self-test here ({problem}); serving {other.name} with torch")
        check_sums(other)
        chosen, problem = other, self_test(other, threads, cache_gib)
    if problem:
        raise ValueError(f"{chosen}: the model fails its self-test: {problem}")
    return open_engine(chosen, threads, cache_gib, checked=True), chosen


def _variant(folder: Path, choice: str) -> Path:
    """The folder, or the one beside it, that the engine reads."""
    if choice == "auto" or engine_of(folder) == choice:
        return folder
    other = folder.parent / FOLDERS[choice]
    if not other.is_dir() or engine_of(other) != choice:
        raise ValueError(f"serve.engine: {folder.parent} holds nothing that the engine {choice} reads")
    return other


def self_test(folder: Path, threads: int, cache_gib: float) -> str:
    """'' when the model loads and works on this machine, else why not. What passed here once is not tested again."""
    check_memory(folder, cache_gib)
    passed = cache_root() / "selftest" / _fingerprint(folder)
    if passed.is_file():
        return ""
    words = ["-m", "mantus.inference.start", str(folder), str(threads), str(cache_gib)]
    done = run_child([sys.executable, *words], env=child_environment(threads))
    if done.returncode < 0 or done.returncode >= 128:
        return f"the engine was killed by signal {-done.returncode if done.returncode < 0 else done.returncode - 128}"
    if done.returncode:
        return " ".join((done.stderr.strip().splitlines() or [f"exit {done.returncode}"])[-1].split())
    passed.parent.mkdir(parents=True, exist_ok=True)
    passed.touch()
    return ""


def check_memory(folder: Path, cache_gib: float) -> None:
    """ValueError when the weights and the cache need more memory than this machine, or this container, has left."""
    weights = sum(path.stat().st_size for kind in WEIGHTS for path in folder.glob(kind)) / (1 << 30)
    needed, free = OVERHEAD * weights + cache_gib, available_gib()
    if needed > free:
        raise ValueError(
            f"{folder}: the model needs about {needed:.1f} GiB ({weights:.1f} of weights, {cache_gib:g} of KV cache) "
            f"and {free:.1f} GiB are free; lower cache_gib, or give the container more memory"
        )


def available_gib() -> float:
    """Memory that this process may still take: the machine's, cut by the container's limit (cgroup v2)."""
    lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    free = int(lines["MemAvailable"].split()[0]) * 1024
    group = Path("/sys/fs/cgroup")
    try:
        limit, used = (group / "memory.max").read_text().strip(), int((group / "memory.current").read_text())
    except OSError:
        limit, used = "max", 0
    return (free if limit == "max" else min(free, int(limit) - used)) / (1 << 30)


def _fingerprint(folder: Path) -> str:
    """What the outcome depends on: the engine's version, the processor, the files."""
    name = PACKAGES[engine_of(folder)]
    files = [(path.name, path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.iterdir())]
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        version = ""
    told = json.dumps([name, version, sorted(processor_flags()), str(folder.resolve()), files])
    return hashlib.blake2b(told.encode(), digest_size=16).hexdigest()


def examine(engine: Engine) -> str:
    """'' when the engine's replies make sense, else what does not.

    The likeliest of V tokens has a log probability of -log V at least; the same request has the same reply, alone and
    beside others.
    """
    sampling = Sampling(max_tokens=REPLY_TOKENS, ignore_stop=True)
    prompts = [[index % engine.vocab_size for index in prompt] for prompt in PROMPTS]
    together = engine.complete(prompts, sampling)
    for reply in together:
        if len(reply) != REPLY_TOKENS or reply[-1].finish != "length":
            return f"a reply ends with {reply[-1].finish} ({reply[-1].note}) after {len(reply)} tokens"
        for token in reply:
            if not -math.log(engine.vocab_size) - 0.1 <= token.logprob <= 0.001:
                return f"token {token.id} has the log probability {token.logprob}"
    alone = engine.complete(prompts[:1], sampling)[0]
    if [token.id for token in alone] != [token.id for token in together[0]]:
        return "a prompt is continued otherwise alone than beside others"
    return ""


def main() -> None:
    """The test's own process: a folder, threads, the cache in GiB."""
    folder, threads, cache_gib = sys.argv[1:]
    try:
        engine = open_engine(Path(folder), int(threads), float(cache_gib), checked=True)  # start_engine has
    except (RuntimeError, ValueError, OSError, KeyError, ImportError) as error:
        sys.exit("it cannot be loaded: " + " ".join(str(error).split()))
    problem = examine(engine)
    sys.stderr.write(problem)
    sys.stderr.flush()
    os._exit(1 if problem else 0)  # engines' threads need no orderly end here


if __name__ == "__main__":
    main()
