"""Whether a service does its work: a smoke test, and a canary measured beside the old release.

It knows OpenAI's API and the servers' metrics, not Kubernetes.
"""

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from mantus.launch.deploy.config import DeployConfig
from mantus.launch.deploy.endpoint import Answer, Endpoint

TOOL = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Add two whole numbers.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
            "required": ["a", "b"],
            "additionalProperties": False,
        },
    },
}
LATENCY = "vllm:e2e_request_latency_seconds"
REQUESTS = "mantus_http_requests_total"
PATHS = ("/chat/completions", "/completions")
RETRY_S = 0.5


class Unfit(RuntimeError):
    """The service does not do its work; the message is one line that says what it did instead."""


def smoke(endpoint: Endpoint, timeout_s: float) -> dict[str, Any]:
    """Ask for the models, then for one chat reply with a tool. {model, seconds}; Unfit when an answer is wrong."""
    end = time.monotonic() + timeout_s
    answer = endpoint.ask("GET", "/v1/models", timeout_s=5)
    while answer.status in (0, 502, 503) and time.monotonic() < end:  # the Service's rules take a moment
        time.sleep(RETRY_S)
        answer = endpoint.ask("GET", "/v1/models", timeout_s=5)
    model = _model(answer)
    reply = chat(endpoint, model, max(1.0, end - time.monotonic()))
    if wrong := fault(reply):
        raise Unfit(f"a chat call with a tool: {wrong}")
    return {"model": model, "seconds": round(reply.seconds, 3)}


def chat(endpoint: Endpoint, model: str, timeout_s: float) -> Answer:
    """One chat request that has to call a tool."""
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "Add 2 and 3."}],
        "tools": [TOOL],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "temperature": 0,
        "max_tokens": 96,
    }
    return endpoint.ask("POST", "/v1/chat/completions", body, timeout_s)


def fault(reply: Answer) -> str:
    """What is wrong with a reply that should call the tool, '' when nothing is."""
    import jsonschema

    if reply.status != 200:
        return f"{f'status {reply.status}' if reply.status else 'no answer'}: {_said(reply.text)}"
    try:
        (call,) = json.loads(reply.text)["choices"][0]["message"]["tool_calls"]
        if call["function"]["name"] != "add":
            return f"it called {call['function']['name']!r}, which was not offered"
        jsonschema.validate(json.loads(call["function"]["arguments"]), TOOL["function"]["parameters"])  # type: ignore[index]
    except (ValueError, KeyError, TypeError, IndexError, jsonschema.ValidationError):
        return f"no valid tool call in {reply.text[:200]}"
    return ""


@dataclass(frozen=True, slots=True)
class Counts:
    """What servers have counted: requests, those that failed on their side, and how long finished ones took."""

    requests: float = 0
    errors: float = 0
    finished: float = 0
    seconds: float = 0

    def since(self, before: "Counts") -> "Counts":
        """The difference."""
        return Counts(
            self.requests - before.requests,
            self.errors - before.errors,
            self.finished - before.finished,
            self.seconds - before.seconds,
        )


def count(servers: Sequence[Endpoint]) -> Counts:
    """The sum of what these servers' /metrics say."""
    from prometheus_client.parser import text_string_to_metric_families

    requests = errors = finished = seconds = 0.0
    for server in servers:
        answer = server.ask("GET", "/metrics", timeout_s=10)
        for family in text_string_to_metric_families(answer.text) if answer.status == 200 else ():
            for sample in family.samples:
                if sample.name == REQUESTS and sample.labels.get("path") in PATHS:
                    requests += sample.value
                    errors += sample.value if sample.labels.get("code", "").startswith("5") else 0
                elif sample.name == f"{LATENCY}_sum":
                    seconds += sample.value
                elif sample.name == f"{LATENCY}_count":
                    finished += sample.value
    return Counts(requests, errors, finished, seconds)


@dataclass
class Side:
    """One of the two services measured side by side."""

    endpoint: Endpoint
    servers: Sequence[Endpoint]
    model: str

    def __post_init__(self) -> None:
        self.before = count(self.servers)
        self.answers: list[Answer] = []

    def ask(self, timeout_s: float) -> None:
        """One request more."""
        self.answers.append(chat(self.endpoint, self.model, timeout_s))

    @property
    def error_rate(self) -> float:
        """Failed requests over all, as its clients and as it itself counted them: the larger."""
        seen = sum(bool(fault(answer)) for answer in self.answers) / len(self.answers)
        counted = count(self.servers).since(self.before)
        return max(seen, counted.errors / counted.requests if counted.requests else 0.0)

    @property
    def token_s(self) -> float:
        """Seconds a token of the median reply: other clients' requests and longer answers do not count."""
        return median(answer.seconds / _tokens(answer) for answer in self.answers)

    @property
    def latency_s(self) -> float:
        """Mean seconds of a request, as the servers measured it; as its clients did where they do not say."""
        counted = count(self.servers).since(self.before)
        if counted.finished > 0:
            return counted.seconds / counted.finished
        return sum(answer.seconds for answer in self.answers) / len(self.answers)


def measure(canary: Side, old: Side | None, config: DeployConfig) -> list[dict[str, Any]]:
    """Ask both by turns, so that what else the machine does meets both; the canary's checks in the gate's form."""
    for _ in range(config.canary_requests):
        for side in (canary, old) if old else (canary,):
            side.ask(config.smoke_timeout_s)
    checks = [
        _check("error rate", canary.error_rate, config.max_error_rate, "{:.1%}"),
        _check("mean latency", canary.latency_s, config.max_latency_s, "{:.3f} s"),
    ]
    if old and not any(fault(answer) for side in (canary, old) for answer in side.answers):
        slowdown = canary.token_s / old.token_s
        checks.append(_check("time a token over the old release's", slowdown, config.max_slowdown, "{:.2f}"))
    return checks


def _check(name: str, value: float, limit: float, form: str) -> dict[str, Any]:
    message = f"{name} {form.format(value)}, limit {form.format(limit)}"
    return {"name": name, "value": round(value, 4), "limit": limit, "passed": value <= limit, "message": message}


def _tokens(answer: Answer) -> int:
    """Tokens of a good reply; 1 where the server does not count them."""
    try:
        return max(1, int(json.loads(answer.text)["usage"]["completion_tokens"]))
    except (ValueError, KeyError, TypeError):
        return 1


def _model(answer: Answer) -> str:
    if answer.status != 200:
        raise Unfit(f"/v1/models: {f'status {answer.status}' if answer.status else 'no answer'}: {_said(answer.text)}")
    try:
        return str(json.loads(answer.text)["data"][0]["id"])
    except (ValueError, KeyError, TypeError, IndexError):
        raise Unfit(f"/v1/models: not a list of models: {answer.text[:200]}") from None


def _said(text: str) -> str:
    try:
        found = json.loads(text)["error"]
        text = found["message"] if isinstance(found, dict) else str(found)
    except (ValueError, KeyError, TypeError):
        pass
    return " ".join(text.split())[:300] or "it said nothing"
