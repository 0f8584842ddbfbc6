"""Losses that ask a face recogniser whether two pictures show one person, with gradients to the pictures.

:class:`DlibIdentity` needs nothing from the user; :class:`ArcFaceIdentity` is the loss that pSp and e4e were trained
with, for users who have its weights.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.faces import Face, chip_corners, find_faces
from facelatent.images import to_arrays
from facelatent.inversion.dlib_face import CHIP_SIDE, DlibFace, load_dlib_face
from facelatent.inversion.encoders import ArcFace
from facelatent.inversion.encoders.weights import load_network, read_tensors

#: How much dlib widens a chip beyond the face, as its recogniser was trained.
_PADDING = 0.25
#: Rows and columns of an aligned 256 px crop that ArcFace sees (pSp, section 3.2 and code).
_ARCFACE_CROP = (slice(35, 223), slice(32, 220))
_ARCFACE_SIDE = 256
#: :func:`chip_frame` of the average face in an FFHQ-aligned crop.
AVERAGE_FRAME = torch.tensor([[0.688, 0.0, 0.010], [0.0, 0.688, 0.206]])


def chip_frame(face: Face, width: int, height: int) -> Tensor:
    """Where dlib's chip of a face lies in a picture of ``width`` x ``height`` px.

    Returns:
        [2, 3] a similarity from the chip's coordinates to the picture's, both from -1 to 1 between the outer edges, so
        that it holds for the same picture at any size.
    """
    corners = chip_corners(face, CHIP_SIDE, _PADDING)
    places = (corners + 0.5) / [width, height] * 2 - 1
    # Pixel centres of the chip lie at -+(1 - 1 / side), not at its edges.
    inner = 1 - 1 / CHIP_SIDE
    across, down = (places[1] - places[0]) / (2 * inner), (places[2] - places[0]) / (2 * inner)
    middle = (places[1] + places[2]) / 2
    return torch.from_numpy(np.stack([across, down, middle], 1)).float()


def frames_in(images: Tensor) -> Tensor:
    """:func:`chip_frame` [n, 2, 3] of the best-scored face in each of ``images`` [n, 3, H, W], RGB in [-1, 1].

    Where dlib finds no face it is :data:`AVERAGE_FRAME`, which is right for FFHQ-aligned crops only.
    """
    frames = []
    for pixels in to_arrays(images):
        faces = find_faces(pixels)
        frames.append(chip_frame(faces[0], pixels.shape[1], pixels.shape[0]) if faces else AVERAGE_FRAME)
    return torch.stack(frames)


def cut_chips(images: Tensor, frames: Tensor) -> Tensor:
    """Chips [n, 3, 150, 150] of images [n, 3, H, W], differentiable; ``frames`` [n or 1, 2, 3]."""
    pixels_per_pixel = float(frames[:, :, 0].norm(dim=1).max()) * images.shape[-1] / CHIP_SIDE
    # As dlib does: halve while two pixels of the picture fall into one of the chip, then interpolate.
    while pixels_per_pixel >= 2 and not images.shape[-1] % 2 and not images.shape[-2] % 2:
        images, pixels_per_pixel = _halved(images), pixels_per_pixel / 2
    turned = frames.to(images).expand(len(images), -1, -1)
    grid = F.affine_grid(turned, [len(images), 3, CHIP_SIDE, CHIP_SIDE], align_corners=False)
    # What lies outside is black, as in dlib.
    return F.grid_sample(images + 1, grid, mode="bilinear", padding_mode="zeros", align_corners=False) - 1


def _halved(images: Tensor) -> Tensor:
    """Half the size, as blurred as by dlib's five binomial taps, of which two cannot keep the picture in place."""
    taps = torch.tensor([3.0, 5.0, 5.0, 3.0], device=images.device, dtype=images.dtype) / 16
    kernel = torch.outer(taps, taps).expand(images.shape[1], 1, 4, 4)
    return F.conv2d(F.pad(images, [1] * 4, mode="replicate"), kernel, stride=2, groups=images.shape[1])


class DlibIdentity:
    """Squared distance of dlib's embeddings: below 0.36 two pictures are one person to dlib.

    Args:
        device: where the network is.

    Raises:
        AssetUnavailable: the weights are not cached and cannot be fetched.
    """

    def __init__(self, device: str | torch.device = "cpu") -> None:
        self.network: DlibFace = load_dlib_face().to(device)

    def embed(self, images: Tensor, frames: Tensor | None = None) -> Tensor:
        """Embeddings [n, 128] of images [n, 3, H, W], RGB in [-1, 1].

        Args:
            images: FFHQ-aligned crops, or any pictures if ``frames`` are given.
            frames: [n or 1, 2, 3] where the faces are, from :func:`frames_in` or :func:`chip_frame`; None for the
                place that faces have in an FFHQ-aligned crop. Frames of the target serve for what approaches it.
        """
        chosen = AVERAGE_FRAME[None] if frames is None else frames
        embeddings: Tensor = self.network(cut_chips(images, chosen))
        return embeddings

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """Squared distance [n] of embeddings [n, 128]."""
        return (a - b).square().sum(1)

    def __call__(self, images: Tensor, targets: Tensor, frames: Tensor | None = None) -> Tensor:
        """Squared distance [n] of two batches [n, 3, H, W] with the same ``frames``; no gradient to the targets."""
        with torch.no_grad():
            wanted = self.embed(targets, frames)
        return self.distance(self.embed(images, frames), wanted)


class ArcFaceIdentity:
    """``1 - cos`` of ArcFace's embeddings, as in pSp's training (Richardson et al., 2021, equation 5).

    Args:
        path: ``model_ir_se50.pth``, read without running its code.
        device: where to compute.

    Raises:
        UnsafeCheckpoint, UnsupportedCheckpoint: the file cannot be read, or holds other weights.
    """

    def __init__(self, path: str | Path, device: str | torch.device = "cpu") -> None:
        self.network = load_network(ArcFace, read_tensors(path), str(path)).to(device)

    def embed(self, images: Tensor) -> Tensor:
        """Embeddings [n, 512] of unit length of FFHQ-aligned crops [n, 3, H, W], RGB in [-1, 1]."""
        if images.shape[-2:] != (_ARCFACE_SIDE, _ARCFACE_SIDE):
            images = F.adaptive_avg_pool2d(images, _ARCFACE_SIDE)
        rows, columns = _ARCFACE_CROP
        embeddings: Tensor = self.network(F.adaptive_avg_pool2d(images[:, :, rows, columns], ArcFace.input_side))
        return embeddings

    @staticmethod
    def distance(a: Tensor, b: Tensor) -> Tensor:
        """``1 - cos`` [n] of embeddings of unit length [n, 512]."""
        return 1 - (a * b).sum(1)

    def __call__(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distance [n] of two batches of FFHQ-aligned crops [n, 3, H, W]; no gradient to the targets."""
        with torch.no_grad():
            wanted = self.embed(targets)
        return self.distance(self.embed(images), wanted)
