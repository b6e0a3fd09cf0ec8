"""Score tool calls of an OpenAI-compatible endpoint: the right tool, the right arguments, and none where none fits.

It knows chat rows and HTTP, not models.
"""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import httpx

from mantus import console
from mantus.evaluation.scores import Score, share
from mantus.text.calls import Call, check_call
from mantus.text.chat import calls_of

Asked = TypeVar("Asked")
Answered = TypeVar("Answered")
CONCURRENT = 8
MAX_TOKENS = 320
"""Three times the longest call of the shipped tools."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """One row, asked and judged."""

    row: dict[str, Any]
    expected: list[Call]
    found: list[Call]
    text: str
    valid: bool
    """Every call fits the schema of an offered tool, and no text looks like a broken call."""
    seconds: float
    tokens: int

    @property
    def chosen(self) -> bool:
        """The right tools, in order; none where none fits."""
        return [call.name for call in self.found] == [call.name for call in self.expected]

    @property
    def exact(self) -> bool:
        """The right tools with the right arguments."""
        said = [(call.name, call.arguments) for call in self.found]
        return said == [(call.name, call.arguments) for call in self.expected]


def ask(url: str, rows: Sequence[dict[str, Any]], choice: str, what: str) -> list[Outcome]:
    """Ask the endpoint every row's request, greedily. OSError when it cannot be reached."""
    with httpx.Client(base_url=url, timeout=120) as client:
        return ask_all(lambda row: _ask(client, row, choice), rows, what)


def ask_all(one: Callable[[Asked], Answered], items: Sequence[Asked], what: str) -> list[Answered]:
    """What `one` gives for each item, in order, several requests at a time."""
    with ThreadPoolExecutor(CONCURRENT) as pool, console.progress(what, len(items), "requests") as bar:
        answers = []
        for answer in pool.map(one, items):
            answers.append(answer)
            bar.advance()
        return answers


def _ask(client: httpx.Client, row: dict[str, Any], choice: str) -> Outcome:
    messages = row["messages"]
    last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
    body = {
        "messages": messages[:last],
        "tools": row["tools"],
        "tool_choice": choice,
        "parallel_tool_calls": False,
        "temperature": 0,
        "max_tokens": MAX_TOKENS,
    }
    begin = time.monotonic()
    response = client.post("/chat/completions", json=body)
    seconds = time.monotonic() - begin
    if response.status_code != 200:
        raise OSError(f"{client.base_url}: the endpoint answers {response.status_code}: {response.text[:200]}")
    answer = response.json()
    message = answer["choices"][0]["message"]
    found = [
        Call(call["function"]["name"], json.loads(call["function"]["arguments"]))
        for call in message.get("tool_calls") or ()
    ]
    text = message.get("content") or ""
    valid = all(check_call(call, row["tools"]) == "" for call in found) and "<tool_call>" not in text
    if choice == "required":
        valid = valid and bool(found) and not text
    return Outcome(row, calls_of(messages[last]), found, text, valid, seconds, answer["usage"]["completion_tokens"])


def scores(task: str, auto: Sequence[Outcome], required: Sequence[Outcome]) -> list[Score]:
    """Selection and arguments where a call is due, silence where none is, parse rate under the grammar."""
    calls = [outcome for outcome in auto if outcome.expected]
    silent = [outcome for outcome in auto if not outcome.expected]
    found = [
        share(task, "tool_selection", [outcome.chosen for outcome in calls], "endpoint"),
        share(task, "arguments_exact", [outcome.exact for outcome in calls], "endpoint"),
        share(task, "parse_rate", [outcome.valid for outcome in required], "endpoint"),
        share(task, "tool_selection_required", [outcome.chosen for outcome in required], "endpoint"),
    ]
    if silent:
        found.append(share(task, "irrelevance", [outcome.chosen for outcome in silent], "endpoint"))
    return found
