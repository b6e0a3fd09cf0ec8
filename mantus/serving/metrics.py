"""Prometheus metrics: vLLM's names, labels and buckets, so that one dashboard serves both; our own start with mantus_.

It knows names and numbers, not requests.
"""

import time
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeVar

from prometheus_client import Counter, Gauge, Histogram

Metric = TypeVar("Metric", Counter, Histogram)

LABELS = ("model_name", "engine")
TTFT = (
    0.001,
    0.005,
    0.01,
    0.02,
    0.04,
    0.06,
    0.08,
    0.1,
    0.25,
    0.5,
    0.75,
    1,
    2.5,
    5,
    7.5,
    10,
    20,
    40,
    80,
    160,
    640,
    2560,
)
ITL = (0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 7.5, 10, 20, 40, 80)
E2E = (0.3, 0.5, 0.8, 1, 1.5, 2, 2.5, 5, 10, 15, 20, 30, 40, 50, 60, 120, 240, 480, 960, 1920, 7680)
SIZES = tuple(m * 10**e for e in range(6) for m in (1, 2, 5))

RUNNING = Gauge("vllm:num_requests_running", "Requests the engine is working on", LABELS)
WAITING = Gauge("vllm:num_requests_waiting", "Requests that wait for the engine", LABELS)
CACHE = Gauge("vllm:kv_cache_usage_perc", "Share of the KV cache in use, 0 to 1", LABELS)
PROMPT_TOKENS = Counter("vllm:prompt_tokens", "Prompt tokens", LABELS)
GENERATED_TOKENS = Counter("vllm:generation_tokens", "Generated tokens", LABELS)
SUCCESS = Counter("vllm:request_success", "Finished requests", (*LABELS, "finished_reason"))
FIRST_TOKEN = Histogram("vllm:time_to_first_token_seconds", "Time to the first token", LABELS, buckets=TTFT)
BETWEEN = Histogram("vllm:inter_token_latency_seconds", "Time between tokens", LABELS, buckets=ITL)
WHOLE = Histogram("vllm:e2e_request_latency_seconds", "Time of a whole request", LABELS, buckets=E2E)
PROMPT_SIZE = Histogram("vllm:request_prompt_tokens", "Prompt tokens a request", LABELS, buckets=SIZES)
REPLY_SIZE = Histogram("vllm:request_generation_tokens", "Generated tokens a request", LABELS, buckets=SIZES)

HTTP = Counter("mantus_http_requests", "HTTP requests", ("path", "code"))
TOOL_CALLS = Counter("mantus_tool_calls", "Tool calls in replies", ("tool", "outcome"))
REDONE = Counter("mantus_tool_calls_redone", "Tool calls that grew too long or broke their schema, and were made again")
MODEL = Gauge("mantus_model_info", "What is served", ("model_name", "release", "variant", "version"))


MAX_NAMES = 100
_names: set[str] = set()


def label(name: str) -> str:
    """A client's name for a tool as a label; 'other' once there are many: each keeps a series for good."""
    if len(_names) < MAX_NAMES:
        _names.add(name)
    return name if name in _names else "other"


@lru_cache
def _series(metric: Metric, model: str) -> Metric:
    """A model's series; finding it takes as long as counting."""
    return metric.labels(model, "0")


@dataclass
class Watch:
    """Times one request and counts its tokens."""

    model: str
    prompt_tokens: int
    start: float = field(default_factory=time.monotonic)
    last: float = 0.0
    tokens: int = 0

    def token(self) -> None:
        """A token has come."""
        now = time.monotonic()
        if self.tokens:
            _series(BETWEEN, self.model).observe(now - self.last)
        else:
            _series(FIRST_TOKEN, self.model).observe(now - self.start)
        _series(GENERATED_TOKENS, self.model).inc()
        self.last, self.tokens = now, self.tokens + 1

    def finish(self, reason: str) -> None:
        """The request is over."""
        _series(WHOLE, self.model).observe(time.monotonic() - self.start)
        _series(PROMPT_TOKENS, self.model).inc(self.prompt_tokens)
        _series(PROMPT_SIZE, self.model).observe(self.prompt_tokens)
        _series(REPLY_SIZE, self.model).observe(self.tokens)
        SUCCESS.labels(self.model, "0", {"cancelled": "abort"}.get(reason, reason)).inc()
