"""The FFHQ crop: where the eyes and mouth of an aligned face lie.

Karras et al., "A Style-Based Generator Architecture for Generative Adversarial Networks", 2019, appendix C.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy import ndimage

from facelatent.errors import NoFaceFound
from facelatent.faces import Face, crop_quad, find_faces

#: The smallest face, in pixels between the eyes, that is aligned: below it there is nothing to invert.
MIN_EYE_DISTANCE = 20.0


@dataclass(frozen=True)
class AlignedFace:
    """An FFHQ-aligned crop.

    Attributes:
        image: the crop, square RGB.
        quad: [4, 2] its corners in the source picture, in pixels: top left, bottom left, bottom right, top right.
        face: the face that it was made from.
    """

    image: Image.Image
    quad: np.ndarray
    face: Face


def sure_faces(image: Image.Image, source: str = "the picture") -> list[Face]:
    """The faces that can be chosen from, best score first.

    Args:
        image: RGB.
        source: what messages call the picture.

    Raises:
        NoFaceFound: there is none.
    """
    faces = find_faces(image)
    sure = [face for face in faces if face.score > 0]
    if not sure:
        weak = f" ({len(faces)} doubtful detection{'s' if len(faces) > 1 else ''})" if faces else ""
        raise NoFaceFound(
            f"no face found in {source}{weak}; use a photo whose face looks towards the camera, or a closer crop"
        )
    return sure


def pick_face(faces: Sequence[Face], number: int | None = None, source: str = "the picture") -> Face:
    """The face to work on: the first of ``faces``, or the ``number``-th.

    Args:
        faces: best first, at least one.
        number: which one, from 1; None takes the best.
        source: what messages call the picture.

    Raises:
        NoFaceFound: there is none with that number, or it is too small.
    """
    if number is not None and not 1 <= number <= len(faces):
        raise NoFaceFound(
            f"{source} has {len(faces)} face{'s' if len(faces) > 1 else ''}; --face {number} does not exist"
        )
    face = faces[(number or 1) - 1]
    if (distance := eye_distance(face.landmarks)) < MIN_EYE_DISTANCE:
        raise NoFaceFound(
            f"the face in {source} is too small ({distance:.0f} px between the eyes, at least "
            f"{MIN_EYE_DISTANCE:.0f} needed); use a larger picture"
        )
    return face


def choose_face(image: Image.Image, number: int | None = None, source: str = "the picture") -> Face:
    """:func:`pick_face` of :func:`sure_faces`; errors as both."""
    return pick_face(sure_faces(image, source), number, source)


def eye_distance(landmarks: np.ndarray) -> float:
    """Pixels between the eye centres of landmarks [68, 2]."""
    return float(np.hypot(*(landmarks[42:48].mean(0) - landmarks[36:42].mean(0))))


def align_face(
    image: Image.Image, landmarks: np.ndarray, output_size: int = 1024, transform_size: int = 4096
) -> Image.Image:
    """Crop a face as FFHQ was: upright, eyes and mouth in fixed places, missing borders filled with a blurred mirror.

    Args:
        image: RGB photo.
        landmarks: [68, 2] x, y in its pixels.
        output_size: side of the result. FFHQ used 1024; pSp's and e4e's scripts 256.
        transform_size: side at which the photo is resampled before it is scaled down to ``output_size``: FFHQ used
            4096; pSp's and e4e's scripts 256, which aliases.

    Returns:
        Square RGB picture, pixel for pixel what the FFHQ tool makes.
    """
    quad = crop_quad(np.asarray(landmarks, np.float64))
    size = float(np.hypot(*(quad[3] - quad[0])))  # side of the crop in pixels of the photo
    image, quad, size = _shrink(image.convert("RGB"), quad, size, output_size)
    image, quad = _crop(image, quad, size)
    image, quad = _pad(image, quad, size)
    corners = tuple(float(value) for value in (quad + 0.5).flatten())
    # Pillow's QUAD sampling does not average: a larger transform, scaled down afterwards, is the antialiasing.
    square = (transform_size, transform_size)
    aligned = image.transform(square, Image.Transform.QUAD, corners, Image.Resampling.BILINEAR)
    if output_size < transform_size:
        aligned = aligned.resize((output_size, output_size), Image.Resampling.LANCZOS)
    return aligned


def aligned_crop(image: Image.Image, size: int, number: int | None = None, source: str = "the picture") -> AlignedFace:
    """Find, choose and align a face at ``size`` px; arguments and errors as :func:`choose_face`."""
    return crop_face(image, choose_face(image, number, source), size)


def crop_face(image: Image.Image, face: Face, size: int) -> AlignedFace:
    """Align a face of ``image`` at ``size`` px."""
    return AlignedFace(align_face(image, face.landmarks, size, 4 * size), crop_quad(face.landmarks), face)


def shrink_factor(size: float, output_size: int) -> int:
    """By how much a photo is scaled down before a crop of side ``size`` is cut from it for ``output_size`` px."""
    return max(int(np.floor(size / output_size * 0.5)), 1)


def _shrink(
    image: Image.Image, quad: np.ndarray, size: float, output_size: int
) -> tuple[Image.Image, np.ndarray, float]:
    """Scale a photo down by a whole factor where the face is much larger than the output."""
    factor = shrink_factor(size, output_size)
    if factor == 1:
        return image, quad, size
    smaller = (int(np.rint(image.width / factor)), int(np.rint(image.height / factor)))
    return image.resize(smaller, Image.Resampling.LANCZOS), quad / factor, size / factor


def _crop(image: Image.Image, quad: np.ndarray, size: float) -> tuple[Image.Image, np.ndarray]:
    """Cut the photo to the quad and a border of a tenth of its side."""
    border = max(int(np.rint(size * 0.1)), 3)
    left, top = (max(int(np.floor(value)) - border, 0) for value in quad.min(0))
    right = min(int(np.ceil(quad[:, 0].max())) + border, image.width)
    bottom = min(int(np.ceil(quad[:, 1].max())) + border, image.height)
    if (right - left, bottom - top) == image.size:
        return image, quad
    return image.crop((left, top, right, bottom)), quad - [left, top]


def _pad(image: Image.Image, quad: np.ndarray, size: float) -> tuple[Image.Image, np.ndarray]:
    """Where the quad leaves the photo, mirror it, blurring and fading to the median colour outwards."""
    border = max(int(np.rint(size * 0.1)), 3)
    left, top = (max(border - int(np.floor(value)), 0) for value in quad.min(0))
    right = max(int(np.ceil(quad[:, 0].max())) - image.width + border, 0)
    bottom = max(int(np.ceil(quad[:, 1].max())) - image.height + border, 0)
    if max(left, top, right, bottom) <= border - 4:
        return image, quad
    least = int(np.rint(size * 0.3))
    left, top, right, bottom = (max(side, least) for side in (left, top, right, bottom))
    pixels = np.pad(np.asarray(image, np.float32), ((top, bottom), (left, right), (0, 0)), "reflect")
    height, width, _ = pixels.shape
    y, x, _ = np.ogrid[:height, :width, :1]
    mask = np.maximum(
        1 - np.minimum(np.float32(x) / left, np.float32(width - 1 - x) / right),
        1 - np.minimum(np.float32(y) / top, np.float32(height - 1 - y) / bottom),
    )
    blur = size * 0.02
    pixels += (ndimage.gaussian_filter(pixels, [blur, blur, 0]) - pixels) * np.clip(mask * 3 + 1, 0, 1)
    pixels += (np.median(pixels, axis=(0, 1)) - pixels) * np.clip(mask, 0, 1)
    return Image.fromarray(np.clip(np.rint(pixels), 0, 255).astype(np.uint8)), quad + np.array([left, top])
