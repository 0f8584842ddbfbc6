"""Where an edit may change the picture: masks from landmarks, or from a picture of the user's."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from facelatent.errors import FacelatentError, NoFaceFound
from facelatent.faces import Face, find_faces
from facelatent.images import open_image

Points = np.ndarray

#: Softness of a mask's edge, as a share of the picture's side.
_FEATHER = 0.02


def _face(points: Points) -> list[Points]:
    # The landmarks end at the brows: the forehead is as high above them as the nose is long.
    up = points[27] - points[30]
    return [np.concatenate([points[:17], (points[17:27] + 1.2 * up)[::-1]])]


def _eyes(points: Points) -> list[Points]:
    return [_grown(points[list(eye)], 1.8) for eye in (range(36, 42), range(42, 48))]


def _mouth(points: Points) -> list[Points]:
    return [_grown(points[48:60], 1.5)]


def _brows(points: Points) -> list[Points]:
    return [_grown(points[17:22], 1.6), _grown(points[22:27], 1.6)]


def _nose(points: Points) -> list[Points]:
    return [_grown(points[27:36], 1.4)]


#: Regions by name, each the polygons of 68 landmarks.
REGIONS: dict[str, Callable[[Points], list[Points]]] = {
    "face": _face,
    "eyes": _eyes,
    "brows": _brows,
    "nose": _nose,
    "mouth": _mouth,
    "lower-face": lambda points: [np.concatenate([points[2:15], points[29:30]])],
}


def region_mask(region: str, image: Image.Image) -> Image.Image:
    """Where ``image`` may change: greyscale of its size, white where it may, with soft edges.

    Args:
        region: a name of :data:`REGIONS`, ``background`` (all but the face), or a greyscale picture's file.
        image: a face.

    Raises:
        NoFaceFound: a region is asked for by name and there is no face.
        FacelatentError: the region is neither a name nor a file.
        UnreadableImage: the file is no picture.
    """
    if region not in (*REGIONS, "background"):
        if not Path(region).is_file():
            names = ", ".join((*REGIONS, "background"))
            raise FacelatentError(f"--region {region!r} is neither a picture's file nor one of {names}")
        return open_image(region).convert("L").resize(image.size, Image.Resampling.BILINEAR)
    face: Face | None = next(iter(find_faces(np.asarray(image.convert("RGB")))), None)
    if face is None:
        raise NoFaceFound(
            f"no face was found in the picture: there is no region {region!r} in it; leave out --region, or name a "
            "mask's file"
        )
    mask = Image.new("L", image.size, 0)
    painter = ImageDraw.Draw(mask)
    for polygon in REGIONS["face" if region == "background" else region](face.landmarks):
        painter.polygon([(float(x), float(y)) for x, y in hull(polygon)], fill=255)
    if region == "background":
        mask = mask.point(lambda value: 255 - value)
    return mask.filter(ImageFilter.GaussianBlur(_FEATHER * image.width))


def limited(before: Image.Image, after: Image.Image, mask: Image.Image) -> Image.Image:
    """``after`` where the mask is white, ``before`` where it is black: pictures and mask of one size."""
    return Image.composite(after.convert("RGB"), before.convert("RGB"), mask)


def _grown(points: Points, factor: float) -> Points:
    centre = points.mean(0)
    return np.concatenate([points, centre + factor * (points - centre)])


def hull(points: Points) -> Points:
    """The convex hull of points [n, 2], in order."""
    from scipy.spatial import ConvexHull

    found: Points = points[ConvexHull(points).vertices]
    return found
