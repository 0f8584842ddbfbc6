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
        lpips: weight of LPIPS (VGG16) at 256 px.
        pixels: weight of the multi-scale mean squared error.
        prior: weight of the squared length of v: keeps codes where the generator draws faces.
        spread: weight of the squared distance of the layers' codes from their mean: keeps W+ near W, where edits work.
        patience: stop when the loss has not fallen by 0.5 % within this many steps.
        seed: of torch; the run itself draws nothing, so equal settings give equal results.
    """

    w_steps: int = 40
    ws_steps: int = 260
    learning_rate: float = 0.1
    lpips: float = 1.0
    pixels: float = 3.0
    prior: float = 0.0
    spread: float = 0.0
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
        ValueError: unknown method.
    """
    if method != "optimize":
        raise ValueError(f"unknown inversion method {method!r}; known: optimize")
    chosen = settings or OptimizeSettings()
    crop = None if aligned else aligned_crop(image, generator.resolution, face, source)
    square = image.convert("RGB") if crop is None else crop.image
    ws = optimize(square, generator, chosen, progress)
    with torch.no_grad():
        reconstruction = generator.synthesis(ws, resolution=min(COMPARE_SIDE, generator.resolution))
    return Latent(
        ws.cpu(),
        generator.name,
        generator.fingerprint,
        method={"method": method, "face": face, "aligned": aligned, **asdict(chosen)},
        quad=None if crop is None else crop.quad.tolist(),
        photo_sha256=photo_sha256,
        metrics=reconstruction_metrics(_target(square, reconstruction.shape[-1]), reconstruction.cpu()),
    )


def optimize(square: Image.Image, generator: Generator, settings: OptimizeSettings, progress: bool = False) -> Tensor:
    """W+ codes [1, num_ws, 512] of an aligned crop; see the module's docstring."""
    torch.manual_seed(settings.seed)
    side = min(COMPARE_SIDE, generator.resolution)
    target = _target(square, side).to(generator.device)
    network = load_lpips("vgg").to(generator.device)
    with torch.no_grad():
        features = network.normalised(target)
    basis = generator.w_components * generator.w_scales[:, None]  # [components, w_dim]

    def loss_of(v: Tensor) -> Tensor:
        ws = (generator.w_avg + v @ basis).expand(1, generator.num_ws, -1)
        image = generator.synthesis(ws, resolution=side)
        loss = settings.lpips * network.distance(network.normalised(image), features).sum()
        loss = loss + settings.pixels * multiscale_mse(image, target) + settings.prior * v.square().mean()
        return loss + settings.spread * (v - v.mean(1, keepdim=True)).square().mean()

    v = torch.zeros(1, 1, len(basis), device=generator.device)
    total = settings.w_steps + settings.ws_steps
    with tqdm(total=total, desc="inverting", unit="step", disable=not progress) as bar:
        v = _descend(loss_of, v, settings.w_steps, settings, bar)
        v = _descend(loss_of, v.expand(1, generator.num_ws, -1), settings.ws_steps, settings, bar)
    return generator.w_avg + v @ basis


def multiscale_mse(a: Tensor, b: Tensor) -> Tensor:
    """Sum of the mean squared errors at full, half and one eighth size: shape and colour count, not only pixels."""
    total = F.mse_loss(a, b)
    for factor in (2, 8):
        total = total + F.mse_loss(F.avg_pool2d(a, factor), F.avg_pool2d(b, factor))
    return total


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
