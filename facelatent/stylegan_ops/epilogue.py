"""What follows a convolution of StyleGAN2, in one pass over memory: blur, demodulation, noise, bias, activation, the
next layer's style, and the layer's share of the picture.

Each operator has a compiled form for the CPU and for CUDA, and a plain PyTorch twin that defines it.
"""

from __future__ import annotations

import ctypes
import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent import cuda_kernels
from facelatent.stylegan_ops.backend import Backend, chosen
from facelatent.stylegan_ops.upfirdn2d import setup_filter, upfirdn2d, upsample2d

SLOPE = 0.2
GAIN = math.sqrt(2)
_ABI = 1
_DTYPES = {torch.float32: 0, torch.float16: 1, torch.bfloat16: 2, torch.float64: 3}

Kind = Literal["cpu", "cuda"]
Parts = tuple[Tensor, Tensor]
Gradients = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]


def epilogue(
    x: Tensor,
    blur: bool = False,
    demodulation: Tensor | None = None,
    noise: Tensor | None = None,
    bias: Tensor | None = None,
    slope: float = SLOPE,
    gain: float = GAIN,
    clamp: float | None = None,
    style: Tensor | None = None,
    rgb_weight: Tensor | None = None,
    want_y: bool = True,
    backend: Backend | None = None,
) -> tuple[Tensor | None, Tensor | None]:
    """Finish a layer: ``a = clamp(gain * lrelu(b * demodulation + noise + bias))`` where ``b`` is ``x``, blurred or not.

    Differentiable any number of times in every tensor.

    Args:
        x: [n, c, h, w], or with ``blur`` [n, c, h + 1, w + 1], as a convolution of stride 1/2 leaves it.
        blur: filter ``x`` with [1, 3, 3, 1] and gain 4 first, without which up-sampling leaves a grid.
        demodulation: [n, c].
        noise: [1 or n, 1, h, w].
        bias: [c].
        slope: of the leaky ReLU below zero.
        gain: factor after it.
        clamp: limit of ``a``.
        style: [n, c], of the layer that takes ``y``.
        rgb_weight: [n, 3, c]; its product with ``a`` is ``rgb``.
        want_y: False where only ``rgb`` is needed.
        backend: see :func:`~facelatent.stylegan_ops.backend.chosen`.

    Returns:
        ``y = a * style`` [n, c, h, w] in the dtype of ``x``, or None if not wanted, and ``rgb`` [n, 3, h, w], or None
        without ``rgb_weight``. Parameters and ``rgb`` are float32, or float64 if ``x`` is.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check(x, blur, demodulation, noise, bias, style, rgb_weight)
    arguments = (x, blur, demodulation, noise, bias, slope, gain, -1.0 if clamp is None else clamp)
    # A GPU's float16 is the only half precision that no CPU kernel takes.
    if chosen(backend, x.device) == "reference" or (x.dtype == torch.float16 and x.device.type == "cpu"):
        y, rgb = epilogue_reference(*arguments, style, rgb_weight, want_y)
    else:
        y, rgb = torch.ops.facelatent.epilogue(*arguments, style, rgb_weight, want_y)
    return (y if want_y else None), (None if rgb_weight is None else rgb)


def epilogue_reference(
    x: Tensor,
    blur: bool,
    demodulation: Tensor | None,
    noise: Tensor | None,
    bias: Tensor | None,
    slope: float,
    gain: float,
    clamp: float,
    style: Tensor | None,
    rgb_weight: Tensor | None,
    want_y: bool,
) -> Parts:
    """The twin of the operator ``facelatent::epilogue``: a negative ``clamp`` is none, an unwanted result is empty."""
    a = x.double() if x.dtype == torch.float64 else x.float()
    if blur:
        a = upfirdn2d(a, setup_filter((1.0, 3.0, 3.0, 1.0)), padding=1, gain=4, backend="reference")
    if demodulation is not None:
        a = a * demodulation[:, :, None, None]
    if noise is not None:
        a = a + noise
    if bias is not None:
        a = a + bias[:, None, None]
    a = F.leaky_relu(a, slope) * gain
    if clamp >= 0:
        a = a.clamp(-clamp, clamp)
    rgb = a.new_empty(0) if rgb_weight is None else torch.einsum("nchw,nkc->nkhw", a, rgb_weight)
    if not want_y:
        return x.new_empty(0), rgb
    y = a if style is None else a * style[:, :, None, None]
    return y.to(x.dtype), rgb


def _check(
    x: Tensor,
    blur: bool,
    demodulation: Tensor | None,
    noise: Tensor | None,
    bias: Tensor | None,
    style: Tensor | None,
    rgb_weight: Tensor | None,
) -> None:
    if x.ndim != 4 or x.dtype not in _DTYPES or min(x.shape) < 1 + blur * 0:
        raise ValueError(f"epilogue needs a floating-point [n, c, h, w], got {x.dtype} {tuple(x.shape)}")
    n, c, h, w = x.shape
    h, w = h - blur, w - blur
    if h < 1 or w < 1:
        raise ValueError(f"{tuple(x.shape)} is too small to be blurred")
    expected: dict[str, tuple[Tensor | None, tuple[tuple[int, ...], ...]]] = {
        "demodulation": (demodulation, ((n, c),)),
        "noise": (noise, ((1, 1, h, w), (n, 1, h, w))),
        "bias": (bias, ((c,),)),
        "style": (style, ((n, c),)),
        "rgb_weight": (rgb_weight, ((n, 3, c),)),
    }
    dtype = _parameter_dtype(x)
    for name, (value, shapes) in expected.items():
        if value is not None and (tuple(value.shape) not in shapes or value.dtype != dtype):
            raise ValueError(f"{name} must be {dtype} {list(shapes[-1])}, got {value.dtype} {list(value.shape)}")


def _parameter_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


class EpilogueCall(ctypes.Structure):
    """``facelatent_epilogue`` of epilogue.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("abi", "bytes", "dtype", "blur")),
        *((name, ctypes.c_int64) for name in ("n", "c", "h", "w")),
        *((name, ctypes.c_void_p) for name in ("x", "y", "rgb", "demodulation", "noise", "bias", "style", "rgb_weight")),
        *(
            (name, ctypes.c_int64)
            for name in (
                *("noise_batch_stride", "x_batch_stride", "x_row_stride", "y_batch_stride", "y_row_stride"),
                *("rgb_batch_stride", "rgb_channel_stride", "rgb_row_stride"),
            )
        ),
        *((name, ctypes.c_float) for name in ("slope", "gain", "clamp")),
        *((name, ctypes.c_int32) for name in ("pad_top", "pad_bottom", "device")),
        ("stream", ctypes.c_void_p),
    )


class EpilogueBackwardCall(ctypes.Structure):
    """``facelatent_epilogue_backward`` of epilogue.h."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("abi", "bytes", "dtype", "blur")),
        *((name, ctypes.c_int64) for name in ("n", "c", "h", "w")),
        *((name, ctypes.c_void_p) for name in ("x", "gy", "grgb", "demodulation", "noise", "bias", "style", "rgb_weight")),
        ("noise_batch_stride", ctypes.c_int64),
        *(
            (name, ctypes.c_void_p)
            for name in ("gx", "g_demodulation", "g_noise", "g_bias", "g_style", "g_rgb_weight")
        ),
        *((name, ctypes.c_float) for name in ("slope", "gain", "clamp")),
        ("device", ctypes.c_int32),
        ("stream", ctypes.c_void_p),
    )
