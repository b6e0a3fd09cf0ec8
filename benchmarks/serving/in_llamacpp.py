"""What a GGUF says in llama.cpp: nats a token, and greedy tokens; runs in an environment that has xllamacpp.

JSON in: {gguf, windows, prompts, max_tokens, stop_ids}.  JSON out, the last line: {nll, tokens, margins}.
llama.cpp's server reports the log probability of a token that it generates, before any bias: each token of a window is
forced by a bias, and the windows before it are in the cache.
"""

import json
import sys
from typing import Any

FORCED = 1e6
THREADS = 2


def main() -> None:
    """Answer one question."""
    import xllamacpp

    question = json.load(sys.stdin)
    parameters = xllamacpp.CommonParams()
    parameters.model.path = question["gguf"]
    parameters.n_ctx = 1024
    parameters.verbosity = -1
    parameters.n_parallel = 1
    parameters.cpuparams.n_threads = parameters.cpuparams_batch.n_threads = THREADS
    server = xllamacpp.Server(parameters)
    scores = [score(server, window) for window in question["windows"]]
    flat = [value for window in scores for value in window]
    tokens, margins = [], []
    for prompt in question["prompts"]:
        found = greedy(server, prompt, question["max_tokens"], question["stop_ids"])
        tokens.append([token for token, _ in found])
        margins.append([margin for _, margin in found])
    nll = -sum(flat) / len(flat) if flat else 0.0
    print("\n" + json.dumps({"nll": nll, "tokens": tokens, "margins": margins}))


def ask(server: Any, prompt: list[int], **settings: Any) -> list[dict[str, Any]]:
    """The tokens that follow a prompt, with their probabilities as the model has them."""
    body = {"prompt": prompt, "temperature": 0, "cache_prompt": True, "return_tokens": True, **settings}
    answer = server.handle_completions(body)
    return list(answer["choices"][0]["logprobs"]["content"])


def score(server: Any, window: list[int]) -> list[float]:
    """Log probabilities of a window's tokens from the second on."""
    found = []
    for at in range(1, len(window)):
        token = window[at]
        (said,) = ask(server, window[:at], n_predict=1, n_probs=1, logit_bias=[[token, FORCED]])
        assert said["id"] == token
        found.append(said["logprob"])
    return found


def greedy(server: Any, prompt: list[int], max_tokens: int, stop_ids: list[int]) -> list[tuple[int, float]]:
    """Greedy tokens, and how much likelier each was than the runner-up, in nats."""
    found = []
    for said in ask(server, prompt, n_predict=max_tokens, n_probs=2):
        best, other = (entry["logprob"] for entry in said["top_logprobs"][:2])
        found.append((said["id"], best - other))
        if said["id"] in stop_ids:
            break
    return found


if __name__ == "__main__":
    main()
