"""One face in the studio: from a photo to a latent, looks, undo. Plain Python, for one thread.

Only what a page shows of it, :meth:`Session.state` and the pictures that are there already, may be read from others.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from PIL import Image

from facelatent.errors import FacelatentError, UnwritableOutput
from facelatent.faces import Face
from facelatent.files import sha256_of
from facelatent.images import open_image
from facelatent.inversion import Recipe, invert_with
from facelatent.inversion.alignment import AlignedFace, crop_face, pick_face, sure_faces
from facelatent.latent import SUFFIX, Latent
from facelatent.photo_latents import kept_latent, latent_path
from facelatent.progress import Progress
from facelatent.studio.bench import Workbench
from facelatent.studio.command import command_for
from facelatent.studio.drawing import Drawing
from facelatent.studio.looks import History, Look

_log = logging.getLogger(__name__)

#: What a face is doing: looked for; inverted, with nothing to show yet; drawn from a first guess that is being refined;
#: there for good; or not to be had.
Phase = Literal["aligning", "inverting", "refining", "ready", "failed"]

#: Faces of a photo that can be chosen from, and the least score of those after the best: below it patches and
#: patterns are among them.
MOST_IN_PHOTO, LEAST_SCORE = 24, 0.3
#: The side of their pictures in pixels, and how much wider than the detector's box, which ends at the brows, these are.
_THUMBNAIL, _WIDER = 128, 1.5


class Stopped(Exception):
    """Work on a face that was asked to end."""


class Session:
    """One face.

    Args:
        bench: what it shares with others.
        name: what the person calls the photo; only shown, and made into names of files that are saved.
        photo: the photo's file; None for a face without one.
        source: the user's own file that commands can read: a latent, or the photo, beside which its latent is then
            kept, as ``facelatent edit`` does; None for an upload.
        number: which of the photo's faces, 1 = the best-scored; None for that one.

    Attributes:
        bench, name, photo, number: as given.
        source: as given; None, too, once commands cannot make from it what is shown.
        phase: see :data:`Phase`.
        step: what is being done, how much of it is done, and of how much.
        message: what went wrong, or is worth knowing.
        in_photo: small pictures of the faces in the photo, the best-scored first.
        before: the aligned photo, or None.
        version: counts the latents; pictures of an older one are stale.
        history: of looks.
    """

    def __init__(
        self,
        bench: Workbench,
        name: str,
        photo: Path | None = None,
        source: str | None = None,
        number: int | None = None,
    ) -> None:
        self.bench = bench
        self.name = name
        self.photo = photo
        self.source = source
        self.number = number
        self.phase: Phase = "aligning"
        self.step: tuple[str, int, int] = ("finding the face", 0, 0)
        self.message = ""
        self.in_photo: list[Image.Image] = []
        self.before: Image.Image | None = None
        self.version = 0
        self.history = History()
        self._crop: AlignedFace | None = None
        self._drawing: Drawing | None = None

    @property
    def latent(self) -> Latent | None:
        """The face without edits, once there is one."""
        return None if self._drawing is None else self._drawing.latent

    @property
    def drawing(self) -> Drawing:
        """What draws it.

        Raises:
            FacelatentError: there is nothing to draw yet.
        """
        if self._drawing is None:
            raise FacelatentError(f"{self.name} is not inverted yet")
        return self._drawing

    @property
    def stem(self) -> str:
        """What names of saved files begin with."""
        stem = Path(self.name).name.removesuffix(SUFFIX).rsplit(".", 1)[0]
        return stem if self.number in (None, 1) else f"{stem}-face{self.number}"

    # From a photo to a latent

    def begin(self) -> None:
        """Find and align the face; then take its kept latent, or the encoder's guess if there is an encoder.

        Errors are kept in :attr:`message`, and the phase is then ``failed``.
        """
        try:
            self._begin()
        except Exception as error:  # whatever a photo sets off, the page must hear of it
            self._fail(error)

    def refine(self, between: Callable[[str, int, int], None] | None = None) -> None:
        """Invert the photo by the recipe, unless that is done or was stopped.

        Args:
            between: called after each step with what is done, the step, and of how many; it may raise Stopped.
        """
        if not self.busy:
            return

        def report(what: str, done: int, total: int) -> None:
            self.step = (what, done, total)
            if between is not None:
                between(what, done, total)
            if not self.busy:
                raise Stopped

        try:
            latent = self._inverted(self.bench.recipe or Recipe(), report)
        except Stopped:
            self.stop()
        except Exception as error:  # as in begin
            self._fail(error)
        else:
            self.take(latent)
            self._keep()

    @property
    def busy(self) -> bool:
        """Whether the photo is being inverted, or waits for that."""
        return self.phase in ("inverting", "refining")

    def stop(self) -> None:
        """Let the face stay as it is now; inverting ends at its next step."""
        if self.busy:
            self.message = "stopped" if self._drawing is None else "stopped: this is the first guess"
            self.source = None
            self.phase = "failed" if self._drawing is None else "ready"

    def take(self, latent: Latent) -> None:
        """Use this latent.

        Raises:
            IncompatibleLatent: it belongs to another generator.
        """
        latent.check(self.bench.generator)
        self._show(latent)
        self.phase = "ready"

    def _begin(self) -> None:
        assert self.photo is not None
        image = open_image(self.photo)
        found = sure_faces(image, self.name)
        offered = [face for face in found if face is found[0] or face.score >= LEAST_SCORE]
        self.in_photo = [_thumbnail(image, face) for face in offered[:MOST_IN_PHOTO]]
        face = pick_face(found, self.number, self.name)
        self._crop = crop_face(image, face, self.bench.generator.resolution)
        self.before = self._crop.image
        kept = self._kept_latent()
        if kept is not None:
            return self.take(kept)
        recipe = (self.bench.recipe or Recipe()).settled(self.bench.generator)
        if "encoder" in (recipe.method or ""):
            self._show(self._inverted(replace(recipe, method="encoder")))
        self.step = ("waiting", 0, 0)
        self.phase = "inverting" if self._drawing is None else "refining"
        return None

    def _inverted(self, recipe: Recipe, progress: Progress = False) -> Latent:
        """The latent that :func:`~facelatent.photo_latents.invert_photo` finds, without looking for the face again."""
        assert self._crop is not None
        assert self.photo is not None
        latent = invert_with(
            recipe, self._crop.image, self.bench.generator, aligned=True, source=self.name, progress=progress
        )
        return replace(
            latent,
            method={**latent.method, "aligned": False, "face": self.number},
            quad=self._crop.quad.tolist(),
            photo_sha256=sha256_of(self.photo),
        )

    def _show(self, latent: Latent) -> None:
        drawing = Drawing(self.bench, latent)
        with contextlib.suppress(FacelatentError):  # who asks for the picture will be told
            drawing.settle(self.history.current)
        self._drawing = drawing
        self.version += 1

    def _fail(self, error: Exception) -> None:
        if isinstance(error, FacelatentError):
            self.message = str(error).replace(str(self.photo), self.name)  # not what our copy of it is called
        else:
            _log.exception("%s could not be inverted", self.name)
            self.message = f"{self.name} could not be inverted ({type(error).__name__}); the studio's terminal says why"
        self.source = None
        self.phase = "failed" if self._drawing is None else "ready"

    def _kept_latent(self) -> Latent | None:
        if self.source is None or self.photo is None:
            return None
        return kept_latent(latent_path(self.photo), self.photo, self.bench.generator, self.bench.recipe, self.number)

    def _keep(self) -> None:
        """Keep the latent beside a photo of the user's, unless something else is there."""
        if self.source is None or self.photo is None:
            return
        path = latent_path(self.photo)
        try:
            if path.exists():
                raise UnwritableOutput(f"{path} is there already, of something else: the latent was not kept")
            self.drawing.latent.save(path)
        except UnwritableOutput as error:
            self.source, self.message = None, str(error)

    # Looks

    def read(self, given: Any) -> Look:
        """A look as the page describes it; errors as :meth:`Look.read`, and for holds that nothing measures."""
        look = Look.read(given, self.bench.boundaries, self.bench.shelf.files)
        if unmeasured := set(look.holds) - set(self.bench.holdable):
            raise FacelatentError(f"nothing measures {', '.join(sorted(unmeasured))}: it cannot be held")
        return look

    def choose(self, look: Look) -> None:
        """Make this the look that is shown and saved; it can be undone.

        Raises:
            FacelatentError: what it holds cannot be measured in this face; the look before it stays.
        """
        self.drawing.settle(look)
        self.history.put(look)

    def undo(self) -> None:
        """Go back to the look before; errors as :meth:`choose`."""
        self.drawing.settle(self.history.before)
        self.history.undo()

    def redo(self) -> None:
        """Go forth again; errors as :meth:`choose`."""
        self.drawing.settle(self.history.after)
        self.history.redo()

    def picture(self, size: int | None = None) -> Image.Image:
        """The look that is chosen, ``size`` px square (the generator's own resolution if None)."""
        return self.drawing.picture(self.history.current, size)

    def plain(self, size: int | None = None) -> Image.Image:
        """The face without edits."""
        return self.drawing.picture(Look(), size)

    def command(self) -> str:
        """The command that draws what is shown."""
        bench = self.bench
        number = self.number if self.source is not None and self.photo is not None else None
        return command_for(
            self.source or self.stem + SUFFIX,  # the user's file, or the latent under the name that it is saved by
            self.history.current,
            f"{self.stem}-edited.png",
            next(iter(bench.boundaries)),
            bench.shelf.files,
            (*(() if number is None else ("--face", str(number))), *bench.options),
        )

    def state(self) -> dict[str, Any]:
        """Everything that a page shows of this face but its pictures, for JSON. May be called from any thread."""
        phase, look, drawing = self.phase, self.history.current, self._drawing
        what, done, total = self.step
        remarks = (self.message, "" if drawing is None else drawing.remark(look))
        return {
            "name": self.name,
            "number": self.number or 1,
            "in_photo": len(self.in_photo),
            "phase": phase,
            "step": {"what": what, "done": done, "total": total},
            "message": "; ".join(filter(None, remarks)),
            "version": self.version,
            "has_photo": self.photo is not None,
            "aligned": self.before is not None,
            "look": look.described(),
            "held": {} if drawing is None else drawing.held(look),
            "can_undo": self.history.can_undo,
            "can_redo": self.history.can_redo,
            "command": "" if drawing is None else self.command(),
            "needs_latent": self.source is None,
        }


def _thumbnail(image: Image.Image, face: Face) -> Image.Image:
    """A square around a face, :data:`_THUMBNAIL` px."""
    left, top, right, bottom = face.box
    half = min(_WIDER * (right - left), image.width, image.height) / 2
    x = min(max((left + right) / 2, half), image.width - half)
    y = min(max((top + bottom) / 2, half), image.height - half)
    box = (x - half, y - half, x + half, y + half)
    return image.resize((_THUMBNAIL, _THUMBNAIL), Image.Resampling.LANCZOS, box, reducing_gap=2.0)
