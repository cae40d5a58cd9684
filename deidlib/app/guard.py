"""``Guard``: what the page's server lets in and out: this machine's browsers alone, and nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any
from urllib.parse import urlsplit

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
App = Callable[[Scope, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]], Awaitable[None]]

_HOSTS = ("127.0.0.1", "localhost")

# Scripts and styles of the page stand in it; whatever it loads comes from where it came from.
POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; media-src 'self' data: blob:; font-src 'self' data:; connect-src 'self'; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors 'none'"
)

_HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    "cross-origin-resource-policy": "same-origin",
}


class Guard:
    """An ASGI middleware around the page.

    It refuses whoever came by another name than this machine's (a site elsewhere may point its own name here) or from a
    page elsewhere, and requests that would have the server fetch something from elsewhere. Every answer tells the
    browser to load nothing from elsewhere, and to keep no picture.

    Args:
        app: what answers.
    """

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(
        self,
        scope: Scope,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer, or refuse."""
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        headers = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in scope["headers"]}
        if (refusal := refused(scope["path"], headers)) is not None:
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
                return
            body = refusal.encode()
            kind = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", str(len(body)).encode())]
            await send({"type": "http.response.start", "status": 403, "headers": kind})
            await send({"type": "http.response.body", "body": body})
            return

        async def guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = dict(_HEADERS)
                if "/assets/" not in scope["path"] and "/static/" not in scope["path"]:
                    added["cache-control"] = "no-store"
                kept = [(name, value) for name, value in message["headers"] if name.decode().lower() not in added]
                message["headers"] = [*kept, *((name.encode(), value.encode()) for name, value in added.items())]
            await send(message)

        await self.app(scope, receive, guarded)


def refused(path: str, headers: MutableMapping[str, str]) -> str | None:
    """Why a request is refused; None if it is answered.

    Args:
        path: that is asked for.
        headers: by names in small letters.

    Example:
        >>> refused("/", {"host": "127.0.0.1:7860"}), refused("/", {"host": "evil.example"}) is None
        (None, False)
    """
    if urlsplit(f"//{headers.get('host', '')}").hostname not in _HOSTS:
        return "this page is for this machine alone: open it as http://127.0.0.1"
    origin = headers.get("origin")
    if origin is not None and urlsplit(origin).netloc != headers["host"]:
        return "a page from elsewhere has nothing to do here"
    if "proxy=" in path or "file=http" in path or "file=//" in path:
        return "nothing is fetched from elsewhere"
    return None
