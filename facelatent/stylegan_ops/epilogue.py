"""What follows a convolution of StyleGAN2, in one pass over memory: blur, demodulation, noise, bias, activation, the
next layer's style, and the layer's share of the picture.

Each operator has a compiled form for the CPU and for CUDA, and a plain PyTorch twin that defines it.
"""

from __future__ import annotations

import ctypes
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.cuda_kernels import Kind, library
from facelatent.cuda_kernels.arguments import stamped
from facelatent.stylegan_ops.backend import Backend, chosen
from facelatent.stylegan_ops.launch import DTYPES, differentiated, launch, refuse_forward_mode, watched
from facelatent.stylegan_ops.upfirdn2d import setup_filter, upfirdn2d, upsample2d

SLOPE = 0.2
GAIN = math.sqrt(2)
#: The resampling filter of every StyleGAN2, before normalisation.
TAPS = (1.0, 3.0, 3.0, 1.0)

Parts = tuple[Tensor, Tensor]
#: Of x, demodulation, noise, bias, style and rgb_weight; those that are not wanted are empty.
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
    """Finish a layer: ``a = clamp(gain * lrelu(b * demodulation + noise + bias))``, ``b`` being ``x``, blurred or not.

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
    limit = -1.0 if clamp is None else clamp
    arguments = (x, blur, demodulation, noise, bias, slope, gain, limit, style, rgb_weight, want_y)
    tensors = (x, demodulation, noise, bias, style, rgb_weight)
    if watched(*tensors) and backend != "reference":
        y, rgb = torch.ops.facelatent.epilogue(*arguments, backend or "")
    elif (kind := _kernels(backend, x)) is None:
        y, rgb = epilogue_reference(*arguments)
    else:
        refuse_forward_mode(*tensors)
        if differentiated(*tensors):
            y, rgb = torch.ops.facelatent.epilogue(*arguments, backend or "")
        else:
            y, rgb = _forward(kind, *arguments)
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
        a = upfirdn2d(a, setup_filter(TAPS), padding=1, gain=4, backend="reference")
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
    if x.ndim != 4 or x.dtype not in DTYPES or min(x.shape) < 1 or min(x.shape[2:]) <= blur:
        raise ValueError(f"epilogue needs a floating-point [n, c, h, w] with pixels, got {x.dtype} {tuple(x.shape)}")
    n, c, h, w = _size(x, blur)
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


def _size(x: Tensor, blur: bool) -> tuple[int, int, int, int]:
    """Of the result."""
    n, c, h, w = x.shape
    return n, c, h - blur, w - blur


def _parameter_dtype(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def skip_add(
    rgb: Tensor,
    bias: Tensor,
    clamp: float | None = None,
    previous: Tensor | None = None,
    backend: Backend | None = None,
) -> Tensor:
    """Add a layer's colours to the picture so far: ``clamp(rgb + bias) + upsample2d(previous)``.

    Args:
        rgb: [n, 3, h, w], float32 or float64.
        bias: [3].
        clamp: limit of what is added.
        previous: [n, 3, h/2, w/2]; none at the smallest resolution.
        backend: see :func:`~facelatent.stylegan_ops.backend.chosen`.

    Raises:
        ValueError: shapes that do not fit.
    """
    _check_colours(rgb, bias, previous)
    arguments = (rgb, bias, -1.0 if clamp is None else clamp, previous)
    tensors = (rgb, bias, previous)
    if watched(*tensors) and backend != "reference":
        return torch.ops.facelatent.skip_add(*arguments, backend or "")  # type: ignore[no-any-return]
    if (kind := _kernels(backend, rgb)) is None:
        return skip_add_reference(*arguments)
    refuse_forward_mode(*tensors)
    if differentiated(*tensors):
        return torch.ops.facelatent.skip_add(*arguments, backend or "")  # type: ignore[no-any-return]
    return _skip_add(kind, *arguments)


def skip_add_reference(rgb: Tensor, bias: Tensor, clamp: float, previous: Tensor | None) -> Tensor:
    """The twin of the operator ``facelatent::skip_add``: a negative ``clamp`` is none."""
    colours = rgb + bias[:, None, None]
    if clamp >= 0:
        colours = colours.clamp(-clamp, clamp)
    return colours if previous is None else colours + upsample2d(previous, setup_filter(TAPS), backend="reference")


def _check_colours(rgb: Tensor, bias: Tensor, previous: Tensor | None) -> None:
    if rgb.ndim != 4 or rgb.shape[1] != 3 or rgb.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"colours must be float32 [n, 3, h, w], got {rgb.dtype} {tuple(rgb.shape)}")
    n, _, h, w = rgb.shape
    if bias.shape != (3,) or bias.dtype != rgb.dtype:
        raise ValueError(f"bias must be {rgb.dtype} [3], got {bias.dtype} {tuple(bias.shape)}")
    if previous is not None and (
        h % 2 or w % 2 or previous.shape != (n, 3, h // 2, w // 2) or previous.dtype != rgb.dtype
    ):
        raise ValueError(f"the picture so far must be half of {tuple(rgb.shape)}, got {tuple(previous.shape)}")


# The compiled kernels


class EpilogueCall(ctypes.Structure):
    """``facelatent_epilogue`` of ``sources/epilogue.h``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("abi", "bytes", "dtype", "blur")),
        *((name, ctypes.c_int64) for name in ("n", "c", "h", "w")),
        *(
            (name, ctypes.c_void_p)
            for name in ("x", "y", "rgb", "demodulation", "noise", "bias", "style", "rgb_weight")
        ),
        *((f"{name}_stride", ctypes.c_int64) for name in ("noise_batch", "x_batch", "x_row", "y_batch", "y_row")),
        *((f"rgb_{name}_stride", ctypes.c_int64) for name in ("batch", "channel", "row")),
        *((name, ctypes.c_double) for name in ("slope", "gain", "clamp")),
        *((name, ctypes.c_int32) for name in ("pad_top", "pad_bottom", "device", "threads")),
        *((name, ctypes.c_void_p) for name in ("stream", "rgb_bias", "previous")),
        ("rgb_clamp", ctypes.c_double),
    )


class EpilogueBackwardCall(ctypes.Structure):
    """``facelatent_epilogue_backward`` of ``sources/epilogue.h``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("abi", "bytes", "dtype", "blur")),
        *((name, ctypes.c_int64) for name in ("n", "c", "h", "w")),
        *((name, ctypes.c_void_p) for name in ("x", "gy", "grgb")),
        *((name, ctypes.c_void_p) for name in ("demodulation", "noise", "bias", "style", "rgb_weight")),
        ("noise_batch_stride", ctypes.c_int64),
        *((name, ctypes.c_void_p) for name in ("gx", "g_demodulation", "g_noise", "g_bias", "g_style", "g_rgb_weight")),
        *((name, ctypes.c_double) for name in ("slope", "gain", "clamp")),
        *((name, ctypes.c_int32) for name in ("device", "threads")),
        *((name, ctypes.c_void_p) for name in ("stream", "unblurred", "partial")),
        ("segments", ctypes.c_int64),
    )


class SkipAddCall(ctypes.Structure):
    """``facelatent_skip_add`` of ``sources/epilogue.h``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("abi", "bytes", "dtype", "device", "threads")),
        ("clamp", ctypes.c_double),
        *((name, ctypes.c_int64) for name in ("n", "h", "w")),
        *((name, ctypes.c_void_p) for name in ("rgb", "bias", "previous", "y", "stream")),
    )


def _kernels(backend: Backend | None, x: Tensor) -> Kind | None:
    """The kernels to use for ``x``, if there are any: float16 has some on GPUs only."""
    kind = chosen(backend, x.device)
    return None if kind == "reference" or (kind == "cpu" and x.dtype == torch.float16) else kind


def epilogue_call(
    blur: bool,
    size: Sequence[int],
    demodulation: Tensor | None,
    noise: Tensor | None,
    bias: Tensor | None,
    slope: float,
    gain: float,
    clamp: float,
    style: Tensor | None,
    rgb_weight: Tensor | None,
    y: Tensor | None,
    rgb: Tensor | None,
) -> EpilogueCall:
    """The arguments of a whole picture but for its input.

    Args:
        blur, slope, gain, clamp: as in :func:`epilogue`; a negative ``clamp`` is none.
        size: [n, c, h, w] of the result.
        demodulation, noise, bias, style, rgb_weight: as in :func:`epilogue`, contiguous; the caller keeps them alive.
        y: [n, c, h, w], dense and channels_last.
        rgb: [n, 3, h, w], contiguous.
    """
    n, c, h, w = size
    return EpilogueCall(
        blur=blur,
        n=n,
        c=c,
        h=h,
        w=w,
        y=_pointer(y),
        rgb=_pointer(rgb),
        demodulation=_pointer(demodulation),
        noise=_pointer(noise),
        bias=_pointer(bias),
        style=_pointer(style),
        rgb_weight=_pointer(rgb_weight),
        noise_batch_stride=h * w if noise is not None and len(noise) > 1 else 0,
        x_batch_stride=(h + blur) * (w + blur) * c,
        x_row_stride=(w + blur) * c,
        y_batch_stride=h * w * c,
        y_row_stride=w * c,
        rgb_batch_stride=3 * h * w,
        rgb_channel_stride=h * w,
        rgb_row_stride=w,
        slope=slope,
        gain=gain,
        clamp=clamp,
        pad_top=1,
        pad_bottom=1,
    )


def _forward(
    kind: Kind,
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
    x = x.contiguous(memory_format=torch.channels_last)
    demodulation, noise, bias, style, rgb_weight = (
        None if t is None else t.contiguous() for t in (demodulation, noise, bias, style, rgb_weight)
    )
    y, rgb = _results(x, blur, rgb_weight, want_y)
    call = epilogue_call(blur, _size(x, blur), demodulation, noise, bias, slope, gain, clamp, style, rgb_weight, y, rgb)
    call.x, call.dtype = x.data_ptr(), DTYPES[x.dtype]
    if y.numel() or rgb.numel():
        launch(kind, "epilogue", call, x.device)
    return y, rgb


def _results(x: Tensor, blur: bool, rgb_weight: Tensor | None, want_y: bool) -> Parts:
    n, c, h, w = _size(x, blur)
    y = x.new_empty(0)
    if want_y:
        y = torch.empty((n, c, h, w), dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    return y, x.new_empty(0 if rgb_weight is None else (n, 3, h, w), dtype=_parameter_dtype(x))


def _backward(
    kind: Kind,
    gy: Tensor | None,
    grgb: Tensor | None,
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
    wanted: Sequence[bool],
) -> Gradients:
    x = x.contiguous(memory_format=torch.channels_last)
    gy = None if gy is None else gy.contiguous(memory_format=torch.channels_last)
    grgb, demodulation, noise, bias, style, rgb_weight = (
        None if t is None else t.contiguous() for t in (grgb, demodulation, noise, bias, style, rgb_weight)
    )
    n, c, h, w = _size(x, blur)
    gx = torch.empty_like(x, memory_format=torch.channels_last)
    shapes = ((n, c), (n, 1, h, w), (n, c), (n, c), (n, 3, c))
    sums = [
        x.new_empty(shape if want else 0, dtype=_parameter_dtype(x)) for shape, want in zip(shapes, wanted, strict=True)
    ]
    call = EpilogueBackwardCall(
        dtype=DTYPES[x.dtype],
        blur=blur,
        n=n,
        c=c,
        h=h,
        w=w,
        x=x.data_ptr(),
        gy=_pointer(gy),
        grgb=_pointer(grgb),
        demodulation=_pointer(demodulation),
        noise=_pointer(noise),
        bias=_pointer(bias),
        style=_pointer(style),
        rgb_weight=_pointer(rgb_weight),
        noise_batch_stride=h * w if noise is not None and len(noise) > 1 else 0,
        gx=gx.data_ptr(),
        g_demodulation=_pointer(sums[0]),
        g_noise=_pointer(sums[1]),
        g_bias=_pointer(sums[2]),
        g_style=_pointer(sums[3]),
        g_rgb_weight=_pointer(sums[4]),
        slope=slope,
        gain=gain,
        clamp=clamp,
    )
    if kind == "cuda":
        _launch_in_parts(call, x, sums)
    else:
        launch(kind, "epilogue_backward", call, x.device)
    if wanted[1] and noise is not None and len(noise) < n:
        sums[1] = sums[1].sum(0, keepdim=True)
    if wanted[2]:
        sums[2] = sums[2].sum(0)
    return gx, sums[0], sums[1], sums[2], sums[3], sums[4]


def _launch_in_parts(call: EpilogueBackwardCall, x: Tensor, sums: list[Tensor]) -> None:
    """Launch on a GPU, whose kernel leaves the sums over pixels in parts, one for each block; order is fixed."""
    n, c, h, w = call.n, call.c, call.h, call.w
    unblurred = x.new_empty(n * h * w * c if call.blur else 0)
    call.unblurred = _pointer(unblurred)
    call.segments = _segments(call)
    partial = x.new_empty((n, call.segments, 6, c), dtype=_parameter_dtype(x))
    call.partial = partial.data_ptr()
    launch("cuda", "epilogue_backward", call, x.device)
    whole = partial.sum(1)
    for index, part in ((0, whole[:, 0]), (2, whole[:, 1]), (3, whole[:, 2]), (4, whole[:, 3:])):
        if sums[index].numel():
            sums[index] = part.contiguous()


def _segments(call: EpilogueBackwardCall) -> int:
    """The blocks that a picture is cut into on a GPU."""
    function = library("cuda").facelatent_epilogue_backward_segments
    function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int64
    return int(function(ctypes.byref(stamped(call))))


def _pointer(tensor: Tensor | None) -> int | None:
    return tensor.data_ptr() if tensor is not None and tensor.numel() else None


def _skip_add(kind: Kind, rgb: Tensor, bias: Tensor, clamp: float, previous: Tensor | None) -> Tensor:
    rgb, bias = rgb.contiguous(), bias.contiguous()
    previous = None if previous is None else previous.contiguous()
    y = torch.empty_like(rgb)
    call = SkipAddCall(
        dtype=DTYPES[rgb.dtype],
        clamp=clamp,
        n=len(rgb),
        h=rgb.shape[2],
        w=rgb.shape[3],
        rgb=rgb.data_ptr(),
        bias=bias.data_ptr(),
        previous=_pointer(previous),
        y=y.data_ptr(),
    )
    launch(kind, "skip_add", call, rgb.device)
    return y


# The registered operators, for autograd, torch.compile and fake tensors

_PARAMETERS = (
    "Tensor x, bool blur, Tensor? demodulation, Tensor? noise, Tensor? bias, float slope, float gain, float clamp, "
    "Tensor? style, Tensor? rgb_weight"
)
torch.library.define("facelatent::epilogue", f"({_PARAMETERS}, bool want_y, str backend) -> (Tensor, Tensor)")
torch.library.define(
    "facelatent::epilogue_backward",
    f"(Tensor? gy, Tensor? grgb, {_PARAMETERS}, bool[5] wanted, str backend) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
torch.library.define(
    "facelatent::skip_add", "(Tensor rgb, Tensor bias, float clamp, Tensor? previous, str backend) -> Tensor"
)


@torch.library.impl("facelatent::epilogue", "CompositeExplicitAutograd")
def _operator(x: Tensor, *arguments: Any) -> Parts:
    kind = _kernels(arguments[-1] or None, x)
    if kind is not None:
        return _forward(kind, x, *arguments[:-1])
    y, rgb = epilogue_reference(x, *arguments[:-1])
    return y.contiguous(memory_format=torch.channels_last) if y.ndim == 4 else y, rgb.contiguous()


@torch.library.register_fake("facelatent::epilogue")  # type: ignore[untyped-decorator]
def _fake(x: Tensor, blur: bool, *arguments: Any) -> Parts:
    rgb_weight, want_y = arguments[-3:-1]
    return _results(x, blur, rgb_weight, want_y)


@torch.library.impl("facelatent::epilogue_backward", "CompositeExplicitAutograd")
def _backward_operator(gy: Tensor | None, grgb: Tensor | None, x: Tensor, *arguments: Any) -> Gradients:
    wanted = arguments[-2]
    kind = _kernels(arguments[-1] or None, x)
    if kind is not None:
        return _backward(kind, gy, grgb, x, *arguments[:-1])
    detached = [t.detach().requires_grad_() if isinstance(t, Tensor) else t for t in (x, *arguments[:-2])]
    with torch.enable_grad():
        found = _composed(gy, grgb, detached, (True, *wanted))
    nothing = x.new_empty(0, dtype=_parameter_dtype(x))
    gx, *sums = ((nothing if g is None else g).clone(memory_format=torch.contiguous_format) for g in found)
    return gx.contiguous(memory_format=torch.channels_last), *sums  # type: ignore[return-value]


@torch.library.register_fake("facelatent::epilogue_backward")  # type: ignore[untyped-decorator]
def _backward_fake(gy: Tensor | None, grgb: Tensor | None, x: Tensor, *arguments: Any) -> Gradients:
    _, demodulation, noise, bias, _, _, _, style, rgb_weight, wanted, _ = arguments
    empty = x.new_empty(0, dtype=_parameter_dtype(x))
    sums = (
        torch.empty_like(t, memory_format=torch.contiguous_format) if want else empty.clone()
        for t, want in zip((demodulation, noise, bias, style, rgb_weight), wanted, strict=True)
    )
    return torch.empty_like(x, memory_format=torch.channels_last), *sums  # type: ignore[return-value]


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Parts) -> None:
    (
        x,
        ctx.blur,
        demodulation,
        noise,
        bias,
        ctx.slope,
        ctx.gain,
        ctx.clamp,
        style,
        rgb_weight,
        ctx.want_y,
        ctx.backend,
    ) = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(x, demodulation, noise, bias, style, rgb_weight)


def _gradients(ctx: Any, gy: Tensor | None, grgb: Tensor | None) -> tuple[Tensor | None, ...]:
    x, demodulation, noise, bias, style, rgb_weight = ctx.saved_tensors
    parameters = [x, ctx.blur, demodulation, noise, bias, ctx.slope, ctx.gain, ctx.clamp, style, rgb_weight]
    gy, grgb = (gy if ctx.want_y else None), (None if rgb_weight is None else grgb)
    wanted = [ctx.needs_input_grad[index] for index in (0, 2, 3, 4, 8, 9)]
    if gy is None and grgb is None:
        found: Sequence[Tensor | None] = (None,) * 6
    elif torch.is_grad_enabled():  # someone will differentiate these gradients
        found = _composed(gy, grgb, parameters, wanted)
    else:
        every = torch.ops.facelatent.epilogue_backward(gy, grgb, *parameters, wanted[1:], ctx.backend)
        found = [g if want else None for g, want in zip(every, wanted, strict=True)]
    gx, g_demodulation, g_noise, g_bias, g_style, g_rgb_weight = found
    return gx, None, g_demodulation, g_noise, g_bias, None, None, None, g_style, g_rgb_weight, None, None


def _composed(
    gy: Tensor | None, grgb: Tensor | None, parameters: Sequence[Any], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients by autograd of the twin, which are differentiable themselves."""
    arguments = (*parameters, gy is not None)
    y, rgb = epilogue_reference(*arguments)
    tensors = [parameters[index] for index in (0, 2, 3, 4, 8, 9)]
    asked = [t for t, want in zip(tensors, wanted, strict=True) if want]
    results = [(part, g) for part, g in ((y, gy), (rgb, grgb)) if g is not None]
    found = iter(
        torch.autograd.grad(
            [part for part, _ in results], asked, [g for _, g in results], create_graph=True, allow_unused=True
        )
    )
    return [next(found) if want else None for want in wanted]


torch.library.register_autograd("facelatent::epilogue", _gradients, setup_context=_setup_context)


@torch.library.impl("facelatent::skip_add", "CompositeExplicitAutograd")
def _skip_add_operator(rgb: Tensor, *arguments: Any) -> Tensor:
    kind = _kernels(arguments[-1] or None, rgb)
    if kind is not None:
        return _skip_add(kind, rgb, *arguments[:-1])
    return skip_add_reference(rgb, *arguments[:-1]).contiguous()


@torch.library.register_fake("facelatent::skip_add")  # type: ignore[untyped-decorator]
def _skip_add_fake(rgb: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(rgb, memory_format=torch.contiguous_format)


def _skip_add_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    rgb, bias, ctx.clamp, _, ctx.backend = inputs
    ctx.save_for_backward(*((rgb, bias) if ctx.clamp >= 0 else ()))


def _skip_add_gradients(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
    colours = g
    if ctx.clamp >= 0:
        rgb, bias = ctx.saved_tensors
        colours = g * ((rgb + bias[:, None, None]).abs() <= ctx.clamp)
    g_previous = None
    if ctx.needs_input_grad[3]:
        g_previous = upfirdn2d(g, setup_filter(TAPS), down=2, padding=1, gain=4, backend=ctx.backend or None)
    return colours, colours.sum((0, 2, 3)) if ctx.needs_input_grad[1] else None, None, g_previous, None


torch.library.register_autograd("facelatent::skip_add", _skip_add_gradients, setup_context=_skip_add_context)
