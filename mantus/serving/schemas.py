"""Requests of the OpenAI API as types; fields that change nothing here (user, metadata, store) are ignored.

It knows shapes and limits, not engines. What a field asks for and no engine does is refused, not ignored.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator

MAX_CHOICES = 128
"""Replies that one request may ask for: prompts x n."""

Name = Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9_.-]{1,64}$")]
Stop = Annotated[str, StringConstraints(max_length=256)]

Prompts = (
    str
    | list[int]
    | Annotated[list[str], Field(max_length=MAX_CHOICES)]
    | Annotated[list[list[int]], Field(max_length=MAX_CHOICES)]
)
"""Text, ids, or a list of either."""


class Shape(BaseModel):
    """What all of them share."""

    model_config = ConfigDict(extra="ignore")


class StreamOptions(Shape):
    """`stream_options`."""

    include_usage: bool = False


class Generation(Shape):
    """What chat and plain completions share."""

    model: str = ""
    temperature: float = Field(default=1.0, ge=0, le=2)
    top_p: float = Field(default=1.0, gt=0, le=1)
    top_k: int = Field(default=0, ge=0, le=1 << 20)
    presence_penalty: float = Field(default=0.0, ge=-2, le=2)
    frequency_penalty: float = Field(default=0.0, ge=-2, le=2)
    seed: int | None = Field(default=None, ge=-(1 << 63), lt=1 << 63)
    stop: Stop | Annotated[list[Stop], Field(max_length=16)] | None = None
    n: int = Field(default=1, ge=1, le=16)
    stream: bool = False
    stream_options: StreamOptions | None = None
    max_tokens: int | None = Field(default=None, ge=0)
    ignore_eos: bool = False
    """vLLM's: go on to the limit of tokens."""
    logit_bias: Annotated[dict[str, float], Field(max_length=0)] | None = None

    @property
    def stops(self) -> list[str]:
        """Stop strings as a list."""
        return [self.stop] if isinstance(self.stop, str) else list(self.stop or ())

    @property
    def wants_usage(self) -> bool:
        """Whether a stream ends with a usage chunk."""
        return self.stream_options is not None and self.stream_options.include_usage


class Function(Shape):
    """A tool's function."""

    name: Name
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = Field(default=None, exclude=True)
    """Whether a grammar holds calls to the schema; the model is not told."""


class Tool(Shape):
    """One offered tool."""

    type: Literal["function"] = "function"
    function: Function


class TextPart(Shape):
    """A part of a message."""

    type: Literal["text"]
    text: str


class CalledFunction(Shape):
    """The function of a call in the history; arguments as JSON text or as an object."""

    name: Name
    arguments: str | dict[str, Any]


class ToolCall(Shape):
    """A call in the history."""

    id: str = ""
    type: Literal["function"] = "function"
    function: CalledFunction


class Message(Shape):
    """One turn. `developer` is OpenAI's newer name of `system`."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: str | list[TextPart] | None = None
    tool_calls: list[ToolCall] | None = None
    tool_call_id: str | None = None

    def plain(self) -> dict[str, Any]:
        """The message as `text.chat.render` takes it."""
        found = self.model_dump(exclude_none=True)
        return {**found, "role": "system" if self.role == "developer" else self.role}


class ChosenFunction(Shape):
    """The name in `tool_choice`."""

    name: str


class Choice(Shape):
    """`tool_choice` that names a tool."""

    type: Literal["function"] = "function"
    function: ChosenFunction


class JSONSchema(Shape):
    """`response_format.json_schema`."""

    name: str = ""
    schema_: dict[str, Any] = Field(default_factory=dict, alias="schema")
    strict: bool | None = None


class ResponseFormat(Shape):
    """`response_format`."""

    type: Literal["text", "json_object", "json_schema"] = "text"
    json_schema: JSONSchema | None = None


class ChatRequest(Generation):
    """POST /v1/chat/completions."""

    messages: list[Message] = Field(min_length=1)
    tools: list[Tool] = Field(default_factory=list, max_length=128)
    tool_choice: Literal["auto", "none", "required"] | Choice | None = None
    parallel_tool_calls: bool = True
    response_format: ResponseFormat | None = None
    max_tokens: int | None = Field(default=None, ge=1)
    max_completion_tokens: int | None = Field(default=None, ge=1)
    logprobs: bool = False
    top_logprobs: int = Field(default=0, ge=0, le=20)

    @field_validator("tools", "parallel_tool_calls", "logprobs", "top_logprobs", mode="before")
    @classmethod
    def _null_is_absent(cls, value: Any, info: Any) -> Any:
        return cls.model_fields[info.field_name].get_default(call_default_factory=True) if value is None else value

    @property
    def offered(self) -> list[dict[str, Any]]:
        """The tools as the dialect takes them."""
        return [tool.model_dump(exclude_none=True) for tool in self.tools]

    @property
    def choice(self) -> str:
        """auto, none, required, or the name of one tool."""
        if isinstance(self.tool_choice, Choice):
            return self.tool_choice.function.name
        return self.tool_choice or ("auto" if self.tools else "none")


class CompletionRequest(Generation):
    """POST /v1/completions. `prompt` is text, ids, or a list of either."""

    prompt: Prompts
    echo: bool = False
    logprobs: int | None = Field(default=None, ge=0, le=20)
    suffix: Annotated[str, StringConstraints(max_length=0)] | None = None
    best_of: int | None = Field(default=None, ge=1, le=1)


class EmbeddingRequest(Shape):
    """POST /v1/embeddings. `input` as `prompt` of a completion."""

    model: str = ""
    input: Prompts
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: int | None = Field(default=None, ge=1)


class TokenizeRequest(Shape):
    """POST /tokenize."""

    model: str = ""
    prompt: str = ""
    messages: list[Message] = Field(default_factory=list)
    tools: list[Tool] = Field(default_factory=list)
    add_generation_prompt: bool = True


class DetokenizeRequest(Shape):
    """POST /detokenize."""

    model: str = ""
    tokens: list[Annotated[int, Field(ge=0, lt=1 << 31)]]


class ErrorBody(BaseModel):
    """OpenAI's error shape."""

    message: str
    type: Literal[
        "invalid_request_error", "authentication_error", "not_found_error", "rate_limit_error", "server_error"
    ]
    param: str | None = None
    code: int


def inlined(model: type[BaseModel]) -> dict[str, Any]:
    """A model's JSON schema without references, as an OpenAPI operation of ours carries it."""
    schema = model.model_json_schema()
    definitions = schema.pop("$defs", {})

    def resolve(value: Any) -> Any:
        if isinstance(value, dict):
            target = str(value.get("$ref", "")).removeprefix("#/$defs/")
            return resolve(definitions[target]) if target else {name: resolve(item) for name, item in value.items()}
        return [resolve(item) for item in value] if isinstance(value, list) else value

    found: dict[str, Any] = resolve(schema)
    return found
