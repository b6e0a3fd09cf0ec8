"""API keys: requests without one of them get 401, except probes, metrics and the page that asks for a key.

It knows headers and paths, not what is asked.
"""

import hmac
import json
from pathlib import Path

from starlette.types import ASGIApp, Receive, Scope, Send

OPEN = ("/", "/health", "/metrics", "/v2/health/live", "/v2/health/ready")
"""Answered without a key: what Kubernetes and Prometheus ask."""


def read_keys(path: str) -> list[str]:
    """The keys in a file, one a line; none when `path` is ''. ValueError when the file is missing or has none."""
    if not path:
        return []
    try:
        keys = Path(path).read_text(encoding="utf-8").split()
    except OSError as error:
        raise ValueError(f"serve.api_keys_file: {path} cannot be read: {error.strerror}") from None
    if not keys:
        raise ValueError(f"serve.api_keys_file: {path} holds no key")
    return keys


class KeyGuard:
    """ASGI middleware: `Authorization: Bearer <key>`, compared in constant time."""

    def __init__(self, app: ASGIApp, keys: list[str]) -> None:
        self._app, self._keys = app, [key.encode() for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer 401."""
        if scope["type"] != "http" or scope["path"] in OPEN or self._is_known(scope):
            await self._app(scope, receive, send)
            return
        error = {"message": "the API key is missing or wrong", "type": "authentication_error", "code": 401}
        headers = [(b"content-type", b"application/json"), (b"www-authenticate", b"Bearer")]
        await send({"type": "http.response.start", "status": 401, "headers": headers})
        await send({"type": "http.response.body", "body": json.dumps({"error": error}).encode()})

    def _is_known(self, scope: Scope) -> bool:
        given = dict(scope["headers"]).get(b"authorization", b"")
        scheme, _, key = given.partition(b" ")
        return scheme.lower() == b"bearer" and any(hmac.compare_digest(key.strip(), known) for known in self._keys)
