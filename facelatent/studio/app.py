"""The studio's web application: requests in, pictures and JSON out. What a face is, :mod:`session` knows."""

from __future__ import annotations

import asyncio
import io
import mimetypes
from collections.abc import Callable
from importlib import resources
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from facelatent.studio.asking import HANDLERS, MAX_UPLOAD, Refused, read_json, receive_file
from facelatent.studio.bench import Workbench
from facelatent.studio.guard import Guard
from facelatent.studio.looks import LARGEST, STEP, STRONGEST_STYLE, STYLE_STEP
from facelatent.studio.saving import FILES
from facelatent.studio.session import Session
from facelatent.studio.studio import Studio

#: Sides of pictures that are drawn while a slider moves.
PREVIEW_SIDES = (256, 512)
_SEED_LIMIT = 10_000
#: JPEG qualities of pictures that are looked at, and of those that are looked at while a slider moves.
_FINE, _QUICK = 93, 85


def make_app(studio: Studio, token: str) -> ASGIApp:
    """The application of a studio; every path begins with ``/TOKEN/``."""
    return Guard(_Routes(studio).app(), token)


class _Routes:
    def __init__(self, studio: Studio) -> None:
        self._studio = studio
        self._static = _static_files()

    def app(self) -> Starlette:
        face = "/faces/{face}"
        gets = {
            "/": self.static_file,
            "/static/{name}": self.static_file,
            "/studio.json": self.overview,
            face: self.face,
            face + "/before.jpg": self.before,
            face + "/plain.jpg": self.plain,
            face + "/picture.jpg": self.picture,
            face + "/photo/{number:int}.jpg": self.thumbnail,
            face + "/files/{kind}": self.saved,
        }
        posts = {
            "/faces": self.upload,
            "/samples": self.sample,
            face + "/other": self.other,
            face + "/stop": self.stop,
            face + "/look": self.look,
            face + "/undo": self.undo,
            face + "/redo": self.redo,
            face + "/preview": self.preview,
        }
        routes = [Route(path, endpoint) for path, endpoint in gets.items()]
        routes += [Route(path, endpoint, methods=["POST"]) for path, endpoint in posts.items()]
        routes += [Route(face, self.close, methods=["DELETE"])]
        return Starlette(routes=routes, exception_handlers=dict(HANDLERS))

    # The page

    async def static_file(self, request: Request) -> Response:
        """A file of the package; names are looked up among those that were read at the start, never opened."""
        try:
            kind, data = self._static[request.path_params.get("name", "index.html")]
        except KeyError:
            raise Refused(404, "there is no such file") from None
        return Response(data, media_type=kind)

    async def overview(self, request: Request) -> Response:
        """What the page needs to build itself: sliders, styles, limits, open faces."""
        bench = self._studio.bench
        return JSONResponse(
            {
                "groups": [
                    {"title": title, "attributes": [_described(bench, name) for name in names]}
                    for title, names in bench.groups.items()
                ],
                "styles": list(bench.shelf.files),
                "largest": LARGEST,
                "step": STEP,
                "strongest_style": STRONGEST_STYLE,
                "style_step": STYLE_STEP,
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
        file = self._studio.new_file()
        await receive_file(request, file)
        name = request.query_params.get("name", "photo.jpg")
        return self._answer(await run_in_threadpool(self._studio.open_upload, file, name), 201)

    async def sample(self, request: Request) -> Response:
        """A random face: ``{"seed": 7}``."""
        seed = await _whole_number(request, "seed", 0, _SEED_LIMIT - 1)
        return self._answer(await self._work(lambda: self._studio.open_sample(seed)), 201)

    async def other(self, request: Request) -> Response:
        """Another face of the same photo: ``{"number": 2}``."""
        number = await _whole_number(request, "number", 1, 999)
        return self._answer(self._studio.open_other(_face(request), number), 201)

    async def face(self, request: Request) -> Response:
        """The state of a face."""
        return self._answer(_face(request))

    async def close(self, request: Request) -> Response:
        """Forget a face."""
        await asyncio.wrap_future(self._studio.close_face(_face(request)))
        return JSONResponse({})

    async def stop(self, request: Request) -> Response:
        """Let a face stay as it is now."""
        await asyncio.wrap_future(self._studio.stop(_face(request)))
        return self._answer(_face(request))

    async def look(self, request: Request) -> Response:
        """Choose a look."""
        session = self._session(request)
        look = session.read(await read_json(request))
        await self._work(lambda: session.choose(look))
        return self._answer(_face(request))

    async def undo(self, request: Request) -> Response:
        """Go back to the look before."""
        await self._work(self._session(request).undo)
        return self._answer(_face(request))

    async def redo(self, request: Request) -> Response:
        """Go forth again."""
        await self._work(self._session(request).redo)
        return self._answer(_face(request))

    # Pictures and files

    async def thumbnail(self, request: Request) -> Response:
        """One of the faces in the photo."""
        number, in_photo = request.path_params["number"], self._session(request).in_photo
        if not 1 <= number <= len(in_photo):
            raise Refused(404, "the photo has no such face")
        return Response(_jpeg(in_photo[number - 1], _QUICK), media_type="image/jpeg")

    async def before(self, request: Request) -> Response:
        """The aligned photo."""
        before = self._session(request).before
        if before is None:
            raise Refused(404, "this face has no photo")
        return Response(await run_in_threadpool(_jpeg, before, _FINE), media_type="image/jpeg")

    async def plain(self, request: Request) -> Response:
        """The face without edits."""
        session = self._session(request)
        return await self._picture(lambda: session.plain(), _FINE)

    async def picture(self, request: Request) -> Response:
        """The look that is chosen, at full size."""
        session = self._session(request)
        return await self._picture(lambda: session.picture(), _FINE, ("picture", _face(request)))

    async def preview(self, request: Request) -> Response:
        """A look that is not chosen yet, with the picture's ``side``."""
        session, given = self._session(request), await read_json(request)
        side = given.pop("side", PREVIEW_SIDES[0]) if isinstance(given, dict) else None
        if side not in PREVIEW_SIDES:
            raise Refused(422, f"a preview's side is one of {', '.join(map(str, PREVIEW_SIDES))}")
        look = session.read(given)
        size = min(side, self._studio.bench.generator.resolution)
        return await self._picture(lambda: session.drawing.preview(look, size), _QUICK, ("preview", _face(request)))

    async def saved(self, request: Request) -> Response:
        """A file to keep; see :data:`~facelatent.studio.saving.FILES`."""
        session, write = self._session(request), FILES.get(request.path_params["kind"])
        if write is None:
            raise Refused(404, f"there is no such file; known: {', '.join(FILES)}")
        name, data = await self._work(lambda: write(session))
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        disposition = f"attachment; filename*=UTF-8''{quote(name, safe='')}"
        return Response(data, media_type=kind, headers={"Content-Disposition": disposition})

    async def _picture(self, drawn: Callable[[], Image.Image], quality: int, key: Any = None) -> Response:
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


async def _whole_number(request: Request, name: str, least: int, most: int) -> int:
    """The number that a request's JSON object has under ``name``."""
    given = await read_json(request)
    number = given.get(name) if isinstance(given, dict) else None
    if not isinstance(number, int) or isinstance(number, bool) or not least <= number <= most:
        raise Refused(422, f"a {name} is a whole number from {least} to {most}")
    return number


def _state(face: str, session: Session) -> dict[str, Any]:
    return {"id": face, **session.state()}


def _described(bench: Workbench, name: str) -> dict[str, Any]:
    """A slider, as the page makes it."""
    boundary = bench.boundaries[name]
    return {
        "name": name,
        "label": boundary.attribute.replace("_", " "),
        "plus": str(boundary.report.get("plus", "")),
        "holdable": name in bench.holdable,
    }


def _jpeg(image: Image.Image, quality: int) -> bytes:
    # Where it is fine without chroma subsampling: lips and eyes have fine red.
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=quality, subsampling=0 if quality == _FINE else 2)
    return buffer.getvalue()


def _static_files() -> dict[str, tuple[str, bytes]]:
    """Kind and contents of the page's files by name."""
    folder = resources.files("facelatent.studio") / "static"
    kinds = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
    return {file.name: (kinds[Path(file.name).suffix], file.read_bytes()) for file in folder.iterdir()}
