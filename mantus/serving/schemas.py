"""Requests of the OpenAI API as types; fields that nobody here reads are accepted and ignored.

It knows shapes and limits, not engines.
"""

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field


class Generation(BaseModel):
    """What chat and plain completions share."""

    model_config = ConfigDict(extra="ignore")

    model: str = ""
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0)
    seed: int | None = None
    stop: str | list[str] | None = None
    n: int = Field(default=1, ge=1, le=16)
    stream: bool = False
    stream_options: dict[str, Any] | None = None
    max_tokens: int | None = Field(default=None, ge=0)

    @property
    def stops(self) -> list[str]:
        """Stop strings as a list."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return bool((self.stream_options or {}).get("include_usage"))


class ChatRequest(Generation):
    """POST /v1/chat/completions."""

    messages: list[dict[str, Any]] = Field(min_length=1)
    tools: list[dict[str, Any]] = Field(default_factory=list)
    tool_choice: str | dict[str, Any] = ""
    parallel_tool_calls: bool = True
    response_format: dict[str, Any] | None = None
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False

    @property
    def choice(self) -> str:
        """auto, none, required, or the name of one tool. ValueError on anything else."""
        if not self.tool_choice:
            return "auto" if self.tools else "none"
        if isinstance(self.tool_choice, dict):
            return str((self.tool_choice.get("function") or {}).get("name", ""))
        if self.tool_choice not in ("auto", "none", "required"):
            raise ValueError(f"tool_choice: {self.tool_choice!r} is not auto, none, required or a function")
        return self.tool_choice


class CompletionRequest(Generation):
    """POST /v1/completions. `prompt` is text, ids, or a list of either."""

    prompt: str | list[str] | list[int] | list[list[int]]
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=20)


class TokenizeRequest(BaseModel):
    """POST /tokenize."""

    model_config = ConfigDict(extra="ignore")

    prompt: str = ""
    messages: list[dict[str, Any]] = Field(default_factory=list)
    tools: list[dict[str, Any]] = Field(default_factory=list)
    add_generation_prompt: bool = True


class DetokenizeRequest(BaseModel):
    """POST /detokenize."""

    model_config = ConfigDict(extra="ignore")

    tokens: list[int]


class ErrorBody(BaseModel):
    """OpenAI's error shape."""

    message: str
    type: Literal["invalid_request_error", "not_found_error", "rate_limit_error", "server_error"]
    param: str | None = None
    code: int
