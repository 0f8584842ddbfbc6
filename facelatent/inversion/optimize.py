"""Inversion by optimisation: the code whose picture looks like the photo.

First one w for all layers, then one for each (W+), both in whitened coordinates ``v``: ``w = w_avg + v scales
components``, in which W is about a unit Gaussian, so that a step of one learning rate means the same in every
direction and the squared length of ``v`` says how ordinary a face is.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from facelatent.errors import UnreadableImage
from facelatent.faces import find_faces, identity
from facelatent.images import to_arrays, to_tensor
from facelatent.inversion.alignment import aligned_crop
from facelatent.inversion.perceptual import load_lpips, lpips
from facelatent.latent import Latent
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


def invert(
    image: Image.Image,
    generator: Generator,
    method: str = "optimize",
    aligned: bool = False,
    face: int | None = None,
    settings: OptimizeSettings | None = None,
    photo_sha256: str | None = None,
    source: str = "the picture",
    progress: bool = False,
) -> Latent:
    """Find the W+ code whose picture looks like the face in ``image``.

    Args:
        image: a photo, or an aligned crop.
        generator: draws the reconstruction.
        method: ``optimize``.
        aligned: ``image`` is an FFHQ-aligned crop already: do not look for a face.
        face: which face, 1 = best-scored; None takes the best.
        settings: of the optimisation.
        photo_sha256: checksum of the photo's file, recorded in the latent.
        source: what messages call the photo.
        progress: show a progress bar with the current loss.

    Returns:
        A latent with the crop's quad and, in ``metrics``, what :func:`reconstruction_metrics` measures.

    Raises:
        NoFaceFound: see :func:`facelatent.inversion.aligned_crop`.
        UnreadableImage: ``aligned``, but the picture is not square.
        ValueError: unknown method.
    """
    if method != "optimize":
        raise ValueError(f"unknown inversion method {method!r}; known: optimize")
    chosen = settings or OptimizeSettings()
    if aligned and image.width != image.height:
        raise UnreadableImage(
            f"{source} is {image.width} x {image.height}: an aligned crop is square; do not say aligned"
        )
    crop = None if aligned else aligned_crop(image, generator.resolution, face, source)
    square = image.convert("RGB") if crop is None else crop.image
    ws = optimize(square, generator, chosen, progress)
    with torch.no_grad():
        reconstruction = generator.synthesis(ws, resolution=min(COMPARE_SIDE, generator.resolution))
    return Latent(
        ws.cpu(),
        generator.name,
        generator.fingerprint,
        method={"method": method, "face": face, "aligned": aligned, "settings": asdict(chosen)},
        quad=None if crop is None else crop.quad.tolist(),
        photo_sha256=photo_sha256,
        metrics=reconstruction_metrics(_target(square, reconstruction.shape[-1]), reconstruction.cpu()),
    )


def optimize(square: Image.Image, generator: Generator, settings: OptimizeSettings, progress: bool = False) -> Tensor:
    """W+ codes [1, num_ws, 512] of an aligned crop; see the module's docstring."""
    torch.manual_seed(settings.seed)
    side = min(COMPARE_SIDE, generator.resolution)
    target = _target(square, generator.resolution).to(generator.device)
    network = load_lpips("vgg").to(generator.device)
    weights = face_weights(generator.resolution, settings.face_weight).to(generator.device)
    small_weights = shrunk(weights, side)
    with torch.no_grad():
        features = network.normalised(_target(square, side).to(generator.device))
    basis = generator.w_components * generator.w_scales[:, None]  # [components, w_dim]

    def loss_of(v: Tensor) -> Tensor:
        ws = (generator.w_avg + v @ basis).expand(1, generator.num_ws, -1)
        image = generator.synthesis(ws)
        maps = network.normalised(shrunk(image, side))
        loss = settings.lpips_weight * network.distance(maps, features, small_weights).sum()
        loss = loss + settings.pixel_weight * multiscale_mse(image, target, weights)
        return loss + settings.spread_weight * (v - v.mean(1, keepdim=True)).square().mean()

    v = torch.zeros(1, 1, len(basis), device=generator.device)
    total = settings.w_steps + settings.ws_steps
    with tqdm(total=total, desc="inverting", unit="step", disable=not progress) as bar:
        v = _descend(loss_of, v, settings.w_steps, settings, bar)
        v = _descend(loss_of, v.expand(1, generator.num_ws, -1), settings.ws_steps, settings, bar)
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
    """Distance between the dlib embeddings of the best faces of two pictures [1, 3, H, W]; None without two faces."""
    embeddings = []
    for array in (to_arrays(a)[0], to_arrays(b)[0]):
        found = find_faces(array)
        if not found:
            return None
        embeddings.append(identity(array, found[0]))
    return float(((embeddings[0] - embeddings[1]) ** 2).sum() ** 0.5)


def _target(square: Image.Image, side: int) -> Tensor:
    return to_tensor(square.resize((side, side), Image.Resampling.LANCZOS))


def _descend(
    loss_of: Callable[[Tensor], Tensor], start: Tensor, steps: int, settings: OptimizeSettings, bar: Any
) -> Tensor:
    """Adam with warm-up and cosine decay from ``start``; the result is detached. Stops early after ``patience``."""
    v = start.detach().clone().requires_grad_(True)
    optimizer = torch.optim.Adam([v], settings.learning_rate, betas=(0.9, 0.95))
    best, best_step = math.inf, 0
    for step in range(steps):
        part = step / steps
        rate = min(1.0, part * 20 + 0.05) * (0.525 + 0.475 * math.cos(math.pi * part))
        optimizer.param_groups[0]["lr"] = settings.learning_rate * rate
        loss = loss_of(v)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        value = float(loss.detach())
        bar.set_postfix(loss=f"{value:.4f}", refresh=False)
        bar.update()
        if value < best * 0.995:
            best, best_step = value, step
        elif step - best_step >= settings.patience:
            bar.total -= steps - step - 1
            break
    return v.detach()
