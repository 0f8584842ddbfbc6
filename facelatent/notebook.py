"""Pictures as a notebook shows and keeps them: small JPEGs, since what a notebook shows is stored in its file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Protocol

from PIL import Image, ImageOps

from facelatent.errors import FacelatentError
from facelatent.images import to_rgb
from facelatent.render import strip

#: JPEG's quality: without visible blocks on faces at the size shown, and a tenth of what a PNG takes.
_QUALITY = 80
#: Longer side in pixels of one picture, and side of each of several.
_ONE, _SEVERAL = 512, 224


class Drawn(Protocol):
    """What draws itself, such as an :class:`~facelatent.Editor`."""

    def picture(self, size: int | None = None) -> Image.Image:
        """Its picture, ``size`` px square (its own size if None)."""


class Shown:
    """What :func:`show` gives: a picture that Jupyter draws below the cell.

    Attributes:
        image: the picture.
    """

    def __init__(self, image: Image.Image) -> None:
        self.image = image

    def __repr__(self) -> str:
        return f"<picture of {self.image.width} x {self.image.height}>"

    def _repr_jpeg_(self) -> bytes:
        file = io.BytesIO()
        self.image.save(file, format="JPEG", quality=_QUALITY)
        return file.getvalue()


def show(*pictures: Image.Image | Drawn, labels: Sequence[str] | None = None, size: int | None = None) -> Shown:
    """Show pictures in a notebook, as the last line of a cell: one as it is, several as squares side by side.

    >>> from facelatent import Editor, show
    >>> me = Editor.open("me.jpg")
    >>> show(me, me.edit("smile", 2), labels=["before", "after"], size=64)
    <picture of 132 x 80>

    Args:
        pictures: Pillow pictures, or what draws itself: editors.
        labels: a line under each.
        size: side in pixels of each of several, 224 if None; of one its longer side at most, 512 if None.

    Raises:
        FacelatentError: no picture, or not as many labels as pictures.
    """
    if not pictures or (labels is not None and len(labels) != len(pictures)):
        raise FacelatentError(f"nothing to show: {len(pictures)} pictures, {len(labels or ())} labels")
    side = size or (_ONE if len(pictures) == 1 else _SEVERAL)
    drawn = [to_rgb(one) if isinstance(one, Image.Image) else one.picture(side) for one in pictures]
    if len(drawn) == 1 and labels is None:
        drawn[0].thumbnail((side, side), Image.Resampling.LANCZOS)
        return Shown(drawn[0])
    squares = [ImageOps.pad(one, (side, side), Image.Resampling.LANCZOS, "white") for one in drawn]
    return Shown(strip(squares, labels, side))
