"""Who may talk to the studio: only the page that was opened with the address that was printed."""

from __future__ import annotations

import hmac
from collections.abc import MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

#: Names of this machine. A page of another site whose name was made to point here (DNS rebinding) asks for that name.
HOSTS = ("127.0.0.1", "localhost")

_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",  # the address has the token in it
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Refuses requests without the token, for another host, or from another site's page; adds security headers.

    The token is the first part of every path: relative addresses in the page carry it on, and no other site knows it.
    """

    def __init__(self, app: ASGIApp, token: str) -> None:
        self._app = app
        self._token = token.encode()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        answer = self._refusal(scope)

        async def send_guarded(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        if answer is not None:
            return await answer(scope, receive, send_guarded)
        inside = {**scope, "path": scope["path"][1 + len(self._token) :], "root_path": ""}
        return await self._app(inside, receive, send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        """What to answer instead of the app, if anything."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        if len(headers.getlist("host")) != 1 or host.partition(":")[0] not in HOSTS:
            return _refused("this server answers only as 127.0.0.1 or localhost")
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return _refused("this request comes from another site's page")
        if scope["method"] != "GET" and headers.get("sec-fetch-site", "same-origin") != "same-origin":
            return _refused("this request comes from another site's page")
        first, slash, _ = scope["path"].removeprefix("/").partition("/")
        if not hmac.compare_digest(first.encode(errors="surrogatepass"), self._token):
            return _refused("open the address that facelatent studio printed: it has a key in it")
        return None if slash else RedirectResponse(f"/{first}/")


def _refused(message: str) -> JSONResponse:
    return JSONResponse({"error": message}, 403)
