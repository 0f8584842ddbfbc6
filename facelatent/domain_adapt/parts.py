"""The parts of a portrait that trade colours only with their own kind: skin, hair, ground; and eyes and mouth."""

from __future__ import annotations

import warnings

import numpy as np
import torch
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.cluster.vq import kmeans2
from torch import Tensor

from facelatent.boundaries.regions import REGIONS, hull
from facelatent.colours import lab

#: Names of the parts, in their order.
PARTS = ("skin", "hair", "ground", "features")
#: Side in pixels of the masks.
SIDE = 64

Points = np.ndarray

# Where an FFHQ-aligned face is when nothing finds it: middle and half axes of its ellipse, in sides of the picture.
_ELLIPSE = (0.5, 0.58, 0.22, 0.31)
# The landmarks of both eyes and the mouth, and by what they are enlarged.
_FEATURES = (slice(36, 42), slice(42, 48), slice(48, 60))
_ENLARGED = 1.25
#: Clusters of colour of skin, hair and ground, and how much a picture's side counts beside 100 in CIE L*.
_CLUSTERS = (2, 2, 5)
_PLACE = 60.0
#: Lightness changes with the light: it counts half.
_LIGHTNESS = 0.5
#: The rim above the forehead in which hair is looked for, in sizes of the face.
_RIM = (1.12, 1.3)
#: Width of the border that is taken to be ground, in sides.
_BORDER = 0.07
#: Ground this near to hair in colour is hair that leaves the picture.
_ALIKE = 12.0


def portrait_parts(pixels: np.ndarray, landmarks: Points | None) -> Tensor:
    """Masks of :data:`PARTS`.

    Skin, hair and ground are told apart by colour and place: each pixel joins the nearest of the clusters found inside
    the face, above the forehead, and along the border.

    Args:
        pixels: uint8 [H, H, 3] of an FFHQ-aligned picture.
        landmarks: [68, 2] x, y in its pixels; without them the face is an ellipse, and all else is ground.

    Returns:
        [4, SIDE, SIDE] in [0, 1], with a sum of 1.
    """
    if landmarks is None:
        face = _ellipse()
        return _soft(np.stack([face, np.zeros_like(face), 1 - face, np.zeros_like(face)]))
    points = np.asarray(landmarks, np.float64) * (SIDE / pixels.shape[1])
    face = _painted(REGIONS["face"](points))
    features = _painted([_larger(points[part]) for part in _FEATURES])
    known = _seeds(points, face)
    masks = _grown(pixels, known)
    masks[0] = np.maximum(masks[0], face)
    masks[1:] *= 1 - face
    masks = np.concatenate([masks * (1 - features), features[None]])
    return _soft(masks)


def _seeds(points: Points, face: np.ndarray) -> np.ndarray:
    """Where skin, hair and ground are sure or likely: [3, SIDE, SIDE]."""
    centre = points[27]
    polygon = REGIONS["face"](points)[0]
    outer, inner = (_painted([centre + scale * (polygon - centre)]) for scale in _RIM[::-1])
    y = np.arange(SIDE)[:, None]
    hair = outer * (1 - inner) * (y < points[36:48, 1].mean())
    border = np.ones_like(face)
    edge = round(_BORDER * SIDE)
    border[edge:, edge:-edge] = 0
    border[round(0.8 * SIDE) :] = 0  # clothes
    ground = border * (1 - outer)
    return np.stack([ndimage.binary_erosion(face, iterations=2).astype(np.float64), hair, ground])


def _grown(pixels: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Each pixel to the kind of its nearest cluster: [3, SIDE, SIDE] of 0 and 1."""
    small = np.asarray(Image.fromarray(pixels).resize((SIDE, SIDE), Image.Resampling.BOX))
    y, x = np.mgrid[:SIDE, :SIDE] * (_PLACE / SIDE)
    values = np.concatenate([lab(small) * [_LIGHTNESS, 1, 1], y[..., None], x[..., None]], -1)
    # Hair hangs down, and ground is on both sides: places say little.
    values[..., 3:] *= [0.2, 0.5]
    centres = [_clusters(values[mask > 0.5], count) for mask, count in zip(known, _CLUSTERS, strict=True)]
    centres[2] = _unlike(centres[2], centres[1])
    least = [((values[:, :, None] - found) ** 2).sum(-1).min(-1, initial=np.inf) for found in centres]
    nearest = ndimage.median_filter(np.argmin(least, 0), 3)
    return np.stack([(nearest == kind).astype(np.float64) for kind in range(3)])


def _clusters(values: np.ndarray, count: int) -> np.ndarray:
    """Centres [count, 5] of values [k, 5]; none where there are too few."""
    if len(values) < 8 * count:
        return np.zeros((0, values.shape[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # fewer kinds of colour than clusters
        centres: np.ndarray = kmeans2(values, count, minit="++", rng=np.random.default_rng(0))[0]
    return centres


def _unlike(ground: np.ndarray, hair: np.ndarray) -> np.ndarray:
    """Centres of ground that are not of hair's colour; all of them if there were none."""
    distance = np.linalg.norm(ground[:, None, :3] - hair[None, :, :3], axis=-1).min(1, initial=np.inf)
    kept: np.ndarray = ground[distance > _ALIKE] if (distance > _ALIKE).any() else ground
    return kept


def _larger(points: Points) -> Points:
    centre = points.mean(0)
    larger: Points = centre + _ENLARGED * (points - centre)
    return larger


def _soft(masks: np.ndarray) -> Tensor:
    blurred = np.stack([ndimage.gaussian_filter(mask, 0.7) for mask in masks])
    return torch.from_numpy(blurred / blurred.sum(0).clip(1e-6)).float()


def _ellipse() -> np.ndarray:
    across, down, width, height = _ELLIPSE
    y, x = (np.mgrid[:SIDE, :SIDE] + 0.5) / SIDE
    inside: np.ndarray = ((x - across) / width) ** 2 + ((y - down) / height) ** 2 <= 1
    return inside.astype(np.float64)


def _painted(polygons: list[Points]) -> np.ndarray:
    """0 and 1 [SIDE, SIDE]: the convex hulls of polygons."""
    mask = Image.new("L", (SIDE, SIDE), 0)
    painter = ImageDraw.Draw(mask)
    for polygon in polygons:
        painter.polygon([(float(x), float(y)) for x, y in hull(polygon)], fill=1)
    return np.asarray(mask, np.float64)
