"""Draining: told to end, the server first asks each client to open its next connection elsewhere.

A connection that a client keeps stays with this server when Kubernetes has long taken it out of the Service. Closed
without warning, it loses the request that is on its way in that instant.
"""

import asyncio
import signal

from starlette.types import ASGIApp, Message, Receive, Scope, Send

WARNING_SECONDS = 1.0


class Drain:
    """ASGI middleware: for a second after SIGTERM answers carry `Connection: close`, then the server ends as it would.

    It knows signals and headers, not what is asked. A second SIGTERM, and SIGINT, end the server at once.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app, self._draining = app, False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on."""
        if scope["type"] == "lifespan":
            self._catch()

        async def sent(message: Message) -> None:
            if self._draining and message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            await send(message)

        await self._app(scope, receive, sent)

    def _catch(self) -> None:
        """Come before uvicorn's handler, which is in place when it starts the app."""
        loop, end = asyncio.get_running_loop(), signal.getsignal(signal.SIGTERM)

        def begin() -> None:
            self._draining = True
            signal.signal(signal.SIGTERM, end)
            loop.call_later(WARNING_SECONDS, signal.raise_signal, signal.SIGTERM)

        signal.signal(signal.SIGTERM, lambda *_: loop.call_soon_threadsafe(begin))
