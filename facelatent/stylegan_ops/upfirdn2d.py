"""Up-sample, filter and down-sample images: StyleGAN2's resampling operator.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, appendix B.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Factor = int | Sequence[int]


def setup_filter(taps: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """A float32 filter that sums to 1: the outer product of fewer than 8 ``taps`` [n] with themselves, or as given."""
    # On the CPU by name: networks are built on the meta device and only then given their weights.
    f = torch.tensor(taps, dtype=torch.float32, device="cpu")
    if f.ndim == 1 and len(f) < 8:
        f = torch.outer(f, f)
    return f / f.sum()


def upfirdn2d(
    x: Tensor,
    f: Tensor | None,
    up: Factor = 1,
    down: Factor = 1,
    padding: Factor = 0,
    flip_filter: bool = False,
    gain: float = 1,
) -> Tensor:
    """Insert zeros, pad, convolve every channel with ``f``, keep every ``down``-th sample, multiply by ``gain``.

    A side of the result is ``(side * up + pad_before + pad_after - taps + down) // down``. Differentiable any number
    of times in ``x``, not in ``f``. float16 and bfloat16 are filtered in float32.

    Args:
        x: [n, c, h, w], floating point.
        f: [fh, fw], or [taps] to filter rows and then columns, or None for the 1x1 identity.
        up: zeros inserted after each sample, plus one; an int or (x, y).
        down: an int or (x, y).
        padding: zeros around the up-sampled image, negative to crop; an int, (x, y) or (left, right, top, bottom).
        flip_filter: False convolves (the filter is flipped), True correlates.
        gain: factor of the result.

    Raises:
        ValueError: ``x`` is not an image batch, or the result would be empty.
    """
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"upfirdn2d needs a floating-point [n, c, h, w], got {x.dtype} {tuple(x.shape)}")
    (up_x, up_y), (down_x, down_y) = _pair(up, "up"), _pair(down, "down")
    left, right, top, bottom = _padding(padding)
    work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    work = _insert_zeros(work, up_x, up_y)
    work = F.pad(work, [left, right, top, bottom])
    for kernel in _kernels(f, flip_filter, gain, work):
        if work.shape[2] < kernel.shape[0] or work.shape[3] < kernel.shape[1]:
            raise ValueError(f"image {tuple(x.shape)} is smaller than the filter {tuple(kernel.shape)} after padding")
        work = F.conv2d(work, kernel.expand(work.shape[1], 1, -1, -1), groups=work.shape[1])
    return work[:, :, ::down_y, ::down_x].to(x.dtype)


def upsample2d(x: Tensor, f: Tensor, up: int = 2) -> Tensor:
    """Enlarge ``x`` [n, c, h, w] ``up`` times with the square filter ``f`` [k, k], keeping its brightness."""
    k = f.shape[-1]
    before, after = (k + up - 1) // 2, (k - up) // 2
    return upfirdn2d(x, f, up=up, padding=(before, after, before, after), gain=up * up)


def _insert_zeros(x: Tensor, up_x: int, up_y: int) -> Tensor:
    if up_x == up_y == 1:
        return x
    n, c, h, w = x.shape
    spread = F.pad(x.reshape(n, c, h, 1, w, 1), [0, up_x - 1, 0, 0, 0, up_y - 1])
    return spread.reshape(n, c, h * up_y, w * up_x)


def _kernels(f: Tensor | None, flip_filter: bool, gain: float, like: Tensor) -> list[Tensor]:
    """The 2-D correlation kernels that apply ``f`` one after another, in the dtype and on the device of ``like``."""
    if f is None:
        f = torch.ones(1, 1)
    kernel = f.detach().to(like.device, like.dtype)
    if not flip_filter:
        kernel = kernel.flip(list(range(kernel.ndim)))
    # A separable filter runs twice, so each pass carries the root of the gain.
    kernel = kernel * gain ** (kernel.ndim / 2)
    return [kernel] if kernel.ndim == 2 else [kernel[None, :], kernel[:, None]]


def _pair(value: Factor, name: str) -> tuple[int, int]:
    x, y = (value, value) if isinstance(value, int) else tuple(value)
    if x < 1 or y < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")
    return x, y


def _padding(value: Factor) -> tuple[int, int, int, int]:
    """(left, right, top, bottom)."""
    if isinstance(value, int):
        return value, value, value, value
    if len(value) == 2:
        x, y = value
        return x, x, y, y
    left, right, top, bottom = value
    return left, right, top, bottom
