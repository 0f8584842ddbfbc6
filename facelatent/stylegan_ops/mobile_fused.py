"""MobileStyleGAN's blocks and image head as one compiled CPU kernel, forward and backward.

It draws with constant float32 weights; everything else, and double backward, is plain PyTorch's.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from facelatent import cuda_kernels
from facelatent.cuda_kernels.arguments import launch, stamped
from facelatent.stylegan_ops.backend import chosen
from facelatent.stylegan_ops.mobile_network import MobileNetwork

# As in sources/mobile.h.
_MOST_BLOCKS = 12
_MOST_CHANNELS = 4096

# Workspaces are kept for the next call: new memory costs more than the arithmetic that fills it.
_MOST_KEPT_BYTES = 2 << 30


class _Layer(ctypes.Structure):
    _fields_ = [(name, ctypes.c_void_p) for name in ("depthwise", "weight", "bias", "noise")]


class _Block(ctypes.Structure):
    _fields_ = [("inputs", ctypes.c_int64), ("outputs", ctypes.c_int64), ("layers", _Layer * 2)]


class _Arguments(ctypes.Structure):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("abi", "bytes", "blocks", "heads", "threads", "saves")),
        *((name, ctypes.c_int64) for name in ("n", "noise_stride")),
        ("block", _Block * _MOST_BLOCKS),
        *(
            (name, ctypes.c_void_p)
            for name in (
                *("head_weight", "head_bias", "x", "styles", "image"),
                *("grad_image", "grad_x", "grad_styles", "workspace"),
            )
        ),
    ]


def fits(generator: MobileNetwork, x: Tensor, noise_maps: Sequence[Tensor | None]) -> bool:
    """Whether :func:`draw` can replace ``generator.draw`` for the first layer's result ``x``."""
    if chosen(generator.backend, x.device) != "cpu" or x.dtype != torch.float32 or len(x) == 0:
        return False
    if torch.compiler.is_compiling() or torch.is_autocast_enabled("cpu"):
        return False
    if len(generator.channels) - 1 > _MOST_BLOCKS or max(generator.channels) > _MOST_CHANNELS:
        return False
    weights = list(_weights(generator, noise_maps))
    trained = torch.is_grad_enabled() and any(weight.requires_grad for weight in weights)
    return not trained and all(weight.dtype == torch.float32 and weight.device == x.device for weight in weights)


def draw(
    generator: MobileNetwork, x: Tensor, styles: Tensor, noise_maps: Sequence[Tensor | None], bands: int
) -> Tensor:
    """The blocks and the image head; see ``MobileNetwork.draw``.

    Args:
        generator: whose weights to use; see :func:`fits`.
        x: [n, channels[0], 4, 4].
        styles: [n, sum of channels], side by side.
        noise_maps: of each layer after the first, [1 or n, 1, side, side] or None.
        bands: 12 or 3.
    """
    call = _Call(generator, noise_maps, bands)
    if torch.is_grad_enabled() and (x.requires_grad or styles.requires_grad):
        image: Tensor = _Draw.apply(x, styles, call)  # type: ignore[no-untyped-call]
        return image
    return call.forward(x.detach().contiguous(), styles.detach().contiguous(), saves=False)[0]


class _Call:
    """What one drawing needs besides its differentiable inputs."""

    def __init__(self, generator: MobileNetwork, noise_maps: Sequence[Tensor | None], bands: int) -> None:
        self.generator = generator
        self.noise_maps = noise_maps
        self.bands = bands
        # Kept here: the arguments only hold addresses.
        self.weights = [weight.detach().contiguous() for weight in _weights(generator, noise_maps)]

    def forward(self, x: Tensor, styles: Tensor, saves: bool) -> tuple[Tensor, Tensor]:
        """The image, and the workspace with what backward needs."""
        side = self.generator.resolution // (1 if self.bands == 12 else 2)
        image = torch.empty(len(x), 3, side, side)
        arguments = self._arguments(x, styles, saves)
        arguments.image = image.data_ptr()
        workspace = _lend(_workspace_bytes(arguments))
        arguments.workspace = workspace.data_ptr()
        launch("cpu", "mobile_forward", arguments)
        return image, workspace

    def backward(self, x: Tensor, styles: Tensor, workspace: Tensor, grad_image: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of ``x`` and of ``styles``."""
        grad_image, grad_x, grad_styles = grad_image.contiguous(), torch.empty_like(x), torch.empty_like(styles)
        arguments = self._arguments(x, styles, saves=True)
        arguments.workspace, arguments.grad_image = workspace.data_ptr(), grad_image.data_ptr()
        arguments.grad_x, arguments.grad_styles = grad_x.data_ptr(), grad_styles.data_ptr()
        launch("cpu", "mobile_backward", arguments)
        return grad_x, grad_styles

    def reference(self, x: Tensor, styles: Tensor) -> Tensor:
        """The same in plain PyTorch, to be differentiated any number of times."""
        widths = [site.out_features for _, _, site in self.generator.sites()][1:]
        return self.generator.draw(x, torch.split(styles, widths, dim=1), self.noise_maps, self.bands)

    def _arguments(self, x: Tensor, styles: Tensor, saves: bool) -> _Arguments:
        addresses = iter(weight.data_ptr() for weight in self.weights)
        result: _Arguments = stamped(_Arguments(blocks=len(self.generator.channels) - 1))
        result.heads, result.threads, result.saves = self.bands, torch.get_num_threads(), saves
        result.n = len(x)
        result.noise_stride = int(any(noise is not None and len(noise) > 1 for noise in self.noise_maps))
        channels = self.generator.channels
        for index in range(result.blocks):
            block = result.block[index]
            block.inputs, block.outputs = channels[index : index + 2]
            for layer, noise in zip(block.layers, self.noise_maps[2 * index : 2 * index + 2], strict=True):
                layer.depthwise, layer.weight, layer.bias = next(addresses), next(addresses), next(addresses)
                layer.noise = None if noise is None else next(addresses)
        result.head_weight, result.head_bias = next(addresses), next(addresses)
        result.x, result.styles = x.data_ptr(), styles.data_ptr()
        return result


class _Draw(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, styles: Tensor, call: _Call) -> Tensor:
        x, styles = x.contiguous(), styles.contiguous()
        image, workspace = call.forward(x, styles, saves=True)
        # Saved like any tensor: freed after backward, and a weight that changes in between is noticed.
        ctx.save_for_backward(x, styles, workspace, *call.weights)
        ctx.call = call
        return image

    @staticmethod
    def backward(ctx: Any, grad_image: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, styles, workspace, *_ = ctx.saved_tensors
        call: _Call = ctx.call
        if not torch.is_grad_enabled():
            return *call.backward(x, styles, workspace, grad_image), None
        inputs = [tensor for tensor in (x, styles) if tensor.requires_grad]
        gradients = iter(torch.autograd.grad(call.reference(x, styles), inputs, grad_image, create_graph=True))
        grad_x, grad_styles = (next(gradients) if tensor.requires_grad else None for tensor in (x, styles))
        return grad_x, grad_styles, None


def _weights(generator: MobileNetwork, noise_maps: Sequence[Tensor | None]) -> Iterator[Tensor]:
    for layer, noise_map in zip(generator.layers(), noise_maps, strict=True):
        assert layer.depthwise is not None
        yield from (layer.depthwise, layer.weight, layer.bias)
        if noise_map is not None:
            yield noise_map
    yield from (generator.to_img_weight, generator.to_img_bias)


def _workspace_bytes(arguments: _Arguments) -> int:
    count = cuda_kernels.library("cpu").facelatent_mobile_workspace
    count.restype = ctypes.c_int64
    size = int(count(ctypes.byref(arguments)))
    if size < 0:
        raise RuntimeError("facelatent_mobile_workspace refused its arguments")
    return size


# Finalizers append to it at any moment, which a deque allows; the lock is for those who take from it.
_free: deque[Tensor] = deque()
_lock = threading.Lock()


def _lend(size: int) -> Tensor:
    """A workspace of ``size`` bytes, which comes back when the tensor returned is freed, wherever it was saved."""
    with _lock, torch.inference_mode(False):  # what is born in inference mode cannot be saved for backward later
        kept = sorted((_free.popleft() for _ in range(len(_free))), key=len)
        fitting = next((index for index, workspace in enumerate(kept) if len(workspace) >= size), None)
        workspace = torch.empty(size, dtype=torch.uint8) if fitting is None else kept.pop(fitting)
        while sum(map(len, kept)) > _MOST_KEPT_BYTES:
            kept.pop(0)
        _free.extend(kept)
        lent = workspace[:size]
    weakref.finalize(lent, _give_back, workspace).atexit = False
    return lent


def _give_back(workspace: Tensor) -> None:
    if len(workspace) <= _MOST_KEPT_BYTES:
        _free.append(workspace)
