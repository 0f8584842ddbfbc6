"""Editor: a face and what is to become of it, for Python what ``facelatent edit`` is for a shell."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

from PIL import Image

from facelatent.boundaries import Boundary, load_boundary
from facelatent.clips import animation_frames
from facelatent.domain_adapt import Style
from facelatent.editing import (
    AttributeEdit,
    draw_edits,
    note_of,
    paste_edit,
    paste_frames,
    scaled_photo,
    targeted,
)
from facelatent.errors import FacelatentError
from facelatent.images import save_image, to_rgb
from facelatent.inversion import Recipe
from facelatent.latent import Latent
from facelatent.notebook import show
from facelatent.photo_latents import is_latent, latent_of, photo_of
from facelatent.photos import open_photo, save_photo
from facelatent.render import save_animation, strip
from facelatent.stylegan_ops import DEFAULT_GENERATOR, Generator, load_generator

_log = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Editor:
    """A face, its edits, and the pictures of it. No method changes it: each returns another one, so that they chain.

    >>> from facelatent import Editor
    >>> me = Editor.open("me.jpg")
    >>> me.edit("smile", 2).edit("age", -1).save("younger.png")
    PosixPath('younger.png')
    >>> me.edit("smile", 2).picture(32).size
    (32, 32)
    >>> me.edit("smile", 2)
    <Editor of me.jpg: smile +2>

    A notebook shows it as a picture.

    Attributes:
        generator: what draws the face, without styles.
        latent: the face.
        photo: the photo's file; None if there is none, or it was not named.
        chosen: attributes with their strengths.
        goals: attributes whose strength is to be found, each with the score to reach, None for what it is unedited.
        within: the region that edits are limited to; None for everywhere.
        styles: styles with their strengths.
    """

    generator: Generator
    latent: Latent
    photo: Path | None = None
    chosen: tuple[AttributeEdit, ...] = ()
    goals: tuple[tuple[AttributeEdit, float | None], ...] = ()
    within: str | None = None
    styles: tuple[tuple[Style, float], ...] = ()

    @classmethod
    def open(
        cls,
        source: str | Path,
        generator: Generator | str = DEFAULT_GENERATOR,
        *,
        photo: str | Path | None = None,
        recipe: Recipe | None = None,
        face: int | None = None,
        aligned: bool = False,
        keep: bool = True,
        device: str | None = None,
        progress: bool = False,
    ) -> Editor:
        """Open a photo or a latent. A photo is inverted, once: its latent is kept beside it, and found there again.

        Args:
            source: photo, or latent file.
            generator: what draws, or its name or file.
            photo: a latent's photo, or a folder that has it, to paste into.
            recipe: how to invert; None for the default, and for any latent that is there.
            face: which face of the photo, 1 = the best-scored.
            aligned: the photo is an FFHQ-aligned crop: do not look for a face.
            keep: write the latent beside the photo.
            device: of a generator that is loaded; None for a GPU if there is one.
            progress: show progress bars.

        Raises:
            UnreadableImage: the photo cannot be opened.
            NoFaceFound: it has no face.
            InvalidFile, IncompatibleLatent: the latent is none, or belongs to another generator.
            FacelatentError: ``photo`` is not the latent's.
        """
        path = Path(source)
        drawing = generator if isinstance(generator, Generator) else load_generator(generator, device)
        found = latent_of(path, drawing, recipe, face, aligned, keep, progress)
        if found.unkept is not None:
            _log.warning("the latent was not kept: %s", found.unkept)
        if not is_latent(path):
            return cls(drawing, found.latent, path)
        return cls(drawing, found.latent, None if photo is None else photo_of(found.latent, path, Path(photo)))

    @classmethod
    def sample(
        cls, seed: int, psi: float = 0.7, generator: Generator | str = DEFAULT_GENERATOR, device: str | None = None
    ) -> Editor:
        """A random face: a seed means the same one on every machine; ``psi`` is truncation, 0 the mean face, 1 none.

        >>> Editor.sample(3).edit("smile", 2).picture(64).size
        (64, 64)
        """
        drawing = generator if isinstance(generator, Generator) else load_generator(generator, device)
        return cls(drawing, Latent.sample(drawing, seed, psi))

    def edit(
        self, attribute: str | Path | Boundary, alpha: float = 1.0, layers: tuple[int, int] | None = None
    ) -> Editor:
        """Change an attribute by a strength.

        Args:
            attribute: a name (see ``facelatent attributes``), a boundary's file, or a boundary.
            alpha: strength; 1 is about 0.8 of the standard deviations that faces differ by.
            layers: first and last resolution to change; None for the attribute's own.

        Raises:
            UnknownAttribute, InvalidFile, IncompatibleLatent: see :func:`~facelatent.boundaries.load_boundary`.
        """
        return replace(self, chosen=(*self.chosen, self._attribute(attribute, alpha, layers)))

    def to(self, attribute: str | Path | Boundary, score: float) -> Editor:
        """Change an attribute until its score is this: ``to("age", 40)``. What cannot be reached: :attr:`missed`.

        Raises:
            As :meth:`edit`; UnknownAttribute when it is drawn, if nothing measures the attribute.
        """
        return replace(self, goals=(*self.goals, (self._attribute(attribute, 0.0), score)))

    def hold(self, *attributes: str | Path | Boundary) -> Editor:
        """Keep the scores of attributes as they are unedited, by counter-edits; errors as :meth:`to`."""
        held = tuple((self._attribute(name, 0.0), None) for name in attributes)
        return replace(self, goals=(*self.goals, *held))

    def region(self, name_or_file: str | Path | None) -> Editor:
        """Limit edits to a region: face, eyes, brows, nose, mouth, lower-face, background, or a mask's picture.

        >>> me = Editor.open("me.jpg").edit("smile", 2)
        >>> me.region("half.png").picture() == me.picture()
        False
        """
        return replace(self, within=None if name_or_file is None else str(name_or_file))

    def style(self, style: Style | str | Path, strength: float = 1.0) -> Editor:
        """Draw in a style, or its file; several add up. ``strength``: 0 not at all, 0.6 to 0.8 the most natural.

        Raises:
            InvalidFile: no style's file.
            IncompatibleLatent: it belongs to another generator.
        """
        loaded = style if isinstance(style, Style) else Style.load(style)
        loaded.check(self.generator)
        return replace(self, styles=(*self.styles, (loaded, strength)))

    @property
    def edits(self) -> list[AttributeEdit]:
        """All edits, with the strengths that :meth:`to` and :meth:`hold` needed.

        >>> [(one.boundary.attribute, one.alpha) for one in Editor.open("me.jpg").edit("smile", 2).edits]
        [('smile', 2)]
        """
        return self._settled[0]

    @property
    def missed(self) -> list[str]:
        """A line for each score that cannot be reached."""
        return self._settled[1]

    def strip(
        self, attribute: str | Path | Boundary, alphas: Sequence[float] = (-2.0, -1.0, 0.0, 1.0, 2.0), size: int = 224
    ) -> Image.Image:
        """The face at several strengths of one attribute, on top of the edits: side by side, labelled.

        >>> Editor.sample(3).strip("smile", (-2, 0, 2), 64).size
        (200, 80)

        Args:
            attribute: its name, its boundary's file, or a boundary.
            alphas: strengths.
            size: side of each picture in pixels.
        """
        edits = [self._attribute(attribute, alpha) for alpha in alphas]
        pictures = [draw_edits(self.latent, self._drawing, [*self.edits, one], size, self.within) for one in edits]
        return strip(pictures, [f"{one.boundary.attribute} {one.alpha:+g}" for one in edits], size)

    def picture(self, size: int | None = None) -> Image.Image:
        """The face, ``size`` px square (the generator's own resolution if None)."""
        return draw_edits(self.latent, self._drawing, self.edits, size, self.within)

    def paste(self) -> Image.Image:
        """The whole photo, upright, with the edited face in it; pixels that the edit does not reach are the photo's.

        >>> Editor.open("me.jpg").edit("smile", 2).paste().size == Image.open("me.jpg").size
        True

        Raises:
            FacelatentError: there is no photo.
        """
        photo = open_photo(self._photo()).image
        return paste_edit(photo, self.latent, self._drawing, self.edits, self.within).image

    def save(self, path: str | Path, size: int | None = None, *, paste: bool = False, note: bool = True) -> Path:
        """Write the picture, or with ``paste`` the whole photo with its EXIF data, colour profile and resolution.

        Args:
            path: PNG, JPEG, WebP ... by its ending.
            size: side in pixels; not for ``paste``.
            paste: put the face back into the photo.
            note: say in the metadata that the picture is edited or generated.

        Raises:
            UnwritableOutput: the path cannot be written, or no picture format has that ending.
            FacelatentError: ``paste`` without a photo, or with a size, or into the photo itself.
        """
        target = Path(path)
        said = note_of(self.latent) if note else None
        if not paste:
            save_image(self.picture(size), target, said)
            return target
        if size is not None:
            raise FacelatentError("a pasted photo keeps its size: leave out size, or paste")
        if target.exists() and target.samefile(self._photo()):
            raise FacelatentError(f"{target} is the photo itself; choose another output path")
        save_photo(self.paste(), target, open_photo(self._photo()), said)
        return target

    def animate(
        self,
        path: str | Path,
        attribute: str | Path | Boundary,
        start: float = -3.0,
        end: float = 3.0,
        *,
        frames: int = 48,
        fps: float = 24,
        size: int = 512,
        bounce: bool = True,
        paste: bool = False,
        note: bool = True,
        progress: bool = False,
    ) -> Path:
        """Write a GIF, WebP or MP4 in which one attribute changes, on top of the edits.

        >>> Editor.open("me.jpg").animate("turn.gif", "smile", -2, 2, frames=4, size=32)
        PosixPath('turn.gif')

        Args:
            path: .gif, .webp or .mp4.
            attribute: its name, its boundary's file, or a boundary.
            start: strength at the start.
            end: strength at the end, or at the turning point.
            frames: how many.
            fps: frames a second.
            size: side in pixels; with ``paste`` the photo's longer one at most.
            bounce: run there and back.
            paste: put the face back into the photo.
            note: say in the metadata that it is edited.
            progress: show a progress bar.

        Raises:
            FacelatentError: an unknown ending; a region, which animations do not have; ``paste`` without a photo.
        """
        if self.within is not None:
            raise FacelatentError("an animation has no region: leave it out")
        ends = [[*self.edits, self._attribute(attribute, alpha)] for alpha in (start, end)]
        latent = self.latent
        if paste:
            photo, latent, size = scaled_photo(to_rgb(open_photo(self._photo()).image), latent, self.generator, size)
        drawn = animation_frames(self._drawing, latent, ends[0], ends[1], frames, size, bounce, progress)
        if paste:
            drawn = paste_frames(photo, latent, self._drawing, drawn)
        save_animation(drawn, path, fps, note=note_of(self.latent) if note else None)
        return Path(path)

    def save_latent(self, path: str | Path) -> Path:
        """Write the unedited face's latent, ``NAME.latent.safetensors``, of which :meth:`open` makes this face again.

        >>> Editor.sample(3).save_latent("three.latent.safetensors")
        PosixPath('three.latent.safetensors')
        >>> Editor.open("three.latent.safetensors").picture() == Editor.sample(3).picture()
        True
        """
        self.latent.save(path)
        return Path(path)

    def _attribute(
        self, given: str | Path | Boundary, alpha: float = 1.0, layers: tuple[int, int] | None = None
    ) -> AttributeEdit:
        if not isinstance(given, Boundary):
            return AttributeEdit(load_boundary(given, self.generator), alpha, layers)
        given.check(self.generator)
        return AttributeEdit(given.fitted_to(self.generator), alpha, layers)

    def __repr__(self) -> str:
        sampled = self.latent.method.get("method") == "sample"
        latent = f"seed {self.latent.method['seed']}" if sampled else "a latent"
        changes = [f"{one.boundary.attribute} {one.alpha:+g}" for one in self.chosen]
        for one, score in self.goals:
            changes.append(f"{one.boundary.attribute} {'held' if score is None else f'to {score:g}'}")
        changes += [f"{style.name} {strength:g}" for style, strength in self.styles]
        if self.within is not None:
            changes.append(f"{self.within} only")
        return f"<Editor of {self.photo.name if self.photo else latent}: {', '.join(changes) or 'unedited'}>"

    def _repr_jpeg_(self) -> bytes:
        return show(self)._repr_jpeg_()

    @cached_property
    def _drawing(self) -> Generator:
        """The generator in the styles."""
        drawing = self.generator
        for style, strength in self.styles:
            drawing = style.applied(drawing, strength)
        return drawing

    @cached_property
    def _settled(self) -> tuple[list[AttributeEdit], list[str]]:
        if not self.goals:
            return list(self.chosen), []
        return targeted(self.chosen, self.goals, self.latent, self._drawing)

    def _photo(self) -> Path:
        if self.photo is None:
            raise FacelatentError("there is no photo to paste into: open one, or name the latent's with photo=")
        return self.photo
