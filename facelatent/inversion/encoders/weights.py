"""Networks from public weight files, without running the files' code and with one copy of the weights in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from facelatent.errors import UnsupportedCheckpoint
from facelatent.stylegan_ops.checkpoints import read_contents
from facelatent.stylegan_ops.checkpoints.allowed import Stored

Tensors = dict[str, "Stored | Tensor"]
Network = TypeVar("Network", bound=nn.Module)


def tensors_of(value: Any, prefix: str = "") -> Tensors:
    """The tensors of a dict whose names begin with ``prefix``, without it; empty if it is not a dict."""
    if not isinstance(value, Mapping):
        return {}
    found = {key: item for key, item in value.items() if isinstance(key, str) and isinstance(item, (Stored, Tensor))}
    return {key.removeprefix(prefix): item for key, item in found.items() if key.startswith(prefix)}


def read_tensors(path: str | Path) -> Tensors:
    """The state dict that a file holds; its values are loaded when a network takes them.

    Raises:
        UnsafeCheckpoint: reading it would mean running code.
        UnsupportedCheckpoint: it cannot be read, or holds no tensors.
    """
    value = read_contents(path).value
    inner = value.get("state_dict") if isinstance(value, Mapping) else None
    tensors = tensors_of(value) or tensors_of(inner)
    if not tensors:
        raise UnsupportedCheckpoint(f"{path}: no state dict in it")
    return tensors


def load_network(make: Callable[[], Network], tensors: Tensors, source: str) -> Network:
    """A network with exactly these weights, float32, frozen, in evaluation mode, on the CPU.

    Args:
        make: its constructor; it is run without memory, since filling 267 million random numbers takes seconds.
        tensors: every tensor of its state dict, and no other.
        source: what messages call the file.

    Raises:
        UnsupportedCheckpoint: names or shapes differ, or the file does not hold what it declares.
    """
    with torch.device("meta"):
        network = make()
    expected = {key: value.shape for key, value in network.state_dict().items()}
    # Files of PyTorch before 0.4.1 lack these counters, which only training reads.
    counters = {key for key in expected if key.endswith("num_batches_tracked")} - tensors.keys()
    wrong = sorted((expected.keys() - counters) ^ tensors.keys())
    wrong += sorted(key for key in expected.keys() & tensors.keys() if expected[key] != torch.Size(tensors[key].shape))
    if wrong:
        kind = type(network).__name__
        raise UnsupportedCheckpoint(
            f"{source}: not the weights of {kind}: {len(wrong)} tensors missing, unknown or of another shape: "
            f"{', '.join(repr(key[:60]) for key in wrong[:3])}"
        )
    state = {key: _loaded(key, value, source) for key, value in tensors.items()}
    state |= {key: torch.zeros((), dtype=torch.long) for key in counters}
    network.load_state_dict(state, assign=True)
    return network.requires_grad_(False).eval()


def _loaded(key: str, value: Stored | Tensor, source: str) -> Tensor:
    try:
        tensor = value.load() if isinstance(value, Stored) else value
    except UnsupportedCheckpoint as error:
        raise UnsupportedCheckpoint(f"{source}: tensor {key[:80]}: {error}") from error
    return tensor if key.endswith("num_batches_tracked") else tensor.float()
