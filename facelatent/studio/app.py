"""The studio's web application: requests in, pictures and JSON out. What a face is, :mod:`session` knows."""

from __future__ import annotations

import asyncio
import io
import json
import mimetypes
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from facelatent.errors import FacelatentError
from facelatent.studio.guard import Guard
from facelatent.studio.looks import LARGEST, STEP
from facelatent.studio.session import Session
from facelatent.studio.studio import Studio, TooManyFaces, UnknownFace
from facelatent.studio.worker import Superseded

#: The largest upload and the largest JSON, in bytes.
MAX_UPLOAD, MAX_JSON = 64 << 20, 16 << 10
#: Sides of pictures that are drawn while a slider moves.
PREVIEW_SIDES = (256, 512)
#: Kinds that an upload may call itself: a form's, which other sites' pages can send unasked, are not among them.
_UPLOAD_KINDS = ("image/", "application/octet-stream")
_SEED_LIMIT = 10_000


class _Refused(Exception):
    """A request that is answered with a status and a line."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def make_app(studio: Studio, token: str) -> ASGIApp:
    """The application of a studio; every path begins with ``/TOKEN/``."""
    return Guard(_Routes(studio).app(), token)


class _Routes:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._static = _static_files()

    def app(self) -> Starlette:
        face = "/faces/{face}"
        return Starlette(
            routes=[
                Route("/", self.static_file),
                Route("/static/{name}", self.static_file),
                Route("/studio.json", self.overview),
                Route("/faces", self.upload, methods=["POST"]),
                Route("/samples", self.sample, methods=["POST"]),
                Route(face, self.face),
                Route(face, self.close, methods=["DELETE"]),
                Route(face + "/look", self.look, methods=["POST"]),
                Route(face + "/{move:str}", self.move, methods=["POST"], name="move"),
                Route(face + "/before.jpg", self.before),
                Route(face + "/plain.jpg", self.plain),
                Route(face + "/picture.jpg", self.picture),
                Route(face + "/files/{kind}", self.saved),
            ],
            exception_handlers={
                _Refused: _told,
                FacelatentError: _told,
                HTTPException: _told,
                Superseded: _told,
                ClientDisconnect: _told,
                Exception: _failed,
            },
        )

    # The page

    async def static_file(self, request: Request) -> Response:
        """A file of the package; names are looked up among those that were read at the start, never opened."""
        try:
            kind, data = self._static[request.path_params.get("name", "index.html")]
        except KeyError:
            raise _Refused(404, "there is no such file") from None
        return Response(data, media_type=kind)

    async def overview(self, request: Request) -> Response:
        """What the page needs to build itself: sliders, styles, limits, open faces."""
        bench = self._studio.bench
        return JSONResponse(
            {
                "attributes": [
                    {
                        "name": name,
                        "label": boundary.attribute.replace("_", " "),
                        "holdable": name in bench.holdable,
                    }
                    for name, boundary in bench.boundaries.items()
                ],
                "styles": list(bench.shelf.files),
                "largest": LARGEST,
                "step": STEP,
                "max_upload": MAX_UPLOAD,
                "preview_sides": PREVIEW_SIDES,
                "resolution": bench.generator.resolution,
                "generator": bench.generator.name,
                "faces": [_state(face, session) for face, session in self._studio.sessions().items()],
            }
        )

    # Faces

    async def upload(self, request: Request) -> Response:
        """A photo or a latent, as the request's whole body; its name as ``?name=``."""
        kind = request.headers.get("content-type", "")
        if not kind.startswith(_UPLOAD_KINDS):
            raise _Refused(415, f"send the photo itself, as image/... or application/octet-stream, not {kind!r}")
        file = self._studio.new_file()
        try:
            await _receive(request, file)
        except BaseException:
            file.unlink(missing_ok=True)
            raise
        name = request.query_params.get("name", "photo.jpg")
        face = await run_in_threadpool(self._studio.open_upload, file, name)
        return self._answer(face, 201)

    async def sample(self, request: Request) -> Response:
        """A random face: ``{"seed": 7}``."""
        given = await _json(request)
        seed = given.get("seed") if isinstance(given, dict) else None
        if not isinstance(seed, int) or isinstance(seed, bool) or not 0 <= seed < _SEED_LIMIT:
            raise _Refused(422, f"a seed is a whole number from 0 to {_SEED_LIMIT - 1}")
        return self._answer(await self._work(lambda: self._studio.open_sample(seed)), 201)

    async def face(self, request: Request) -> Response:
        """The state of a face."""
        self._session(request)
        return self._answer(_face(request))

    async def close(self, request: Request) -> Response:
        """Forget a face."""
        await asyncio.wrap_future(self._studio.close_face(_face(request)))
        return JSONResponse({})

    async def look(self, request: Request) -> Response:
        """Choose a look."""
        session = self._session(request)
        look = session.read(await _json(request))
        await self._work(lambda: session.choose(look))
        return self._answer(_face(request))

    async def move(self, request: Request) -> Response:
        """``undo``, ``redo`` or ``stop``; or ``preview``, which answers with a picture of the look that is sent."""
        session, move = self._session(request), request.path_params["move"]
        if move == "preview":
            return await self._preview(request, session)
        if move == "stop":
            self._studio.stop(_face(request))
        elif move in ("undo", "redo"):
            await self._work(session.undo if move == "undo" else session.redo)
        else:
            raise _Refused(404, "there is no such address")
        return self._answer(_face(request))

    # Pictures and files

    async def before(self, request: Request) -> Response:
        """The aligned photo."""
        before = self._session(request).before
        if before is None:
            raise _Refused(404, "this face has no photo")
        return Response(await run_in_threadpool(_jpeg, before), media_type="image/jpeg")

    async def plain(self, request: Request) -> Response:
        """The face without edits."""
        session = self._session(request)
        return await self._picture(lambda: session.plain(), None)

    async def picture(self, request: Request) -> Response:
        """The look that is chosen, at full size."""
        session = self._session(request)
        return await self._picture(lambda: session.picture(), ("picture", _face(request)))

    async def saved(self, request: Request) -> Response:
        """A file to keep: ``picture``, ``photo``, ``clip`` or ``latent``."""
        session = self._session(request)
        writers: dict[str, Callable[[], tuple[str, bytes]]] = {
            "picture": session.picture_file,
            "photo": session.photo_file,
            "clip": session.clip_file,
            "latent": session.latent_file,
        }
        try:
            writer = writers[request.path_params["kind"]]
        except KeyError:
            raise _Refused(404, f"there is no such file; known: {', '.join(writers)}") from None
        name, data = await self._work(writer)
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        return Response(data, media_type=kind, headers={"Content-Disposition": disposition})

    async def _preview(self, request: Request, session: Session) -> Response:
        given = await _json(request)
        side = given.pop("side", PREVIEW_SIDES[0]) if isinstance(given, dict) else None
        if side not in PREVIEW_SIDES:
            raise _Refused(422, f"a preview's side is one of {', '.join(map(str, PREVIEW_SIDES))}")
        look = session.read(given)
        size = min(side, self._studio.bench.generator.resolution)
        return await self._picture(lambda: session.preview(look, size), ("preview", _face(request)), 85)

    async def _picture(self, drawn: Callable[[], Image.Image], key: Any, quality: int = 93) -> Response:
        data = await self._work(lambda: _jpeg(drawn(), quality), key)
        return Response(data, media_type="image/jpeg")

    async def _work(self, work: Callable[[], Any], key: Any = None) -> Any:
        """The result of ``work`` on the thread that owns the generator."""
        return await asyncio.wrap_future(self._studio.worker.quick(work, key))

    def _session(self, request: Request) -> Session:
        return self._studio.session(_face(request))

    def _answer(self, face: str, status: int = 200) -> Response:
        return JSONResponse(_state(face, self._studio.session(face)), status)


def _face(request: Request) -> str:
    face: str = request.path_params["face"]
    return face


def _state(face: str, session: Session) -> dict[str, Any]:
    return {"id": face, **session.state()}


def _jpeg(image: Image.Image, quality: int = 93) -> bytes:
    # At full size without chroma subsampling: lips and eyes have fine red.
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality > 90 else 2)
    return buffer.getvalue()


async def _receive(request: Request, file: Path) -> None:
    """Write a request's body to ``file``, at most :data:`MAX_UPLOAD` bytes of it."""
    problem = _Refused(413, f"this file is too large: at most {MAX_UPLOAD >> 20} MB are taken")
    said = request.headers.get("content-length", "0")
    if said.isdigit() and int(said) > MAX_UPLOAD:
        raise problem
    size = 0
    with open(file, "wb") as output:
        async for chunk in request.stream():
            size += len(chunk)
            if size > MAX_UPLOAD:
                raise problem
            output.write(chunk)


async def _json(request: Request) -> Any:
    """A request's body as JSON, of at most :data:`MAX_JSON` bytes."""
    if not request.headers.get("content-type", "").startswith("application/json"):
        raise _Refused(415, "send JSON, as application/json")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_JSON:
            raise _Refused(413, f"this is too long: at most {MAX_JSON >> 10} KB of JSON are taken")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _Refused(400, f"this is not JSON ({error})") from error


async def _told(request: Request, error: Exception) -> Response:
    """Errors that a person can mend, as JSON with one line."""
    if isinstance(error, (_Refused, HTTPException)):
        status = error.status if isinstance(error, _Refused) else error.status_code
        message = str(error) if isinstance(error, _Refused) else error.detail
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


def _static_files() -> dict[str, tuple[str, bytes]]:
    """Kind and contents of the page's files by name."""
    folder = resources.files("facelatent.studio") / "static"
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    return {file.name: (kinds[Path(file.name).suffix], file.read_bytes()) for file in folder.iterdir()}
