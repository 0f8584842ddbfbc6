"""Inversion by optimisation: the code whose picture looks like the photo.

First one w for all layers, then one for each (W+), both in whitened coordinates ``v``: ``w = w_avg + v scales
components``, in which W is about a unit Gaussian, so that a step of one learning rate means the same in every
direction and the squared length of ``v`` says how ordinary a face is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from facelatent.faces import find_faces, identity
from facelatent.images import to_arrays, to_tensor
from facelatent.inversion.descent import Limits, descend
from facelatent.inversion.identity import DlibIdentity, frames_in
from facelatent.inversion.perceptual import half_precision, load_lpips, lpips
from facelatent.progress import Progress, progress_bar
from facelatent.stylegan_ops import Generator

#: Side at which pictures are compared; LPIPS is defined by its resolution, and papers report 256 px.
COMPARE_SIDE = 256


@dataclass(frozen=True)
class OptimizeSettings:
    """How a photo is inverted; the defaults are what ``benchmarks/inversion.py`` measures.

    Attributes:
        w_steps: steps on one w for all layers.
        ws_steps: most steps on W+.
        learning_rate: of Adam, in standard deviations of w.
        lpips_weight: of LPIPS (VGG16) at 256 px.
        pixel_weight: of the multi-scale mean squared error.
        face_weight: how much more than its surroundings the face counts, in both: people look there first.
        identity_weight: of the squared distance of dlib's embeddings.
        spread_weight: of the squared distance of the layers' codes from their mean: keeps W+ near W, where edits work.
        patience: stop when the loss has not fallen by 0.5 % within this many steps.
        seed: of torch; the run itself draws nothing, so equal settings give equal results.
    """

    w_steps: int = 40
    ws_steps: int = 210
    learning_rate: float = 0.1
    lpips_weight: float = 1.0
    pixel_weight: float = 3.0
    face_weight: float = 4.0
    identity_weight: float = 0.2
    spread_weight: float = 0.06
    patience: int = 60
    seed: int = 0

    @classmethod
    def with_steps(cls, steps: int | None, seed: int = 0) -> OptimizeSettings:
        """Defaults with at most ``steps`` steps in all, shared out as the defaults are."""
        if steps is None:
            return cls(seed=seed)
        first = max(round(steps * cls.w_steps / (cls.w_steps + cls.ws_steps)), 1)
        return cls(w_steps=first, ws_steps=max(steps - first, 1), seed=seed)


class Likeness:
    """How unlike an aligned crop a picture is: the loss of optimisation and of tuning.

    LPIPS (VGG16) at 256 px, a multi-scale mean squared error, and the identity distance of dlib's network.

    Args:
        square: the crop.
        generator: whose pictures are compared with it.
        lpips_weight: of LPIPS.
        pixel_weight: of :func:`multiscale_mse`.
        identity_weight: of the squared identity distance.
        face_weight: see :func:`face_weights`.
    """

    def __init__(
        self,
        square: Image.Image,
        generator: Generator,
        lpips_weight: float,
        pixel_weight: float,
        identity_weight: float,
        face_weight: float,
    ) -> None:
        self.side = min(COMPARE_SIDE, generator.resolution)
        self.lpips_weight, self.pixel_weight, self.identity_weight = lpips_weight, pixel_weight, identity_weight
        device = generator.device
        self.target = crop_tensor(square, generator.resolution).to(device)
        self.weights = face_weights(generator.resolution, face_weight).to(device)
        self._small_weights = shrunk(self.weights, self.side)
        self._network = load_lpips("vgg").to(device)
        small = crop_tensor(square, self.side).to(device)
        self._features = self.features_of(small)
        if identity_weight:
            self._judge = DlibIdentity(device)
            self._frames = frames_in(small)
            with torch.no_grad():
                self._identity = self._judge.embed(small, self._frames)

    def features_of(self, images: Tensor) -> list[Tensor]:
        """What LPIPS compares, of images [n, 3, h, w], without gradients."""
        with torch.no_grad(), half_precision(images.device):
            return self._network.normalised(images)

    def perceived(self, images: Tensor, features: list[Tensor], weights: Tensor | None = None) -> Tensor:
        """LPIPS, summed over images [n, 3, h, w], to what :meth:`features_of` gave."""
        with half_precision(images.device):
            maps = self._network.normalised(images)
        return self._network.distance(maps, features, weights).sum()

    def __call__(self, image: Tensor) -> Tensor:
        """The loss of a picture [1, 3, H, H] at the generator's resolution."""
        small = shrunk(image, self.side)
        loss = self.lpips_weight * self.perceived(small, self._features, self._small_weights)
        loss = loss + self.pixel_weight * multiscale_mse(image, self.target, self.weights)
        if self.identity_weight:
            embedding = self._judge.embed(small, self._frames)
            loss = loss + self.identity_weight * self._judge.distance(embedding, self._identity).sum()
        return loss


def optimize(
    square: Image.Image,
    generator: Generator,
    settings: OptimizeSettings,
    progress: Progress = False,
    start: Tensor | None = None,
    seconds: float | None = None,
) -> Tensor:
    """W+ codes [1, num_ws, 512] of an aligned crop; see the module's docstring.

    Args:
        square: the crop.
        generator: draws.
        settings: how.
        progress: show a progress bar, or what to tell instead.
        start: [1, num_ws, 512] codes to start from, an encoder's say: then there is no search for one w.
        seconds: end after so long; the schedule is fitted to it.
    """
    torch.manual_seed(settings.seed)
    likeness = Likeness(
        square,
        generator,
        settings.lpips_weight,
        settings.pixel_weight,
        settings.identity_weight,
        settings.face_weight,
    )
    basis = generator.w_components * generator.w_scales[:, None]  # [components, w_dim]

    def descended(v: Tensor, steps: int, share: float) -> Tensor:
        v = v.detach().clone().requires_grad_(True)

        def loss_of(step: int) -> Tensor:
            ws = (generator.w_avg + v @ basis).expand(1, generator.num_ws, -1)
            spread = (v - v.mean(1, keepdim=True)).square().mean()
            return likeness(generator.synthesis(ws)) + settings.spread_weight * spread

        limits = Limits(steps, None if seconds is None else seconds * share, settings.patience)
        descend(loss_of, [v], settings.learning_rate, limits, bar)
        return v.detach()

    if start is None:
        v, first = torch.zeros(1, 1, len(basis), device=generator.device), settings.w_steps
    else:
        offset = (start.to(generator.device) - generator.w_avg) @ generator.w_components.T
        v, first = offset / generator.w_scales.clamp_min(1e-6), 0
    total = first + settings.ws_steps
    with progress_bar("inverting", total, progress) as bar:
        if first:
            v = descended(v, first, first / total)
        v = descended(v.expand(1, generator.num_ws, -1), settings.ws_steps, settings.ws_steps / total)
    return generator.w_avg + v @ basis


def face_weights(side: int, face: float) -> Tensor:
    """[1, 1, side, side] weights of mean 1: ``1 + face`` inside the ellipse where an FFHQ-aligned face lies, 1 outside.

    The ellipse spans brows to chin; its edge is soft over about a tenth of the side.
    """
    places = (torch.arange(side) + 0.5) / side
    radius = (((places[None, :] - 0.5) / 0.24).square() + ((places[:, None] - 0.58) / 0.30).square()).sqrt()
    weights = 1 + face * torch.sigmoid(12 * (1 - radius))
    return (weights / weights.mean())[None, None]


def multiscale_mse(a: Tensor, b: Tensor, weights: Tensor) -> Tensor:
    """Sum of the weighted mean squared errors at full size and at 256, 128 and 32 px (those below it).

    Small sizes count shape and colour; the full one stops LPIPS, blind above 256 px, from weaving texture there.

    Args:
        a: [n, 3, H, H].
        b: likewise.
        weights: [1, 1, H, H] of mean 1.
    """
    total = ((a - b).square() * weights).mean()
    for side in (256, 128, 32):
        if side < a.shape[-1]:
            total = total + ((shrunk(a, side) - shrunk(b, side)).square() * shrunk(weights, side)).mean()
    return total


def shrunk(images: Tensor, side: int) -> Tensor:
    """Square images averaged down to ``side`` px, which divides theirs."""
    factor = images.shape[-1] // side
    return images if factor == 1 else F.avg_pool2d(images, factor)


def reconstruction_metrics(target: Tensor, reconstruction: Tensor) -> dict[str, float]:
    """How near a reconstruction is to its target, both [1, 3, H, W] in [-1, 1].

    ``psnr`` in dB with a peak of 2 (the range's width), ``lpips_alex`` and ``lpips_vgg``, and ``identity``, the
    distance between dlib's embeddings (same person below about 0.6; left out where no face is found).
    """
    with torch.no_grad():
        # What is measured is the 8-bit picture that a user gets.
        shown = reconstruction.clamp(-1, 1)
        metrics = {
            "psnr": 10 * math.log10(4 / max(float(F.mse_loss(shown, target)), 1e-10)),
            "lpips_alex": float(lpips(shown, target, "alex")),
            "lpips_vgg": float(lpips(shown, target, "vgg")),
        }
    distance = identity_distance(target, reconstruction)
    return metrics if distance is None else {**metrics, "identity": distance}


def identity_distance(a: Tensor, b: Tensor) -> float | None:
    """Distance between the dlib embeddings of the best faces of two pictures [1, 3, H, W]; None without two faces.

    The pictures are RGB in [-1, 1]. The same person lies below about 0.6.

    Raises:
        AssetUnavailable: dlib's weights are not cached and cannot be fetched.
    """
    embeddings = []
    for array in (to_arrays(a)[0], to_arrays(b)[0]):
        found = find_faces(array)
        if not found:
            return None
        embeddings.append(identity(array, found[0]))
    return float(((embeddings[0] - embeddings[1]) ** 2).sum() ** 0.5)


def crop_tensor(square: Image.Image, side: int) -> Tensor:
    """A square picture as [1, 3, side, side] in [-1, 1]."""
    return to_tensor(square.resize((side, side), Image.Resampling.LANCZOS))
