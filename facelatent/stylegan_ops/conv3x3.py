"""3x3 convolutions on the CPU by the compiled kernel, alone or with the layer's epilogue in the same pass.

The kernel multiplies less often than a convolution does (Winograd's algorithm) and wants weights transformed for it;
they are kept until the weights change.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent import cuda_kernels
from facelatent.stylegan_ops.epilogue import EpilogueCall
from facelatent.stylegan_ops.launch import DTYPES, launch, watched


class Mode(IntEnum):
    """What the convolution does to the size of the picture."""

    SAME = 0
    #: Transposed, with stride 2: [h, w] to [2h + 1, 2w + 1].
    UP = 1
    #: The transpose of that: [2h + 1, 2w + 1] to [h, w].
    DOWN = 2

    def size(self, side: int) -> int:
        """A side of the result."""
        return {Mode.SAME: side, Mode.UP: 2 * side + 1, Mode.DOWN: (side - 1) // 2}[self]


class Derived:
    """What is computed once from a layer's weights and kept until they change.

    A change is seen by the tensor's address and version, and on the CPU also in a sample of its values, since writing
    through ``.data`` raises no version. Copies and pickles of a network do not carry it.
    """

    def __init__(self) -> None:
        self._seen: tuple[Any, Tensor] | None = None
        self._values: dict[str, Any] = {}

    def get(self, name: str, weight: Tensor, make: Callable[[], Any]) -> Any:
        """What ``make`` made of ``weight`` the first time it was asked for by ``name``."""
        if watched(weight):  # a compiler's stand-in for a tensor: it has no values
            return make()
        mark = (weight.data_ptr(), None if weight.is_inference() else weight._version, weight.dtype, weight.device)
        sample = _sample(weight) if weight.device.type == "cpu" else torch.empty(0)  # of a GPU: never waited for
        if self._seen is None or self._seen[0] != mark or not torch.equal(self._seen[1], sample):
            self._seen, self._values = (mark, sample.clone()), {}
        values = self._values
        if name not in values:
            with torch.inference_mode(False), torch.no_grad():
                values[name] = make()
        return values[name]

    def __deepcopy__(self, memo: dict[int, Any]) -> Derived:
        return Derived()

    def __reduce__(self) -> tuple[type[Derived], tuple[()]]:
        return Derived, ()


def _sample(weight: Tensor) -> Tensor:
    """Some 512 values, in the order of memory; a view."""
    every = max(weight.numel() // 512, 1) | 1  # odd: meets every tap and channel in turn
    count = (weight.numel() - 1) // every + 1
    if weight.is_contiguous() or weight.is_contiguous(memory_format=torch.channels_last):
        return weight.detach().as_strided((count,), (every,))
    return weight.detach().flatten()[::every]


class Conv3x3Call(ctypes.Structure):
    """``facelatent_conv3x3`` of ``sources/conv3x3.h``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("abi", "bytes", "dtype", "mode", "threads")),
        *((name, ctypes.c_int64) for name in ("n", "inputs", "outputs", "h", "w")),
        *((name, ctypes.c_void_p) for name in ("x", "packed", "y", "epilogue")),
    )


class Conv3x3PackCall(ctypes.Structure):
    """``facelatent_conv3x3_pack`` of ``sources/conv3x3.h``."""

    _fields_ = (
        *((name, ctypes.c_int32) for name in ("abi", "bytes", "mode", "threads")),
        *((name, ctypes.c_int64) for name in ("inputs", "outputs")),
        ("weight", ctypes.c_void_p),
        *((f"{name}_stride", ctypes.c_int64) for name in ("output", "input", "row", "column")),
        ("packed", ctypes.c_void_p),
    )


def pack(weight: Tensor, mode: Mode, transposed: bool = False) -> Tensor:
    """Weights [outputs, inputs, 3, 3], float32, as the kernel wants them.

    Args:
        weight: of a correlation (SAME, DOWN) or of the true convolution that UP is.
        mode: of the convolution.
        transposed: exchange inputs and outputs, and for SAME turn the taps: the weights of the gradient.
    """
    size = cuda_kernels.library("cpu").facelatent_conv3x3_packed_cpu
    size.argtypes, size.restype = [ctypes.c_int64, ctypes.c_int64, ctypes.c_int32], ctypes.c_int64
    outputs, inputs, rows, columns = weight.stride()
    call = Conv3x3PackCall(mode=mode, outputs=weight.shape[0], inputs=weight.shape[1], weight=weight.data_ptr())
    if transposed:
        call.outputs, call.inputs, outputs, inputs = call.inputs, call.outputs, inputs, outputs
        if mode == Mode.SAME:
            call.weight += 4 * 2 * (rows + columns)
            rows, columns = -rows, -columns
    call.output_stride, call.input_stride, call.row_stride, call.column_stride = outputs, inputs, rows, columns
    packed = torch.empty(size(call.inputs, call.outputs, mode), dtype=torch.float32)
    call.packed = packed.data_ptr()
    launch("cpu", "conv3x3_pack", call, weight.device)
    return packed


def packed(weight: Tensor, mode: Mode, derived: Derived, transposed: bool = False) -> Tensor:
    """:func:`pack`, kept in ``derived``."""
    name = f"packed {mode.name} {transposed}"
    kept: Tensor = derived.get(name, weight, lambda: pack(weight, mode, transposed))
    return kept


def run(
    x: Tensor, packed_weight: Tensor, outputs: int, mode: Mode, finish: EpilogueCall | None = None
) -> Tensor | None:
    """Convolve x [n, inputs, h, w], channels_last, float32 or (with ``finish``) bfloat16.

    Returns:
        [n, outputs, ...], float32; or None with ``finish``, whose result goes where that says.
    """
    n, inputs, h, w = x.shape
    call = Conv3x3Call(dtype=DTYPES[x.dtype], mode=mode, n=n, inputs=inputs, outputs=outputs, h=h, w=w)
    call.x, call.packed = x.data_ptr(), packed_weight.data_ptr()
    y = None
    if finish is None:
        y = torch.empty((n, outputs, mode.size(h), mode.size(w)), memory_format=torch.channels_last)
        call.y = y.data_ptr()
    else:
        call.epilogue = ctypes.addressof(finish)
    launch("cpu", "conv3x3", call, x.device)
    return y


class Conv3x3(torch.autograd.Function):
    """:func:`run` with its gradient by ``x``; the weights are constant."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, mode: Mode, derived: Derived) -> Tensor:
        """x [n, inputs, h, w], weight [outputs, inputs, 3, 3], both float32."""
        ctx.weight, ctx.mode, ctx.derived = weight, mode, derived
        x = x.contiguous(memory_format=torch.channels_last)
        y = run(x, packed(weight, mode, derived), weight.shape[0], mode)
        assert y is not None
        return y

    @staticmethod
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        """By the same kernel, or in a form that can be differentiated again."""
        weight, back = ctx.weight, Mode.DOWN if ctx.mode == Mode.UP else Mode.SAME
        if torch.is_grad_enabled():
            if ctx.mode == Mode.UP:
                return F.conv2d(g, weight.transpose(0, 1), stride=2), None, None, None
            return F.conv_transpose2d(g, weight, padding=1), None, None, None
        g = g.contiguous(memory_format=torch.channels_last)
        return run(g, packed(weight, back, ctx.derived, True), weight.shape[1], back), None, None, None
