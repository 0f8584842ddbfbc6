"""What photos have and drawn pictures lack, so that an encoder that was trained on drawn faces holds on photos.

Two kinds: a *scene* is another true picture (another crop, other light), which a reconstruction should show too;
*damage* hides what is there (blur, JPEG, noise, an occluder), and a reconstruction should look through it.
"""

from __future__ import annotations

import io
import math

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

#: How often each change is made to a picture.
_OFTEN, _SELDOM = 0.5, 0.15
#: Crop jitter: largest rotation in degrees, and scale and shift as shares of the side.
_ROTATION, _SCALE, _SHIFT = 3.0, 0.04, 0.02
#: Light: largest exposure in stops, and contrast, saturation and white balance as shares.
_STOPS, _CONTRAST, _SATURATION, _BALANCE = 0.4, 0.25, 0.35, 0.12
#: Damage: largest blur in pixels of a 256 px picture, largest noise on [-1, 1], lowest JPEG quality.
_BLUR, _NOISE, _QUALITY = 1.5, 0.08, 30
#: Largest side of an occluder as a share of the picture's.
_OCCLUDER = 0.4


def scene(images: Tensor, random: torch.Generator) -> Tensor:
    """Other crops in other light.

    Args:
        images: [n, 3, H, H], RGB in [-1, 1].
        random: where chance comes from, on the CPU.

    Returns:
        The same shape and range; a picture that chance left alone is unchanged.
    """
    return _lit(_cropped(images, random), random)


def damage(images: Tensor, random: torch.Generator) -> Tensor:
    """Blurred, compressed, noisy, partly covered; arguments and result as :func:`scene`."""
    for change in (_covered, _blurred, _noisy, _compressed):
        images = change(images, random)
    return images


def _uniform(count: int, low: float, high: float, random: torch.Generator) -> Tensor:
    """[count, 1, 1, 1] between ``low`` and ``high``."""
    return torch.rand(count, 1, 1, 1, generator=random) * (high - low) + low


def _chosen(count: int, share: float, random: torch.Generator) -> Tensor:
    """[count, 1, 1, 1]: one where a change is made, else zero."""
    return (torch.rand(count, 1, 1, 1, generator=random) < share).float()


def _cropped(images: Tensor, random: torch.Generator) -> Tensor:
    count = len(images)
    made = _chosen(count, _OFTEN, random)
    angle = (_uniform(count, -_ROTATION, _ROTATION, random) * made * math.pi / 180)[:, 0, 0, 0]
    scale = (1 + _uniform(count, -_SCALE, _SCALE, random) * made)[:, 0, 0, 0]
    shift = (torch.rand(count, 2, generator=random) * 2 - 1) * 2 * _SHIFT * made[:, 0, 0]
    cosine, sine = scale * angle.cos(), scale * angle.sin()
    rows = torch.stack([cosine, -sine, shift[:, 0], sine, cosine, shift[:, 1]], 1).view(-1, 2, 3)
    grid = F.affine_grid(rows.to(images), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
    return torch.where(made.bool().to(images.device), moved, images)


def _lit(images: Tensor, random: torch.Generator) -> Tensor:
    count = len(images)
    made = _chosen(count, _OFTEN, random).to(images)
    light = ((images + 1) / 2).clamp(0, 1)
    exposure = 2 ** _uniform(count, -_STOPS, _STOPS, random).to(images)
    balance = 1 + (torch.rand(count, 3, 1, 1, generator=random) * 2 - 1).to(images) * _BALANCE
    lit = light * exposure * balance
    grey = lit.mean(1, keepdim=True)
    lit = grey + (lit - grey) * (1 + _uniform(count, -_SATURATION, _SATURATION, random).to(images))
    mean = lit.mean((1, 2, 3), keepdim=True)
    lit = mean + (lit - mean) * (1 + _uniform(count, -_CONTRAST, _CONTRAST, random).to(images))
    return torch.where(made.bool(), lit.clamp(0, 1) * 2 - 1, images)


def _covered(images: Tensor, random: torch.Generator) -> Tensor:
    """A rectangle or an ellipse of one colour with a little texture: a hand, a microphone, somebody's hat."""
    count, side = len(images), images.shape[-1]
    places = (torch.arange(side) + 0.5) / side
    middle = torch.rand(count, 2, 1, 1, generator=random)
    half = torch.rand(count, 2, 1, 1, generator=random) * _OCCLUDER / 2 + 0.03
    across = (places.view(1, 1, 1, -1) - middle[:, :1]) / half[:, :1]
    down = (places.view(1, 1, -1, 1) - middle[:, 1:]) / half[:, 1:]
    round_ones = across.square() + down.square() < 1
    square_ones = (across.abs() < 1) & (down.abs() < 1)
    shape = torch.where(_chosen(count, 0.5, random).bool(), round_ones, square_ones)
    shape = shape & _chosen(count, _SELDOM, random).bool()
    colour = torch.rand(count, 3, 1, 1, generator=random) * 2 - 1
    texture = F.interpolate(torch.randn(count, 3, 8, 8, generator=random) * 0.15, (side, side), mode="bilinear")
    cover = (colour + texture).clamp(-1, 1)
    return torch.where(shape.to(images.device), cover.to(images), images)


def _blurred(images: Tensor, random: torch.Generator) -> Tensor:
    sigmas = _uniform(len(images), 0.2, _BLUR, random) * images.shape[-1] / 256
    sigmas = sigmas * _chosen(len(images), _OFTEN, random)
    radius = max(math.ceil(3 * _BLUR * images.shape[-1] / 256), 1)
    offsets = torch.arange(-radius, radius + 1).view(1, 1, -1)
    kernels = torch.exp(-0.5 * (offsets / sigmas[:, :, 0].clamp_min(1e-3)).square())  # [n, 1, taps]
    kernels = (kernels / kernels.sum(-1, keepdim=True)).repeat_interleave(3, 0).to(images)
    planes = F.pad(images.flatten(0, 1)[None], (radius,) * 4, mode="replicate")
    planes = F.conv2d(planes, kernels[:, :, None], groups=planes.shape[1])
    return F.conv2d(planes, kernels[:, :, :, None], groups=planes.shape[1])[0].view(images.shape)


def _noisy(images: Tensor, random: torch.Generator) -> Tensor:
    count = len(images)
    size = _uniform(count, 0, _NOISE, random) * _chosen(count, _OFTEN, random)
    noise = torch.randn(images.shape, generator=random)
    return torch.where(size.bool().to(images.device), (images + (size * noise).to(images)).clamp(-1, 1), images)


def _compressed(images: Tensor, random: torch.Generator) -> Tensor:
    qualities = torch.randint(_QUALITY, 96, (len(images),), generator=random).tolist()
    made = _chosen(len(images), _OFTEN, random).flatten().tolist()
    results = []
    for image, quality, wanted in zip(images, qualities, made, strict=True):
        results.append(_jpeg(image, quality) if wanted else image)
    return torch.stack(results)


def _jpeg(image: Tensor, quality: int) -> Tensor:
    pixels = ((image.clamp(-1, 1) + 1) * 127.5).round().byte().permute(1, 2, 0).cpu().numpy()
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    decoded = torch.from_numpy(np.array(Image.open(stream)))
    return (decoded.permute(2, 0, 1).float() / 127.5 - 1).to(image)
