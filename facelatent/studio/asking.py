"""What requests bring, with limits, and how errors are told."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from facelatent.errors import FacelatentError
from facelatent.studio.studio import TooManyFaces, UnknownFace
from facelatent.studio.worker import Superseded

#: The largest upload and the largest JSON, in bytes.
MAX_UPLOAD, MAX_JSON = 64 << 20, 16 << 10
#: Kinds that an upload may call itself: a form's, which other sites' pages can send unasked, are not among them.
_UPLOAD_KINDS = ("image/", "application/octet-stream")


class Refused(Exception):
    """A request that is answered with a status and a line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


async def receive_file(request: Request, file: Path) -> None:
    """Write a request's body to ``file``, which is not there afterwards if it could not be received.

    Raises:
        Refused: it says that it is a form, or has more than :data:`MAX_UPLOAD` bytes.
        ClientDisconnect: it broke off.
    """
    kind = request.headers.get("content-type", "")
    if not kind.startswith(_UPLOAD_KINDS):
        raise Refused(415, f"send the photo itself, as image/... or application/octet-stream, not {kind!r}")
    problem = Refused(413, f"this file is too large: at most {MAX_UPLOAD >> 20} MB are taken")
    said = request.headers.get("content-length", "0")
    if said.isdigit() and int(said) > MAX_UPLOAD:
        raise problem
    size = 0
    try:
        with open(file, "xb") as output:
            async for chunk in request.stream():
                size += len(chunk)
                if size > MAX_UPLOAD:
                    raise problem
                output.write(chunk)
    except BaseException:
        file.unlink(missing_ok=True)
        raise


async def read_json(request: Request) -> Any:
    """A request's body as JSON.

    Raises:
        Refused: it does not say that it is JSON, is not, or has more than :data:`MAX_JSON` bytes.
    """
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise Refused(415, "send JSON, as application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON:
            raise Refused(413, f"this is too long: at most {MAX_JSON >> 10} KB of JSON are taken")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused(400, f"this is not JSON ({error})") from error


async def _told(request: Request, error: Exception) -> Response:
    """Errors that a person can mend, as JSON with one line."""
    if isinstance(error, Refused):
        status, message = error.status, str(error)
    elif isinstance(error, HTTPException):
        status, message = error.status_code, "there is no such address" if error.status_code == 404 else error.detail
    elif isinstance(error, Superseded):
        status, message = 409, "a newer picture was asked for"
    elif isinstance(error, ClientDisconnect):
        status, message = 400, "the upload broke off"
    else:
        statuses: dict[type[Exception], int] = {UnknownFace: 404, TooManyFaces: 409}
        status, message = statuses.get(type(error), 422), " ".join(str(error).split())
    return JSONResponse({"error": message}, status)


async def _failed(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": f"the studio stumbled ({type(error).__name__}); its terminal says more"}, 500)


#: What Starlette does about errors.
HANDLERS: Mapping[Any, Callable[[Request, Exception], Any]] = {
    **dict.fromkeys((Refused, FacelatentError, HTTPException, Superseded, ClientDisconnect), _told),
    Exception: _failed,
}
