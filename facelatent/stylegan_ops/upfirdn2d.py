"""Up-sample, filter and down-sample images: StyleGAN2's resampling operator.

Karras et al., "Analyzing and Improving the Image Quality of StyleGAN", 2020, appendix B.

Compiled kernels run where there are any (see :mod:`facelatent.stylegan_ops.backend`), else plain PyTorch.
"""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.cuda_kernels import Kind
from facelatent.cuda_kernels.arguments import MAX_TAPS, Upfirdn2dArguments
from facelatent.stylegan_ops.backend import Backend, chosen
from facelatent.stylegan_ops.launch import DTYPES, differentiated, launch, refuse_forward_mode, watched

Factor = int | Sequence[int]


class Resampling(NamedTuple):
    """All but the tensors: factors, the padding before the first pixel, the size of the result."""

    up_x: int
    up_y: int
    down_x: int
    down_y: int
    left: int
    top: int
    out_h: int
    out_w: int
    flip_filter: bool
    gain: float

    def transposed(self, taps_h: int, taps_w: int, in_h: int, in_w: int) -> Resampling:
        """The operator's transpose: up and down swapped, the filter turned, the result as large as the input was."""
        return Resampling(
            self.down_x,
            self.down_y,
            self.up_x,
            self.up_y,
            taps_w - 1 - self.left,
            taps_h - 1 - self.top,
            in_h,
            in_w,
            not self.flip_filter,
            self.gain,
        )


def setup_filter(taps: Sequence[float] | Sequence[Sequence[float]]) -> Tensor:
    """A float32 filter that sums to 1: the outer product of fewer than 8 ``taps`` [n] with themselves, or as given.

    >>> setup_filter([1, 3, 3, 1])[0].mul(64).tolist()
    [1.0, 3.0, 3.0, 1.0]
    """
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
    backend: Backend | None = None,
) -> Tensor:
    """Insert zeros, pad, convolve every channel with ``f``, keep every ``down``-th sample, multiply by ``gain``.

    A side of the result is ``(side * up + pad_before + pad_after - taps + down) // down``. Differentiable any number
    of times in ``x``, not in ``f``. float16 and bfloat16 are filtered in float32.

    Args:
        x: [n, c, h, w], floating point. A channels_last image gives a channels_last result.
        f: [fh, fw], or [taps] to filter rows and then columns, or None for the 1x1 identity; on any device.
        up: zeros inserted after each sample, plus one; an int or (x, y).
        down: an int or (x, y).
        padding: zeros around the up-sampled image, negative to crop; an int, (x, y) or (left, right, top, bottom).
        flip_filter: False convolves (the filter is flipped), True correlates.
        gain: factor of the result.
        backend: which implementation; see :func:`~facelatent.stylegan_ops.backend.chosen`.

    Raises:
        ValueError: ``x`` is not an image batch, ``f`` not a filter, or the result would be empty.
        KernelsUnavailable: ``backend`` names kernels that cannot be had.
    """
    how = _resampling(x, f, up, down, padding, flip_filter, gain)
    return _apply(x, f, how, backend)


def upsample2d(x: Tensor, f: Tensor, up: int = 2, backend: Backend | None = None) -> Tensor:
    """Enlarge ``x`` [n, c, h, w] ``up`` times with the square filter ``f`` [k, k], keeping its brightness.

    >>> upsample2d(torch.ones(1, 3, 8, 8), setup_filter([1, 3, 3, 1])).shape
    torch.Size([1, 3, 16, 16])
    """
    k = f.shape[-1]
    before, after = (k + up - 1) // 2, (k - up) // 2
    return upfirdn2d(x, f, up=up, padding=(before, after, before, after), gain=up * up, backend=backend)


def _resampling(
    x: Tensor, f: Tensor | None, up: Factor, down: Factor, padding: Factor, flip_filter: bool, gain: float
) -> Resampling:
    if x.ndim != 4 or not x.is_floating_point():
        raise ValueError(f"upfirdn2d needs a floating-point [n, c, h, w], got {x.dtype} {tuple(x.shape)}")
    if f is not None and (f.ndim not in (1, 2) or not f.numel()):
        raise ValueError(f"a filter is [fh, fw] or [taps], got {tuple(f.shape)}")
    (up_x, up_y), (down_x, down_y) = _pair(up, "up"), _pair(down, "down")
    left, right, top, bottom = _padding(padding)
    (taps_h, taps_w), (h, w) = _taps(f), x.shape[2:]
    over_h, over_w = h * up_y + top + bottom - taps_h, w * up_x + left + right - taps_w
    if over_h < 0 or over_w < 0:
        raise ValueError(f"image {tuple(x.shape)} is smaller than the filter {(taps_h, taps_w)} after padding")
    out_h, out_w = over_h // down_y + 1, over_w // down_x + 1
    return Resampling(up_x, up_y, down_x, down_y, left, top, out_h, out_w, flip_filter, float(gain))


# The plain PyTorch twin


def _reference(x: Tensor, f: Tensor | None, how: Resampling) -> Tensor:
    work = x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
    work = _insert_zeros(work, how.up_x, how.up_y)
    (taps_h, taps_w), (h, w) = _taps(f), work.shape[2:]
    right = (how.out_w - 1) * how.down_x + taps_w - w - how.left
    bottom = (how.out_h - 1) * how.down_y + taps_h - h - how.top
    work = F.pad(work, [how.left, right, how.top, bottom])
    for kernel in _kernels(f, how.flip_filter, how.gain, work):
        work = F.conv2d(work, kernel.expand(work.shape[1], 1, -1, -1), groups=work.shape[1])
    return work[:, :, :: how.down_y, :: how.down_x].to(x.dtype)


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


# The compiled kernels


class _Taps(NamedTuple):
    """A filter as the kernels take it: doubles in the order of a correlation, with the gain."""

    values: Any  # ctypes array: [x] and [y] one after the other if separable, else [y, x]
    separable: bool
    x: int
    y: int


def _taken(kind: Kind, x: Tensor, f: Tensor | None) -> bool:
    """Whether there is a kernel for this dtype and size of filter."""
    return x.dtype in DTYPES and (kind == "cpu" or max(_taps(f)) <= MAX_TAPS)


def _compiled(kind: Kind, x: Tensor, f: Tensor | None, how: Resampling) -> Tensor:
    x, layout = _rows(x.detach())
    n, c, in_h, in_w = x.shape
    y = torch.empty((n, c, how.out_h, how.out_w), dtype=x.dtype, device=x.device, memory_format=layout)
    if y.numel() == 0:
        return y
    taps = _host_taps(f, how.flip_filter, how.gain, x.dtype == torch.float64)
    call = Upfirdn2dArguments(
        dtype=DTYPES[x.dtype],
        up_x=how.up_x,
        up_y=how.up_y,
        down_x=how.down_x,
        down_y=how.down_y,
        taps_x=taps.x,
        taps_y=taps.y,
        separable=taps.separable,
        pad_left=how.left,
        pad_top=how.top,
        n=n,
        c=c,
        in_h=in_h,
        in_w=in_w,
        out_h=how.out_h,
        out_w=how.out_w,
        x_stride=_strides(x, layout),
        y_stride=_strides(y, layout),
        filter=ctypes.addressof(taps.values),
        x=x.data_ptr(),
        y=y.data_ptr(),
    )
    launch(kind, "upfirdn2d", call, x.device)
    return y


def _rows(x: Tensor) -> tuple[Tensor, torch.memory_format]:
    """``x`` with rows of dense numbers (copied only if it has none), and the layout that its result gets."""
    _, across_c, _, across_w = x.stride()
    c, w = x.shape[1], x.shape[3]
    if c > 1 and across_c == 1 and (across_w == c or w == 1) and not x.is_contiguous():
        return x, torch.channels_last
    return (x if across_w == 1 or w == 1 else x.contiguous()), torch.contiguous_format


def _strides(x: Tensor, layout: torch.memory_format) -> tuple[int, ...]:
    """The strides of ``x``, where that of a single column may be any number, as the kernels expect them."""
    return (*x.stride()[:3], x.shape[1] if layout == torch.channels_last else 1)


#: Filters that live on a GPU: reading one waits for the GPU, so what was read is kept while the tensor is unchanged.
_read: dict[int, tuple[weakref.ref[Tensor], int, int, bytes]] = {}


def _host_taps(f: Tensor | None, flip_filter: bool, gain: float, exact: bool) -> _Taps:
    if f is None:
        return _prepared(np.ones(1).tobytes(), (1, 1), flip_filter, gain, exact)
    if f.device.type == "cpu" or f.is_inference():
        return _prepared(_bytes(f), tuple(f.shape), flip_filter, gain, exact)
    known = _read.get(id(f))
    if known is None or known[0]() is not f or known[1:3] != (f._version, f.data_ptr()):
        if len(_read) >= 64:
            _read.clear()
        known = _read[id(f)] = (weakref.ref(f), f._version, f.data_ptr(), _bytes(f))
    return _prepared(known[3], tuple(f.shape), flip_filter, gain, exact)


def _bytes(f: Tensor) -> bytes:
    return f.detach().to("cpu", torch.float64).numpy().tobytes()


@lru_cache(maxsize=256)
def _prepared(content: bytes, shape: tuple[int, ...], flip_filter: bool, gain: float, exact: bool) -> _Taps:
    f = np.frombuffer(content).reshape(shape)
    if not flip_filter:
        f = np.flip(f)
    factors = (f, f * gain) if f.ndim == 1 else _factors(f * gain, 1e-15 if exact else 1e-7)
    values = np.concatenate(factors) if factors else (f * gain).ravel()
    array = (ctypes.c_double * len(values))(*values)
    return _Taps(array, bool(factors), f.shape[-1], f.shape[0])


def _factors(f: Any, tolerance: float) -> tuple[Any, Any] | None:
    """(along x, along y) whose outer product is ``f`` [fh, fw], if there are such."""
    largest = np.abs(f).max()
    if not 0 < largest < np.inf:
        return None
    row, column = np.unravel_index(np.abs(f).argmax(), f.shape)
    along_x, along_y = f[row] / f[row, column], f[:, column]
    return (along_x, along_y) if np.abs(np.outer(along_y, along_x) - f).max() <= tolerance * largest else None


# Choice of the implementation, and differentiation


def _apply(x: Tensor, f: Tensor | None, how: Resampling, backend: Backend | None) -> Tensor:
    if backend != "reference" and watched(x, f):
        return torch.ops.facelatent.upfirdn2d(x, f, *how, backend or "")  # type: ignore[no-any-return]
    kind = chosen(backend, x.device)
    if kind == "reference" or not _taken(kind, x, f):
        return _reference(x, f, how)
    refuse_forward_mode(x)
    if differentiated(x):
        return _Differentiable.apply(x, f, *how, backend)  # type: ignore[no-any-return, no-untyped-call]
    return _compiled(kind, x, f, how)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.f, *arguments, backend = inputs
    ctx.backend = backend or None
    ctx.how = Resampling(*arguments).transposed(*_taps(ctx.f), *x.shape[2:])


def _backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    return _apply(g, ctx.f, ctx.how, ctx.backend), *(None,) * 12


class _Differentiable(torch.autograd.Function):
    """The operator below for plain eager code: the same, at half the cost of a call."""

    setup_context = staticmethod(_setup_context)
    backward = staticmethod(_backward)

    @staticmethod
    def forward(x: Tensor, f: Tensor | None, *arguments: Any) -> Tensor:
        return _operator(x, f, *arguments)


# The registered operator, for torch.compile, fake tensors and modes

torch.library.define(
    "facelatent::upfirdn2d",
    "(Tensor x, Tensor? f, int up_x, int up_y, int down_x, int down_y, SymInt left, SymInt top, "
    "SymInt out_h, SymInt out_w, bool flip_filter, float gain, str backend) -> Tensor",
)


def _operator(x: Tensor, f: Tensor | None, *arguments: Any) -> Tensor:
    how, backend = Resampling(*arguments[:-1]), arguments[-1] or None
    kind = chosen(backend, x.device)
    if kind == "reference" or not _taken(kind, x, f):
        return _reference(x, f, how).contiguous(memory_format=_rows(x)[1])
    return _compiled(kind, x, f, how)


@torch.library.register_fake("facelatent::upfirdn2d")  # type: ignore[untyped-decorator]
def _fake(x: Tensor, f: Tensor | None, *arguments: Any) -> Tensor:
    how = Resampling(*arguments[:-1])
    return x.new_empty((*x.shape[:2], how.out_h, how.out_w)).contiguous(memory_format=_rows(x)[1])


torch.library.impl("facelatent::upfirdn2d", "CompositeExplicitAutograd", _operator)
torch.library.register_autograd("facelatent::upfirdn2d", _backward, setup_context=_setup_context)


def _taps(f: Tensor | None) -> tuple[int, int]:
    """(rows, columns) of the filter."""
    return (1, 1) if f is None else (f.shape[0], f.shape[-1])


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
