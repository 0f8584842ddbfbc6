"""Paste-back: an edited face put into the full-resolution photo that it was cropped from.

With the reconstruction at hand, a photo P changes by what the edit E changes on the reconstruction R of it::

    out = P + cover * ((E - R) - replace * detail(P - R))

``cover`` is 1 where the edit may show and falls softly to 0. Where the edit moves nothing, ``replace`` is 0: the
photo keeps its own skin, hair and noise, however rough the inversion. Where it moves something (a mouth opens, a head
turns), the photo's old features would shine through as ghosts: there ``replace`` is 1, and ``out`` is E plus the low
frequencies of P - R, so that light and colour still are the photo's and meet it at the seam. Without a reconstruction
``replace`` is 1 throughout: the picture itself is shown.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull

from facelatent.errors import FacelatentError
from facelatent.faces import find_faces
from facelatent.images import to_rgb
from facelatent.inversion.alignment import shrink_factor

#: Side at which masks are made; they are soft, so that more would show nothing.
_MASK_SIDE = 256
#: Cover below this changes no 8-bit pixel by half a step in practice, and is cut to nothing.
_LEAST_COVER = 1 / 128


@dataclass(frozen=True)
class PasteSettings:
    """How a face is pasted; lengths are shares of the crop's side.

    Attributes:
        feather: standard deviation of the mask's soft edge.
        rim: how far inside the crop's border the mask ends.
        forehead: how far above the brows the face reaches, in distances from brows to the base of the nose.
        least_change: grey levels of change below which pixels outside the face stay the photo's.
        sure_change: grey levels above which they follow the edit.
        reach: distance from the face at which twice that change is needed.
        least_ghost: grey levels of detail that moves, and that differs between photo and reconstruction (their
            geometric mean), above which the photo's own detail begins to give way.
        sure_ghost: grey levels above which the edited picture replaces it.
        least_repaint: grey levels of any change, be it of colour only, above which it gives way as well.
        sure_repaint: grey levels above which it is gone: of dark hair turned white nothing is left.
        light: standard deviation below which differences of photo and reconstruction count as detail, above as light.
    """

    feather: float = 0.022
    rim: float = 0.06
    forehead: float = 0.8
    least_change: float = 5.0
    sure_change: float = 14.0
    reach: float = 0.08
    least_ghost: float = 8.0
    sure_ghost: float = 20.0
    least_repaint: float = 35.0
    sure_repaint: float = 80.0
    light: float = 0.05


@dataclass(frozen=True)
class PasteMask:
    """Where an edited crop shows, in the crop's frame.

    Attributes:
        cover: [side, side] float32 in [0, 1]: how much of the edit shows.
        replace: [side, side] float32 in [0, 1]: how far the photo's own detail gives way to the picture's.
        crop_side: side of the pictures that are pasted, in pixels.
    """

    cover: np.ndarray
    replace: np.ndarray
    crop_side: int


def paste_mask(
    edited: Sequence[Image.Image],
    reconstruction: Image.Image | None = None,
    original: Image.Image | None = None,
    whole: bool = False,
    settings: PasteSettings | None = None,
) -> PasteMask:
    """The mask under which ``edited`` pictures of one face are pasted: one for all, so that an animation stands still.

    It covers the face (the hull of the landmarks of all pictures, to the hairline) and, beyond it, hair, ears and neck
    wherever the edit changes them and the change is connected with the face.

    Args:
        edited: square pictures of one size.
        reconstruction: the unedited picture; None if ``edited`` are not edits: the face alone is covered.
        original: the photo's own crop, from :func:`quad_crop`. With it, the photo's detail gives way only where it
            differs from the reconstruction's: elsewhere it cannot leave ghosts.
        whole: the crop is the whole photo: cover it to its border.
        settings: the defaults if None.
    """
    chosen = settings or PasteSettings()
    pictures = [*edited, *([reconstruction] if reconstruction else [])]
    face = np.max([face_area(picture, chosen.forehead) for picture in pictures], axis=0)
    feather = chosen.feather * _MASK_SIDE
    cover = _blurred(_grown(face, feather), feather)
    replace = np.ones_like(cover)
    if reconstruction is not None:
        changes = [_change(picture, reconstruction) for picture in edited]
        size = np.max([_size(change, feather / 2) for change in changes], axis=0)
        cover = np.maximum(cover, _changed_with(face, size, chosen))
        ghosts = np.max([_detail(change, chosen) for change in changes], axis=0)
        if original is not None:
            ghosts = np.sqrt(ghosts * _detail(_change(original, reconstruction), chosen))
        replace = np.maximum(
            _ramp(ghosts, chosen.least_ghost, chosen.sure_ghost),
            _ramp(size, chosen.least_repaint, chosen.sure_repaint),
        )
    if not whole:
        cover = cover * _rim(chosen.rim)
    cover = np.where(cover < _LEAST_COVER, 0, cover)
    return PasteMask(cover.astype(np.float32), replace.astype(np.float32), edited[0].width)


def face_area(picture: Image.Image, forehead: float) -> np.ndarray:
    """Bool [side, side]: inside the hull of a face's landmarks, with the forehead; an ellipse where none is found.

    The ellipse is where FFHQ's alignment puts a face, brows to chin and the forehead above.
    """
    small = picture.convert("RGB").resize((2 * _MASK_SIDE,) * 2, Image.Resampling.BOX)
    faces = find_faces(small)
    if not faces:
        y, x = (np.mgrid[:_MASK_SIDE, :_MASK_SIDE] + 0.5) / _MASK_SIDE
        oval: np.ndarray = ((x - 0.5) / 0.25) ** 2 + ((y - 0.55) / 0.37) ** 2 < 1
        return oval
    points = faces[0].landmarks / 2
    brows = points[17:27]
    up = (brows.mean(0) - points[33]) * forehead
    # Towards the temples the hairline comes down.
    lift = np.array([0.35, 0.75, 0.95, 1, 1, 1, 1, 0.95, 0.75, 0.35])[:, None]
    corners = np.concatenate([points, brows + lift * up])
    outline = corners[ConvexHull(corners).vertices]
    area = Image.new("1", (_MASK_SIDE, _MASK_SIDE))
    ImageDraw.Draw(area).polygon([(float(x), float(y)) for x, y in outline], fill=1)
    return np.asarray(area)


def paste(
    photo: Image.Image,
    edited: Image.Image,
    quad: np.ndarray | Sequence[Sequence[float]],
    reconstruction: Image.Image | None = None,
    mask: PasteMask | None = None,
    settings: PasteSettings | None = None,
) -> Image.Image:
    """Put the edited picture of an aligned crop back into its photo; see the module's docstring.

    Args:
        photo: upright (EXIF orientation applied). RGB and grey, with or without alpha, and 16-bit grey keep their
            mode, and greys stay grey; others (palette, CMYK) become RGB or RGBA.
        edited: the edited picture, square RGB.
        quad: [4, 2] corners of the crop in the photo, as in :class:`~facelatent.latent.Latent`.
        reconstruction: the picture of the unedited code, of the same size: then only what the edit changes is changed.
            Without it the face is replaced by ``edited``.
        mask: from :func:`paste_mask`; made from the two pictures if None.
        settings: the defaults if None.

    Returns:
        A new picture of the photo's size. Pixels outside the mask have the photo's very bits; alpha is the photo's.

    Raises:
        FacelatentError: the quad is no parallelogram, or the pictures differ in size.
    """
    chosen = settings or PasteSettings()
    if reconstruction is not None and reconstruction.size != edited.size:
        raise FacelatentError(f"edited {edited.size} and reconstruction {reconstruction.size} differ in size")
    base = _pasteable(photo)
    frame = _Frame.of(quad, base.size, edited.width)
    if mask is None:
        mask = paste_mask([edited], reconstruction, quad_crop(base, quad, edited.width), settings=chosen)
    box = frame.box(mask.cover)
    if box is None:
        return base.copy()
    cover, replace = (frame.seen(layer, box) for layer in (mask.cover, mask.replace))
    cover[cover < _LEAST_COVER] = 0
    shown = _numbers(to_rgb(base.crop(box)))
    new = _numbers(edited)
    old = new if reconstruction is None else _numbers(reconstruction)
    delta = np.empty_like(shown)
    for channel in range(3):
        unedited = frame.seen(old[..., channel], box)
        residual = shown[..., channel] - unedited
        detail = residual - frame.light(residual, box, chosen.light)
        change = 0 if old is new else frame.seen(new[..., channel], box) - unedited
        delta[..., channel] = cover * (change - replace * detail)
    return _changed(base, delta, box)


def quad_crop(photo: Image.Image, quad: np.ndarray | Sequence[Sequence[float]], crop_side: int) -> Image.Image:
    """What a photo shows in a quad, RGB at the side at which masks are made; mirrored where the quad leaves it.

    Args:
        photo: upright, in any mode.
        quad: [4, 2] corners of the crop.
        crop_side: side of the crop that was inverted.
    """
    frame = _Frame.of(quad, photo.size, crop_side)
    corners = np.array([frame.corner, frame.corner + frame.down, frame.corner + frame.across])
    corners = np.vstack([corners, frame.corner + frame.down + frame.across])
    low = np.floor(corners.min(0)).astype(int).clip(0, np.array(photo.size) - 1)
    high = (np.ceil(corners.max(0)).astype(int) + 1).clip(low + 1, photo.size)
    part = _pasteable(photo.crop((*low.tolist(), *high.tolist())))
    factor = max(int(frame.side / (2 * _MASK_SIDE)), 1)  # averaged down first: what follows does not average
    pixels = _numbers(to_rgb(part).reduce(factor))
    places = (np.arange(_MASK_SIDE) + 0.5) / _MASK_SIDE
    grid = frame.corner + places[None, :, None] * frame.across + places[:, None, None] * frame.down
    x, y = np.moveaxis((grid - low + 0.5) / factor - 0.5, -1, 0)
    channels = [ndimage.map_coordinates(pixels[..., one], [y, x], order=1, mode="mirror") for one in range(3)]
    return Image.fromarray(np.stack(channels, axis=-1).round().clip(0, 255).astype(np.uint8))


def photo_mask(mask: PasteMask, quad: np.ndarray | Sequence[Sequence[float]], size: tuple[int, int]) -> Image.Image:
    """The cover as a greyscale picture of the photo's ``size``; its ``getbbox()`` bounds what a paste changes."""
    frame = _Frame.of(quad, size, mask.crop_side)
    picture = Image.new("L", size)
    if (box := frame.box(mask.cover)) is not None:
        cover = frame.seen(mask.cover, box)
        cover[cover < _LEAST_COVER] = 0
        picture.paste(Image.fromarray(np.ceil(cover.clip(0, 1) * 255).astype(np.uint8)), box[:2])
    return picture


@dataclass(frozen=True)
class _Frame:
    """Where a crop lies in a photo: ``corner + u across + v down`` for u, v in [0, 1], in pixels; centres are whole."""

    corner: np.ndarray
    across: np.ndarray
    down: np.ndarray
    size: tuple[int, int]

    @classmethod
    def of(cls, quad: np.ndarray | Sequence[Sequence[float]], size: tuple[int, int], crop_side: int) -> _Frame:
        corners = np.asarray(quad, np.float64)
        if corners.shape != (4, 2) or not np.isfinite(corners).all():
            raise FacelatentError(f"a quad is four corners x, y; this one is {np.asarray(quad).tolist()}")
        across, down = corners[3] - corners[0], corners[1] - corners[0]
        area = abs(across[0] * down[1] - across[1] * down[0])
        if area < 1 or np.abs(corners[0] + across + down - corners[2]).max() > 0.01 * np.sqrt(area):
            raise FacelatentError(f"this quad is no parallelogram: {corners.round(1).tolist()}")
        factor = shrink_factor(float(np.hypot(*across)), crop_side)
        if factor > 1:
            # Alignment shrinks a photo of a large face first, and rounds its size: undo both to the pixel.
            scale = np.array([side / np.rint(side / factor) for side in size])
            corners = (corners / factor + 0.5) * scale - 0.5
        return cls(corners[0], corners[3] - corners[0], corners[1] - corners[0], size)

    @property
    def side(self) -> float:
        return float(np.hypot(*self.across))

    def box(self, layer: np.ndarray) -> tuple[int, int, int, int] | None:
        """Left, top, right, bottom in the photo of where a crop-space ``layer`` is not zero; None if nowhere."""
        rows, columns = np.flatnonzero(layer.any(1)), np.flatnonzero(layer.any(0))
        if not len(rows):
            return None
        # A pixel more on each side: interpolation reaches there.
        vertical = np.array([rows[0] - 1, rows[-1] + 2]).clip(0, len(layer)) / len(layer)
        horizontal = np.array([columns[0] - 1, columns[-1] + 2]).clip(0, len(layer)) / len(layer)
        corners = np.array([self.corner + u * self.across + v * self.down for u in horizontal for v in vertical])
        low = np.floor(corners.min(0)).astype(int).clip(0)
        high = (np.ceil(corners.max(0)).astype(int) + 1).clip(None, self.size)
        return None if (low >= high).any() else (int(low[0]), int(low[1]), int(high[0]), int(high[1]))

    def seen(self, layer: np.ndarray, box: tuple[int, int, int, int]) -> np.ndarray:
        """A crop-space layer [S, S] as ``box`` of the photo sees it, float32: averaged where it shrinks."""
        picture = Image.fromarray(layer.astype(np.float32))
        side = min(layer.shape[0], max(int(np.ceil(self.side)), 1))
        if side < layer.shape[0]:
            picture = picture.resize((side, side), Image.Resampling.BICUBIC)
        inverse = np.linalg.inv(np.stack([self.across, self.down], axis=1)) * side
        # Pillow maps centres at halves to centres at halves.
        offset = inverse @ (np.array(box[:2]) - 0.5 - self.corner)
        coefficients = (*inverse[0], offset[0], *inverse[1], offset[1])
        shape = (box[2] - box[0], box[3] - box[1])
        warped = picture.transform(shape, Image.Transform.AFFINE, coefficients, Image.Resampling.BICUBIC)
        return np.array(warped, np.float32)

    def light(self, residual: np.ndarray, box: tuple[int, int, int, int], sigma: float) -> np.ndarray:
        """The low frequencies of a difference over ``box``, of what lies in the crop; ``sigma`` in crop sides."""
        inside = self.seen(np.ones((64, 64), np.float32), box)
        factor = max(int(self.side * sigma / 4), 1)  # blurred at 4 px a sigma: the rest is interpolation
        both = [Image.fromarray(array).reduce(factor) for array in (residual * inside, inside)]
        blur = self.side * sigma / factor
        total, weight = (ndimage.gaussian_filter(np.asarray(one), blur, mode="nearest") for one in both)
        low = Image.fromarray(total / np.maximum(weight, 1e-3))
        covered = (0, 0, residual.shape[1] / factor, residual.shape[0] / factor)
        return np.asarray(low.resize(residual.shape[::-1], Image.Resampling.BICUBIC, box=covered))


def _change(edited: Image.Image, reconstruction: Image.Image) -> np.ndarray:
    """What an edit adds to a picture, in grey levels: [side, side, 3] at the mask's side."""
    small = [_numbers(one.resize((_MASK_SIDE,) * 2, Image.Resampling.BOX)) for one in (edited, reconstruction)]
    change: np.ndarray = small[0] - small[1]
    return change


def _detail(change: np.ndarray, settings: PasteSettings) -> np.ndarray:
    """The size of a change without its low frequencies, which are light and colour and leave no ghosts."""
    light, feather = settings.light * _MASK_SIDE, settings.feather * _MASK_SIDE
    return _size(change - ndimage.gaussian_filter(change, (light, light, 0)), feather / 2)


def _size(change: np.ndarray, sigma: float) -> np.ndarray:
    """Root mean square of a change [side, side, 3] over the channels and, softly, over ``sigma`` pixels."""
    size: np.ndarray = np.sqrt(ndimage.gaussian_filter((change**2).mean(-1), sigma))
    return size


def _changed_with(face: np.ndarray, change: np.ndarray, settings: PasteSettings) -> np.ndarray:
    """Soft mask of what changes together with the face: hair, ears, neck, but not the background.

    The farther from the face, the more must change to count, and only what is connected with the face does.
    """
    feather = settings.feather * _MASK_SIDE
    away = 1 + ndimage.distance_transform_edt(~face) / (settings.reach * _MASK_SIDE)
    labels, _ = ndimage.label((change > settings.least_change * away) | face)
    belongs = np.isin(labels, np.unique(labels[face]))
    near = _blurred(_grown(belongs, feather), feather)
    spread = _blurred(ndimage.grey_dilation(change, size=5), feather) / away
    soft: np.ndarray = near * _ramp(spread, settings.least_change, settings.sure_change) * _head()
    return soft


def _head() -> np.ndarray:
    """1 where a head with its hair lies in an FFHQ crop, falling softly to 0 in the corners."""
    y, x = (np.mgrid[:_MASK_SIDE, :_MASK_SIDE] + 0.5) / _MASK_SIDE
    head: np.ndarray = 1 - _ramp(np.hypot((x - 0.5) / 0.52, (y - 0.47) / 0.56), 0.8, 1.05)
    return head


def _ramp(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below ``low``, 1 above ``high``, smooth between."""
    part = ((values - low) / (high - low)).clip(0, 1)
    smooth: np.ndarray = part * part * (3 - 2 * part)
    return smooth


def _rim(width: float) -> np.ndarray:
    """1 inside the crop, falling to 0 at its border over ``width``."""
    places = (np.arange(_MASK_SIDE) + 0.5) / _MASK_SIDE
    edge = _ramp(np.minimum(places, 1 - places), 0.01, 0.01 + width)
    rim: np.ndarray = np.minimum.outer(edge, edge)
    return rim


def _grown(area: np.ndarray, radius: float) -> np.ndarray:
    grown: np.ndarray = ndimage.distance_transform_edt(~area) <= radius
    return grown


def _blurred(area: np.ndarray, sigma: float) -> np.ndarray:
    blurred: np.ndarray = ndimage.gaussian_filter(area.astype(np.float32), sigma)
    return blurred


def _numbers(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB"), np.float32)


def _pasteable(photo: Image.Image) -> Image.Image:
    """The photo in a mode that can be pasted into."""
    if photo.mode in ("RGB", "RGBA", "L", "LA", "I;16"):
        return photo
    if photo.mode == "I" or photo.mode.startswith("I;16"):
        return Image.fromarray(np.asarray(photo).clip(0, 65535).astype(np.uint16))
    if photo.mode == "1":
        return photo.convert("L")
    return photo.convert("RGBA") if photo.has_transparency_data else to_rgb(photo)


def _changed(base: Image.Image, delta: np.ndarray, box: tuple[int, int, int, int]) -> Image.Image:
    """``base`` with ``delta`` [h, w, 3] (8-bit steps) added in ``box``; alpha stays, grey changes by the mean."""
    wide = base.mode == "I;16"
    coloured = base.mode in ("RGB", "RGBA")
    pixels = np.array(base.crop(box))
    colours = pixels if pixels.ndim == 2 else pixels[..., : 3 if coloured else 1]
    change = delta if coloured else delta.mean(-1).reshape(colours.shape)
    colours[...] = (colours + change * (257 if wide else 1)).round().clip(0, 65535 if wide else 255)
    result = base.copy()
    result.paste(Image.fromarray(pixels), box[:2])
    return result
