"""How near a reconstruction is to the picture that was inverted, in every unit that papers use.

Everything is measured on 8-bit pictures, as a user gets them; ``docs/evaluation.md`` says what each number means.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from facelatent.images import to_images, to_tensor
from facelatent.inversion.identity import ArcFaceIdentity
from facelatent.inversion.ms_ssim import SMALLEST_SIDE, ms_ssim
from facelatent.inversion.optimize import COMPARE_SIDE, identity_distance, shrunk
from facelatent.inversion.perceptual import lpips

#: What was measured on one picture, by the names in :data:`METRICS`; None where it could not be.
Measured = Mapping[str, float | None]

#: Height of the middle of the face in an FFHQ-aligned crop, as a share of its side.
_FACE_MIDDLE = 0.58
#: Below this mean squared error PSNR stops rising: 106 dB stands for equal pictures.
_LEAST_MSE = 1e-10


@dataclass(frozen=True)
class Metric:
    """One number about a reconstruction.

    Attributes:
        name: key in records.
        label: in tables.
        higher_is_better: whether the worst picture is the one with the lowest value.
    """

    name: str
    label: str
    higher_is_better: bool = False


#: In the order of tables.
METRICS = (
    Metric("mse", "MSE on [-1, 1], 256 px"),
    Metric("psnr", "PSNR (peak 2), dB, 256 px", True),
    Metric("lpips_alex", "LPIPS (AlexNet), 256 px"),
    Metric("lpips_vgg", "LPIPS (VGG16), 256 px"),
    Metric("ms_ssim", "MS-SSIM, 256 px", True),
    Metric("full_mse", "MSE, full resolution"),
    Metric("full_psnr", "PSNR, dB, full resolution", True),
    Metric("full_lpips_alex", "LPIPS (AlexNet), full resolution"),
    Metric("full_lpips_vgg", "LPIPS (VGG16), full resolution"),
    Metric("full_ms_ssim", "MS-SSIM, full resolution", True),
    Metric("identity", "identity distance (dlib)"),
    Metric("identity_mirrored", "identity distance, mirrored"),
    Metric("arcface", "ArcFace cosine", True),
    Metric("lec", "editing consistency, sd of w"),
    Metric("lec_raw", "editing consistency, W+ norm"),
    Metric("lec_unedited", "the same without an edit, sd of w"),
    Metric("seconds", "seconds"),
)


@dataclass(frozen=True)
class Summary:
    """One metric over the pictures that have it.

    Attributes:
        mean: over ``count`` pictures.
        median: likewise.
        worst: the value of the worst picture.
        count: pictures on which it could be measured.
    """

    mean: float
    median: float
    worst: float
    count: int


@torch.no_grad()
def compare(
    source: Image.Image,
    reconstruction: Image.Image,
    arcface: ArcFaceIdentity | None = None,
    device: str | torch.device = "cpu",
) -> dict[str, float | None]:
    """Everything in :data:`METRICS` that two pictures of one face tell.

    Args:
        source: FFHQ-aligned crop, square; its side a power of two.
        reconstruction: likewise, of the same side.
        arcface: another judge of identity, on ``device``; its cosine is left out if None.
        device: where networks run.

    Returns:
        ``mse``, ``psnr``, ``lpips_alex``, ``lpips_vgg`` and ``ms_ssim`` at 256 px; the same with ``full_`` on 256 px
        crops about the face, if the pictures are larger; ``identity`` and ``identity_mirrored`` (None where dlib finds
        no face in one of them), and ``arcface``. MS-SSIM is None below 176 px.

    Raises:
        ValueError: the pictures differ in size.
    """
    if source.size != reconstruction.size:
        raise ValueError(f"pictures of one size are compared, not {source.size} and {reconstruction.size}")
    a, b = (to_tensor(image).to(device) for image in (source, reconstruction))
    small_a, small_b = _small(a), _small(b)
    metrics = _pixel_metrics(small_a, small_b)
    if a.shape[-1] > COMPARE_SIDE:
        full = _pixel_metrics(face_crops(a), face_crops(b))
        metrics |= {f"full_{name}": value for name, value in full.items()}
    metrics["identity"] = identity_distance(small_a, small_b)
    metrics["identity_mirrored"] = identity_distance(small_a.flip(-1), small_b.flip(-1))
    if arcface is not None:
        metrics["arcface"] = 1 - float(arcface(small_b, small_a))
    return metrics


def face_crops(images: Tensor) -> Tensor:
    """Four 256 px crops about the face, without scaling: images [n, 3, H, H], H >= 512 -> [4 n, 3, 256, 256].

    They cover half the side of a 1024 px picture, from the brows to below the mouth: where people look, and where
    losses at 256 px leave texture free.
    """
    side, both = images.shape[-1], 2 * COMPARE_SIDE
    left, top = (side - both) // 2, min(round(_FACE_MIDDLE * side) - COMPARE_SIDE, side - both)
    square = images[:, :, top : top + both, left : left + both]
    halves = [half for rows in torch.split(square, COMPARE_SIDE, 2) for half in torch.split(rows, COMPARE_SIDE, 3)]
    return torch.cat(halves)


def summarise(rows: Sequence[Measured]) -> dict[str, Summary]:
    """Mean, median and worst of every metric that any of ``rows`` has."""
    summary = {}
    for metric in METRICS:
        values = [value for row in rows if (value := row.get(metric.name)) is not None]
        if values:
            worst = (min if metric.higher_is_better else max)(values)
            summary[metric.name] = Summary(statistics.fmean(values), statistics.median(values), worst, len(values))
    return summary


def summary_table(summary: Mapping[str, Summary]) -> str:
    """A summary as aligned text, one line a metric."""
    lines = [f"{'':<34}{'mean':>10}{'median':>10}{'worst':>10}{'faces':>7}"]
    for metric in METRICS:
        if (found := summary.get(metric.name)) is not None:
            numbers = "".join(f"{value:>10.4f}" for value in (found.mean, found.median, found.worst))
            lines.append(f"{metric.label:<34}{numbers}{found.count:>7}")
    return "\n".join(lines)


def _small(images: Tensor) -> Tensor:
    """Averaged down to 256 px and rounded to 8 bits, as a picture of that size would be."""
    if images.shape[-1] <= COMPARE_SIDE:
        return images
    return to_tensor(to_images(shrunk(images, COMPARE_SIDE))).to(images.device)


def _pixel_metrics(a: Tensor, b: Tensor) -> dict[str, float | None]:
    """Means over all pictures of two batches [n, 3, H, H]; PSNR is that of the mean squared error."""
    mse = float(F.mse_loss(a, b))
    return {
        "mse": mse,
        "psnr": 10 * math.log10(4 / max(mse, _LEAST_MSE)),
        "lpips_alex": float(lpips(a, b, "alex").mean()),
        "lpips_vgg": float(lpips(a, b, "vgg").mean()),
        "ms_ssim": float(ms_ssim(a, b).mean()) if a.shape[-1] >= SMALLEST_SIDE else None,
    }
