"""Settings of `mantus serve`. It does not import kserve."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class ServeConfig(BaseModel):
    """What to serve and where."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    release: str = ".mantus/release"
    """A release: its folder, or its artifact URI."""
    name: str = "mantus"
    """The model's name in the API."""
    host: str = "127.0.0.1"
    """Address to listen on."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port to listen on."""
    threads: int = Field(default=0, ge=0)
    """Threads of the engine; 0: all processors."""
    cache_gib: float = Field(default=1.0, gt=0)
    """KV cache in GiB."""
    max_waiting: int = Field(default=256, ge=1)
    """Replies in flight before new requests are told to come back later (429)."""
    max_tokens: int = Field(default=0, ge=0)
    """Longest reply in tokens; 0: what the context has room for."""
    max_body_bytes: int = Field(default=4 << 20, ge=1024)
    """Largest request body."""
    api_keys_file: str = ""
    """A file of API keys, one a line; empty: no key is asked for."""
    engine: Literal["auto", "openvino", "torch", "onnx"] = "auto"
    """Engine: auto takes the release's own, and torch with the bf16 weights where that one fails its self-test."""
    drain_seconds: int = Field(default=30, ge=0)
    """Time for replies under way when the server is told to end."""
    allow_refused: bool = False
    """Serve a release that the gate refused."""
