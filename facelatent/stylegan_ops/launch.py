"""Between tensors and the compiled kernels: dtype codes, devices, streams, and when a plain call is enough."""

from __future__ import annotations

from ctypes import Structure

import torch
from torch import Tensor

from facelatent.cuda_kernels import Kind, arguments
from facelatent.errors import FacelatentError

#: Codes of the dtypes that kernels take.
DTYPES: dict[torch.dtype, int] = {getattr(torch, name): code for name, code in arguments.DTYPES.items()}


def launch(kind: Kind, name: str, call: Structure, device: torch.device) -> None:
    """Run a kernel on ``device``: on a GPU in torch's current stream, on the CPU with torch's number of threads."""
    arguments.stamped(call)
    if kind == "cpu":
        call.threads = torch.get_num_threads()
        arguments.launch(kind, name, call)
        return
    call.device = device.index
    call.stream = torch.cuda.current_stream(device).cuda_stream
    with torch.cuda.device(device):
        arguments.launch(kind, name, call)


def watched(*tensors: Tensor | None) -> bool:
    """Whether a compiler, a mode or a transform follows these tensors, so that only a registered operator will do."""
    return (
        torch.compiler.is_compiling()
        or bool(torch._C._len_torch_dispatch_stack())
        or torch._C._functorch.maybe_current_level() is not None
        or any(t is not None and type(t) is not Tensor and type(t) is not torch.nn.Parameter for t in tensors)
    )


def differentiated(*tensors: Tensor | None) -> bool:
    """Whether autograd will want to go back through a function of these tensors."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def refuse_forward_mode(*tensors: Tensor | None) -> None:
    """Raise where tangents would be lost.

    Raises:
        FacelatentError: a tensor carries a tangent of forward-mode differentiation.
    """
    unpack = torch.autograd.forward_ad.unpack_dual
    if torch.autograd.forward_ad._current_level >= 0 and any(
        t is not None and unpack(t).tangent is not None  # type: ignore[no-untyped-call]
        for t in tensors
    ):
        raise FacelatentError("compiled kernels have no forward-mode derivative; pass backend='reference'")
