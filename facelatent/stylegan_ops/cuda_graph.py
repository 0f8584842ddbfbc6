"""Draw pictures of one size again and again with a single launch: CUDA graphs of a generator's synthesis.

At small batches a GPU waits for the hundreds of launches that a picture takes; a graph is launched at once. It is never
used unasked: each graph holds the memory of a whole pass, and a change of the weights through ``.data`` goes unseen.

    draw = Captured(generator)
    images = draw(ws)  # the first call of a shape captures, which takes a second
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from facelatent.stylegan_ops.generator import Generator, Noise, check_noise

#: Passes before the capture, in which libraries choose their algorithms and kernels are loaded.
_WARM_UP = 3


@dataclass(frozen=True)
class _Graph:
    graph: torch.cuda.CUDAGraph
    ws: Tensor
    images: Tensor
    done: torch.cuda.Event
    state: tuple[Any, ...]


class Captured:
    """A generator's synthesis without gradients, by CUDA graphs where that can be.

    A graph is captured for each shape, dtype and device of ``ws``, and again when the weights, the precision or the
    backend have changed; the least recently used one goes first. On the CPU, and where gradients are recorded, this is
    :meth:`Generator.synthesis`.

    Args:
        generator: its weights may change between calls, but not through ``.data``.
        noise: as in synthesis; random noise is fresh in every call.
        resolution: as in synthesis.
        most: graphs to keep.
    """

    def __init__(
        self, generator: Generator, noise: Noise = "const", resolution: int | None = None, most: int = 4
    ) -> None:
        check_noise(noise)
        if most < 1:
            raise ValueError(f"at least one graph has to be kept, got {most}")
        self._generator, self._noise, self._resolution, self._most = generator, noise, resolution, most
        self._graphs: OrderedDict[tuple[Any, ...], _Graph] = OrderedDict()
        self._lock = threading.Lock()

    def __call__(self, ws: Tensor) -> Tensor:
        """ws [n, num_ws, w_dim] -> images [n, 3, H, W], the caller's own."""
        if not ws.is_cuda or (torch.is_grad_enabled() and self._recorded(ws)):
            return self._draw(ws)
        key = (ws.shape, ws.dtype, ws.device)
        with self._lock, torch.cuda.device(ws.device), torch.no_grad():
            state = _state(self._generator)
            found = self._graphs.pop(key, None)
            if found is None or found.state != state:
                self._free(found)
                found = self._capture(ws, state)
            self._graphs[key] = found
            # Another stream may still be reading the buffers.
            torch.cuda.current_stream().wait_event(found.done)
            found.ws.copy_(ws)
            found.graph.replay()
            images = found.images.clone()
            found.done.record()
            return images

    def _draw(self, ws: Tensor) -> Tensor:
        return self._generator.synthesis(ws, self._noise, self._resolution)

    def _recorded(self, ws: Tensor) -> bool:
        return ws.requires_grad or any(p.requires_grad for p in self._generator.parameters())

    def _free(self, outdated: _Graph | None) -> None:
        """Make room for another graph, when nothing runs in that memory any more."""
        if outdated is not None:
            outdated.done.synchronize()
            outdated.graph.reset()
        while len(self._graphs) >= self._most:
            self._free(self._graphs.popitem(last=False)[1])

    def _capture(self, ws: Tensor, state: tuple[Any, ...]) -> _Graph:
        buffer = ws.detach().clone(memory_format=torch.contiguous_format)
        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(_WARM_UP):
                self._draw(buffer)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        # What other threads do on the GPU meanwhile is their own affair.
        with torch.cuda.graph(graph, capture_error_mode="thread_local"):
            images = self._draw(buffer)
        done = torch.cuda.Event()  # type: ignore[no-untyped-call]
        done.record()
        return _Graph(graph, buffer, images, done, state)


def _state(generator: Generator) -> tuple[Any, ...]:
    """What a picture depends on besides ws: weights by address and version, and settings of layers and libraries."""
    weights = (*generator.parameters(), *generator.buffers())
    marks = tuple((t.data_ptr(), None if t.is_inference() else t._version) for t in weights)
    settings = tuple((getattr(m, "dtype", None), getattr(m, "clamp", None)) for m in generator.modules())
    libraries = (torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32)
    return marks, settings, libraries, getattr(generator, "backend", None)
