"""Settings of `mantus serve`. It does not import kserve."""

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
    """Requests in flight before new ones are told to come back later (429)."""
    max_body_bytes: int = Field(default=4 << 20, ge=1024)
    """Largest request body."""
    allow_refused: bool = False
    """Serve a release that the gate refused."""
