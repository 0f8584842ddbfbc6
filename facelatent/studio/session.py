"""One face in the studio: from a photo to a latent, sliders, undo, and what is saved. Plain Python, one thread."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import torch
from PIL import Image

from facelatent.boundaries import SCORERS, Boundary
from facelatent.clips import animation_frames
from facelatent.editing import (
    AttributeEdit,
    apply_edits,
    draw,
    paste_edit,
    shift_of,
    targeted,
)
from facelatent.errors import FacelatentError, UnwritableOutput
from facelatent.files import sha256_of
from facelatent.images import open_image, save_image
from facelatent.inversion import Recipe, aligned_crop, invert_with
from facelatent.inversion.alignment import AlignedFace
from facelatent.latent import SUFFIX, Latent
from facelatent.photo_latents import kept_latent, latent_path
from facelatent.photos import open_photo, save_photo
from facelatent.progress import Progress
from facelatent.render import save_animation
from facelatent.studio.command import edit_command
from facelatent.studio.looks import History, Look
from facelatent.studio.styles import StyleShelf
from facelatent.stylegan_ops import Generator

_log = logging.getLogger(__name__)

#: What a face is doing: looked for; inverted, with nothing to show yet; drawn from a first guess that is being refined;
#: there for good; or not to be had.
Phase = Literal["aligning", "inverting", "refining", "ready", "failed"]

#: The clip that is saved: its frames, there and back, and its side in pixels.
CLIP_FRAMES, CLIP_SIDE = 48, 512


class Stopped(Exception):
    """Work on a face that was asked to end."""


@dataclass(frozen=True)
class Workbench:
    """What all faces of a studio share.

    Attributes:
        generator: draws.
        boundaries: of the sliders, in their order, by what a command calls them: an attribute or a file.
        recipe: how photos are inverted; None for the default.
        shelf: styles.
        options: what a command needs to use the same generator, such as ``("--generator", "mine.pkl")``.
    """

    generator: Generator
    boundaries: Mapping[str, Boundary]
    recipe: Recipe | None = None
    shelf: StyleShelf = field(default_factory=StyleShelf)
    options: tuple[str, ...] = ()

    @property
    def holdable(self) -> tuple[str, ...]:
        """Attributes whose score something measures, so that it can be held."""
        measured = {name for scorer in SCORERS for name in scorer.attributes}
        return tuple(name for name, boundary in self.boundaries.items() if boundary.score in measured)


class Session:
    """One face.

    Args:
        bench: what it shares with others.
        name: what the person calls the photo; only shown, and made into names of files that are saved.
        photo: the photo's file; None for a face without one.
        source: the user's own file that commands can read: a latent, or the photo, beside which its latent is then
            kept, as ``facelatent edit`` does; None for an upload.

    Attributes:
        name: as given.
        photo: as given.
        source: as given; None, too, once commands cannot make from it what is shown.
        phase: see :data:`Phase`.
        step: what is being done, how much of it is done, and of how much.
        message: what went wrong, or is worth knowing.
        before: the aligned photo, or None.
        latent: the face without edits, once there is one.
        version: counts the latents; pictures of an older one are stale.
        history: of looks.
    """

    def __init__(self, bench: Workbench, name: str, photo: Path | None = None, source: str | None = None) -> None:
        self.bench = bench
        self.name = name
        self.photo = photo
        self.source = source
        self.phase: Phase = "aligning"
        self.step: tuple[str, int, int] = ("finding the face", 0, 0)
        self.message = ""
        self.before: Image.Image | None = None
        self.latent: Latent | None = None
        self.version = 0
        self.history = History()
        self._crop: AlignedFace | None = None
        self._drawings: dict[str | None, Generator] = {}
        self._found: dict[Look, dict[str, float]] = {}
        self._held: dict[str, float] = {}

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
            self.phase = "failed" if self.latent is None else "ready"
            self.message = "stopped" if self.latent is None else "stopped: this is the first guess"
            self.source = None

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
        self._crop = aligned_crop(image, self.bench.generator.resolution, source=self.name)
        self.before = self._crop.image
        kept = self._kept_latent()
        if kept is not None:
            return self.take(kept)
        recipe = (self.bench.recipe or Recipe()).settled(self.bench.generator)
        if "encoder" in (recipe.method or ""):
            self._show(self._inverted(replace(recipe, method="encoder")))
        self.phase = "inverting" if self.latent is None else "refining"
        self.step = ("waiting", 0, 0)
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
            method={**latent.method, "aligned": False},
            quad=self._crop.quad.tolist(),
            photo_sha256=sha256_of(self.photo),
        )

    def _show(self, latent: Latent) -> None:
        self.latent = latent
        self.version += 1
        self._drawings.clear()
        self._found.clear()

    def _fail(self, error: Exception) -> None:
        if isinstance(error, FacelatentError):
            self.message = str(error).replace(str(self.photo), self.name)  # not what our copy of it is called
        else:
            _log.exception("%s could not be inverted", self.name)
            self.message = f"{self.name} could not be inverted ({type(error).__name__}: {error})"
        self.phase = "failed" if self.latent is None else "ready"
        self.source = None

    def _kept_latent(self) -> Latent | None:
        if self.source is None or self.photo is None:
            return None
        return kept_latent(latent_path(self.photo), self.photo, self.bench.generator, self.bench.recipe)

    def _keep(self) -> None:
        """Keep the latent beside a photo of the user's, unless something else is there."""
        if self.source is None or self.photo is None or self.latent is None:
            return
        path = latent_path(self.photo)
        try:
            if path.exists():
                raise UnwritableOutput(f"{path} is there already, of something else: the latent was not kept")
            self.latent.save(path)
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
        self._strengths(look)
        self.history.put(look)

    def undo(self) -> None:
        """Go back to the look before; errors as :meth:`choose`."""
        self._go(self.history.undo, self.history.redo)

    def redo(self) -> None:
        """Go forth again; errors as :meth:`choose`."""
        self._go(self.history.redo, self.history.undo)

    def command(self) -> str:
        """The command that draws what is shown."""
        bench, look = self.bench, self.history.current
        return edit_command(
            self._source(), look, self._stem() + "-edited.png", next(iter(bench.boundaries)), bench.shelf.files,
            bench.options,
        )  # fmt: skip

    # Pictures

    def preview(self, look: Look, size: int) -> Image.Image:
        """A look, quickly: what holds scores is what it was when the last look was chosen."""
        found = self._found.get(look, {name: self._held.get(name, 0.0) for name in look.holds})
        return self._draw(look, {**dict(look.alphas), **found}, size)

    def picture(self, size: int | None = None) -> Image.Image:
        """The look that is chosen, ``size`` px square (the generator's own resolution if None)."""
        look = self.history.current
        return self._draw(look, self._strengths(look), size)

    def plain(self, size: int | None = None) -> Image.Image:
        """The face without edits."""
        return self._draw(Look(), {}, size)

    # Files

    def picture_file(self) -> tuple[str, bytes]:
        """Name and contents of the picture as PNG."""
        return self._file("-edited.png", lambda path: save_image(self.picture(), path))

    def photo_file(self) -> tuple[str, bytes]:
        """Name and contents of the whole photo with the edited face in it.

        Raises:
            FacelatentError: there is no photo.
        """
        if self.photo is None:
            raise FacelatentError("this face was not made from a photo: there is nothing to paste it into")
        opened, look = open_photo(self.photo), self.history.current
        pasted = paste_edit(opened.image, self._ready(), self._styled(look.style), self._edits(self._strengths(look)))
        return self._file("-edited.jpg", lambda path: save_photo(pasted.image, path, opened))

    def clip_file(self, frames: int = CLIP_FRAMES, size: int = CLIP_SIDE) -> tuple[str, bytes]:
        """Name and contents of a GIF from the unedited face to the chosen look and back.

        Raises:
            FacelatentError: no slider is moved: nothing would move.
        """
        look = self.history.current
        edits = self._edits(self._strengths(look))
        if not edits:
            raise FacelatentError("move a slider first: a GIF goes from the unedited face to the edited one and back")
        drawn = animation_frames(
            self._styled(look.style), self._ready(), [], edits, frames, min(size, self.bench.generator.resolution)
        )
        return self._file(".gif", lambda path: save_animation(drawn, path))

    def latent_file(self) -> tuple[str, bytes]:
        """Name and contents of the latent of the face without edits, which the command reads."""
        return self._file(SUFFIX, self._ready().save)

    def state(self) -> dict[str, Any]:
        """Everything that a page shows of this face but its pictures, for JSON."""
        look, latent = self.history.current, self.latent
        what, done, total = self.step
        return {
            "name": self.name,
            "phase": self.phase,
            "step": {"what": what, "done": done, "total": total},
            "message": self.message,
            "version": self.version,
            "has_photo": self.photo is not None,
            "metrics": {} if latent is None else latent.metrics,
            "look": look.described(),
            "held": self._found.get(look, {}),
            "can_undo": self.history.can_undo,
            "can_redo": self.history.can_redo,
            "command": "" if latent is None else self.command(),
            "needs_latent": self.source is None,
        }

    def _go(self, there: Callable[[], Look], back: Callable[[], Look]) -> None:
        look = there()
        try:
            self._strengths(look)
        except FacelatentError:
            back()
            raise

    def _ready(self) -> Latent:
        if self.latent is None:
            raise FacelatentError(f"{self.name} is not inverted yet")
        return self.latent

    def _styled(self, style: str | None) -> Generator:
        generator = self.bench.generator
        return generator if style is None else self.bench.shelf.applied(style, generator)

    def _drawing(self, style: str | None) -> Generator:
        """What draws this face in a style; kept, as a tuned copy takes a moment to make."""
        if style not in self._drawings:
            self._drawings[style] = self._ready().generator_for(self._styled(style))
        return self._drawings[style]

    def _strengths(self, look: Look) -> dict[str, float]:
        """Strengths of all attributes of a look, those that hold scores among them."""
        if look not in self._found:
            self._found[look] = self._holding(look) if look.holds else {}
            self._held.update(self._found[look])
        return {**dict(look.alphas), **self._found[look]}

    def _holding(self, look: Look) -> dict[str, float]:
        goals = [(AttributeEdit(self.bench.boundaries[name], 0.0), None) for name in look.holds]
        edits = self._edits(dict(look.alphas))
        made, missed = targeted(edits, goals, self._ready(), self.bench.generator)
        if missed:
            self.message = "; ".join(missed)
        return {name: one.alpha for name, one in zip(look.holds, made[len(edits) :], strict=True)}

    def _edits(self, strengths: Mapping[str, float]) -> list[AttributeEdit]:
        return [AttributeEdit(self.bench.boundaries[name], alpha) for name, alpha in strengths.items() if alpha]

    @torch.no_grad()
    def _draw(self, look: Look, strengths: Mapping[str, float], size: int | None) -> Image.Image:
        edits: Sequence[AttributeEdit] = self._edits(strengths)
        ws = apply_edits(self._ready().ws, edits, self.bench.generator)
        return draw(self._drawing(look.style), ws, size, shift_of(edits))[0]

    def _file(self, ending: str, write: Callable[[Path], object]) -> tuple[str, bytes]:
        """What ``write`` writes, through a file in a folder of our own: writers choose the format by its name."""
        folder = Path(tempfile.mkdtemp(prefix="facelatent-"))
        try:
            write(folder / f"file{ending}")
            return self._stem() + ending, (folder / f"file{ending}").read_bytes()
        finally:
            shutil.rmtree(folder)

    def _stem(self) -> str:
        return Path(self.name).name.removesuffix(SUFFIX).rsplit(".", 1)[0]

    def _source(self) -> str:
        """What the command reads: the user's file, or the latent under the name that it is saved by."""
        return self.source or self._stem() + SUFFIX
