"""Ask an OpenAI-compatible endpoint, or a model's directory, the cases of BFCL, and judge what comes back.

It knows three ways to ask: `free` (no grammar), `auto` (calls that the model opens are held to the schemas) and
`required` (a call is forced). It knows no rows' files.
"""

import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from mantus import console
from mantus.data.conversations.bfcl import Case, offer
from mantus.evaluation.bfcl.rules import Verdict, judge
from mantus.evaluation.tools import ask_all
from mantus.text.calls import Call

WAYS = ("free", "auto", "required")
MAX_TOKENS = 320
NO_CALL = "ast_decoder:decoder_failed"
REFUSED = "endpoint:refused"


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back for a case."""

    case: Case
    calls: list[Call]
    text: str
    verdict: Verdict
    seconds: float = 0.0
    tokens: int = 0

    def row(self) -> dict[str, Any]:
        """The stored form."""
        return {
            "id": self.case.id,
            "category": self.case.category,
            "request": str(self.case.messages[-1]["content"]),
            "offered": [function["name"] for function in self.case.functions],
            "calls": [[call.name, call.arguments] for call in self.calls],
            "text": self.text,
            "error": self.verdict.error,
            "about": self.verdict.about,
        }


def ask(url: str, cases: Sequence[Case], way: str, model: str = "", key: str = "") -> list[Answer]:
    """Ask an endpoint every case, greedily. OSError when it cannot be reached or fails.

    url: up to and with `/v1`.  model, key: where the endpoint wants them.  A case that the endpoint refuses (status
    400) counts as wrong.
    """
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, timeout=300, headers=headers) as client:
        return ask_all(lambda case: _ask(client, case, way, model), cases, f"BFCL, {way}")


def _ask(client: httpx.Client, case: Case, way: str, model: str) -> Answer:
    tools, names = offer(case)
    if way == "free":
        tools = [{**tool, "function": {**tool["function"], "strict": False}} for tool in tools]
    body = {
        "messages": case.messages,
        "tools": tools,
        "tool_choice": "required" if way == "required" else "auto",
        "parallel_tool_calls": "parallel" in case.category,
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
        **({"model": model} if model else {}),
    }
    begin = time.monotonic()
    response = client.post("/chat/completions", json=body)
    seconds = time.monotonic() - begin
    if response.status_code == 400:
        return Answer(case, [], response.text[:200], Verdict(REFUSED), seconds)
    if response.status_code != 200:
        raise OSError(f"{client.base_url}: the endpoint answers {response.status_code}: {response.text[:200]}")
    answer = response.json()
    message = answer["choices"][0]["message"]
    tokens = (answer.get("usage") or {}).get("completion_tokens", 0)
    found = [(call["function"]["name"], call["function"]["arguments"]) for call in message.get("tool_calls") or ()]
    try:
        calls = [Call(names.get(name, name), json.loads(arguments)) for name, arguments in found]
    except ValueError:
        return Answer(case, [], str(found), Verdict(NO_CALL), seconds, tokens)
    return _judged(case, calls, message.get("content") or "", seconds, tokens)


def _judged(case: Case, calls: list[Call], text: str, seconds: float, tokens: int) -> Answer:
    if not calls and "relevance" not in case.category:
        return Answer(case, calls, text, Verdict(NO_CALL), seconds, tokens)
    return Answer(case, calls, text, judge(case.functions, calls, case.truths, case.category), seconds, tokens)


def ask_directory(folder: Path, cases: Sequence[Case]) -> Iterator[Answer]:
    """Ask a model's Hugging Face directory, greedily and without grammar, one case after the other."""
    import torch

    from mantus.model.hf import load_model
    from mantus.model.transformer import generate
    from mantus.text.calls import parse
    from mantus.text.chat import render
    from mantus.text.tokenizer import Tokenizer

    model, tokenizer = load_model(folder).eval(), Tokenizer.load(folder)
    stops = [tokenizer.eot_id, tokenizer.im_end_id]
    with console.progress("BFCL, directory", len(cases), "requests") as bar, torch.inference_mode():
        for case in cases:
            tools, names = offer(case)
            prompt = render(tokenizer, case.messages, tools, open_reply=True).ids
            begin = time.monotonic()
            ids = generate(model, prompt, MAX_TOKENS, stops)
            parsed = parse(tokenizer.decode(id for id in ids if id not in stops))
            whole = [call for call in parsed.calls if isinstance(call, Call)]
            calls = [Call(names.get(call.name, call.name), call.arguments) for call in whole]
            bar.advance()
            yield _judged(case, calls, parsed.content, time.monotonic() - begin, len(ids))
