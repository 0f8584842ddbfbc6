"""StyleGAN2's synthesis with all that follows a convolution in one pass, by compiled kernels.

The picture is that of :class:`Synthesis`, computed in another order: each layer's style multiplies the output of
the layer before it, and demodulation comes from sums of squared weights, so that weights are the same for all samples
and are prepared once.
"""

from __future__ import annotations

import threading

import torch
from torch import Tensor
from torch.nn import functional as F

from facelatent.cuda_kernels import Kind
from facelatent.cuda_kernels.arguments import stamped
from facelatent.stylegan_ops import conv3x3
from facelatent.stylegan_ops.conv3x3 import Conv3x3, Mode
from facelatent.stylegan_ops.epilogue import GAIN, SLOPE, epilogue, epilogue_call, skip_add
from facelatent.stylegan_ops.generator import Noise, Styles
from facelatent.stylegan_ops.launch import DTYPES, launch, refuse_forward_mode, watched
from facelatent.stylegan_ops.stylegan2_network import (
    EPSILON,
    StyledConv,
    Synthesis,
    style_in_range,
    weight_in_range,
)

#: Below this side the weights, which the compiled convolution enlarges fourfold, take longer to read than to use. Not
#: so those of up-sampling, which it enlarges less and PyTorch convolves slowly.
_SMALL = 16
#: Bytes that a thread keeps of each of its two workspaces.
_KEPT = 256 << 20


def fits(network: Synthesis, styles: Styles) -> bool:
    """Whether there are kernels for these: none for float16 on the CPU, none for float64, none for no samples."""
    half = network.const.device.type == "cpu" and any(
        block.dtype == torch.float16 for _, block in network.resolutions()
    )
    return not half and all(t.dtype == torch.float32 and len(t) for t in (network.const, *styles.values()))


def draw(network: Synthesis, styles: Styles, noise: Noise, kind: Kind) -> Tensor:
    """Styles by layer name, each float32 [n, channels] -> [n, 3, resolution, resolution]."""
    convolutions = list(network.convolutions())
    last = len(convolutions) - 1
    scaled = [_in_range(styles[name], block.dtype) for name, block, _ in convolutions]
    everything = (*styles.values(), *network.parameters())
    followed = watched(*everything)
    if not followed:
        refuse_forward_mode(*everything)
    recorded = torch.is_grad_enabled() and any(t.requires_grad for t in everything)
    x = network.const * scaled[0][:, :, None, None]
    image: Tensor | None = None
    for index, (name, block, layer) in enumerate(convolutions):
        x = x.to(block.dtype, memory_format=torch.channels_last)
        grain = _noise(layer, len(x), noise)
        following = None if index == last else scaled[index + 1]
        rgb_weight = block.to_rgb.modulated(styles[f"{name[:-5]}torgb"]) if layer is block.conv1 else None
        compiled = kind == "cpu" and not followed and (layer.up or x.shape[2] >= _SMALL)
        if kind == "cuda" and not followed and not recorded:
            onto = (rgb_weight, block.to_rgb.bias, image)
            y, image = _layer_on_gpu(x, layer, scaled[index], grain, network.clamp, following, *onto)
            x = x if y is None else y
            continue
        if compiled and not recorded:
            y, rgb = _layer(x, layer, scaled[index], grain, network.clamp, following, rgb_weight)
        else:
            demodulation = _demodulation(layer, scaled[index], x.dtype)
            y, rgb = epilogue(
                _convolved(x, layer, compiled),
                layer.up,
                demodulation,
                grain,
                layer.bias,
                SLOPE,
                GAIN,
                network.clamp,
                following,
                rgb_weight,
                index != last,
                kind,
            )
        if rgb is not None:
            image = skip_add(rgb, block.to_rgb.bias, network.clamp, image, kind)
        if y is not None:
            x = y
    assert image is not None
    return image


def _layer(
    x: Tensor,
    layer: StyledConv,
    style: Tensor,
    noise: Tensor | None,
    clamp: float | None,
    following: Tensor | None,
    rgb_weight: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """One layer in one call: x [n, inputs, h, w] -> what :func:`epilogue` returns, y in this thread's workspace."""
    mode = Mode.UP if layer.up else Mode.SAME
    side = x.shape[2] * (2 if layer.up else 1)
    size = (len(x), layer.weight.shape[0], side, side)
    demodulation, noise, bias, following, rgb_weight = (
        None if t is None else t.contiguous()
        for t in (_demodulation(layer, style, x.dtype), noise, layer.bias, following, rgb_weight)
    )
    y = None if following is None else _workspace.take(size, x.dtype)
    rgb = None if rgb_weight is None else torch.empty(size[0], 3, side, side)
    finish = epilogue_call(
        *(layer.up, size, demodulation, noise, bias, SLOPE, GAIN, -1.0 if clamp is None else clamp),
        *(following, rgb_weight, y, rgb),
    )
    finish.dtype = DTYPES[x.dtype]
    conv3x3.run(x, conv3x3.packed(layer.weight, mode, layer.derived), size[1], mode, stamped(finish))
    return y, rgb


def _layer_on_gpu(
    x: Tensor,
    layer: StyledConv,
    style: Tensor,
    noise: Tensor | None,
    clamp: float | None,
    following: Tensor | None,
    rgb_weight: Tensor | None,
    rgb_bias: Tensor,
    image: Tensor | None,
) -> tuple[Tensor | None, Tensor | None]:
    """One layer in a convolution and one kernel, which adds the layer's colours to ``image`` as :func:`skip_add` does.

    Returns:
        ``y`` as of :func:`epilogue`, and the picture so far: [n, 3, h, w], or ``image`` itself without ``rgb_weight``.
    """
    convolved = _convolved(x, layer, False).contiguous(memory_format=torch.channels_last)
    side = x.shape[2] * (2 if layer.up else 1)
    size = (len(x), layer.weight.shape[0], side, side)
    demodulation, bias = _demodulation(layer, style, x.dtype), layer.bias.contiguous()
    following = None if following is None else following.contiguous()
    y = None
    if following is not None:
        y = torch.empty(size, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    picture = None if rgb_weight is None else style.new_empty(size[0], 3, side, side)
    rgb_bias = rgb_bias.contiguous()
    limit = -1.0 if clamp is None else clamp
    call = epilogue_call(
        layer.up, size, demodulation, noise, bias, SLOPE, GAIN, limit, following, rgb_weight, y, picture
    )
    call.x, call.dtype = convolved.data_ptr(), DTYPES[convolved.dtype]
    if picture is not None:
        call.rgb_bias, call.rgb_clamp = rgb_bias.data_ptr(), limit
        call.previous = None if image is None else image.data_ptr()
    launch("cuda", "epilogue", call, x.device)
    return y, image if picture is None else picture


def _convolved(x: Tensor, layer: StyledConv, compiled: bool) -> Tensor:
    """x [n, inputs, h, w] -> [n, outputs, h, w], or [n, outputs, 2h + 1, 2w + 1] before the blur."""
    tuned = torch.is_grad_enabled() and layer.weight.requires_grad
    if compiled and not tuned and x.dtype == torch.float32:
        return Conv3x3.apply(  # type: ignore[no-any-return, no-untyped-call]
            x, layer.weight, Mode.UP if layer.up else Mode.SAME, layer.derived
        )
    weight: Tensor = layer.weight
    if x.is_cuda and not tuned:
        return _convolved_on_gpu(x, layer)
    if x.dtype != torch.float32:
        weight = _in_dtype(weight, x.dtype) if tuned else _kept(layer, x.dtype)
    # A transposed convolution is the true convolution of the zero-stuffed image.
    return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2) if layer.up else F.conv2d(x, weight, padding=1)


def _convolved_on_gpu(x: Tensor, layer: StyledConv) -> Tensor:
    """By cuDNN, which would otherwise lay the weights out anew for every picture."""

    def make() -> Tensor:
        weight = _in_dtype(layer.weight, x.dtype)
        return (weight.transpose(0, 1) if layer.up else weight).contiguous(memory_format=torch.channels_last)

    weight: Tensor = layer.derived.get(f"laid out {x.dtype}", layer.weight, make)
    return F.conv_transpose2d(x, weight, stride=2) if layer.up else F.conv2d(x, weight, padding=1)


def _kept(layer: StyledConv, dtype: torch.dtype) -> Tensor:
    kept: Tensor = layer.derived.get(f"weight {dtype}", layer.weight, lambda: _in_dtype(layer.weight, dtype))
    return kept


def _demodulation(layer: StyledConv, style: Tensor, dtype: torch.dtype) -> Tensor:
    """[n, outputs] (Karras et al. 2020, equation 3)."""

    def measure() -> Tensor:
        weight = layer.weight
        return (weight_in_range(weight) if dtype == torch.float16 else weight).square().sum((2, 3))

    tuned = torch.is_grad_enabled() and layer.weight.requires_grad
    energy = measure() if tuned else layer.derived.get(f"energy {dtype}", layer.weight, measure)
    return (F.linear(style.square(), energy) + EPSILON).rsqrt()


# Of the half types only float16, which ends at 65504, is in danger here: sums are float32.


def _in_range(style: Tensor, dtype: torch.dtype) -> Tensor:
    return style_in_range(style) if dtype == torch.float16 else style


def _in_dtype(weight: Tensor, dtype: torch.dtype) -> Tensor:
    weight = weight_in_range(weight) if dtype == torch.float16 else weight
    return weight.to(dtype, memory_format=torch.channels_last)


def _noise(layer: StyledConv, count: int, noise: Noise) -> Tensor | None:
    """[1 or count, 1, side, side]."""
    if noise == "none":
        return None
    if noise == "const":
        return (layer.noise * layer.noise_strength)[None, None]
    return torch.randn(count, 1, *layer.noise.shape, device=layer.noise.device) * layer.noise_strength


class _Workspace(threading.local):
    """Two buffers that layers write to in turn, kept for the thread's next picture, since fresh pages cost much time.

    What is larger than :data:`_KEPT` is not kept.
    """

    def __init__(self) -> None:
        self._buffers = [torch.empty(0, dtype=torch.uint8), torch.empty(0, dtype=torch.uint8)]

    def take(self, size: tuple[int, int, int, int], dtype: torch.dtype) -> Tensor:
        """[n, c, h, w], channels_last and undefined, until the next but one call."""
        n, c, h, w = size
        count = n * c * h * w * dtype.itemsize
        if count > _KEPT:
            return torch.empty(size, dtype=dtype, memory_format=torch.channels_last)
        self._buffers.reverse()
        if len(self._buffers[0]) < count:
            self._buffers[0] = torch.empty(count, dtype=torch.uint8)
        return self._buffers[0][:count].view(dtype).view(n, h, w, c).permute(0, 3, 1, 2)


_workspace = _Workspace()
