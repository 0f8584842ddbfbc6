"""Read the weights in a file of dlib's neural networks, without dlib.

dlib writes an integer as a byte that counts the bytes which follow (its top bit is the sign), little-endian; a tensor
as a version (2), four integers for its shape, and raw little-endian float32. A layer begins with its name, whose length
comes first. Only layers with weights are looked at; what lies between them is skipped.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelatent.errors import UnsupportedCheckpoint

_TENSOR_VERSION = 2
_MAX_INTEGER_BYTES = 8
_MAX_NUMBERS = 1 << 28


@dataclass(frozen=True)
class DlibLayer:
    """Weights of one layer.

    Attributes:
        name: ``con_4`` (convolution), ``affine_`` or ``fc_2`` (fully connected), as in the file.
        values: its parameters, float32, flat: filters, then biases; scales, then offsets; [inputs, outputs].
        settings: of a convolution: filters, kernel height, width, vertical and horizontal stride, vertical and
            horizontal padding; else empty.
    """

    name: str
    values: np.ndarray
    settings: tuple[int, ...] = ()


def read_dlib_layers(path: Path) -> list[DlibLayer]:
    """The layers with weights of a dlib network file, in the order of the file: from input to output.

    Raises:
        UnsupportedCheckpoint: the file is damaged, or not such a file.
    """
    data = path.read_bytes()
    layers = []
    position = 0
    while (found := _next_layer(data, position)) is not None:
        name, position = found
        try:
            layer, position = _read_layer(data, name, position)
        except (IndexError, ValueError) as error:
            raise UnsupportedCheckpoint(f"{path} is damaged at byte {position} ({error})") from error
        layers.append(layer)
    if not layers:
        raise UnsupportedCheckpoint(f"{path} is not a file of one of dlib's networks: it has no layer with weights")
    return layers


def _next_layer(data: bytes, start: int) -> tuple[str, int] | None:
    """The first name of a layer with weights from ``start`` on, and where its contents begin."""
    hits = []
    for name in ("con_4", "affine_", "fc_2"):
        marker = bytes([1, len(name)]) + name.encode()
        if (at := data.find(marker, start)) >= 0:
            hits.append((at + len(marker), name))
    return min(hits)[::-1] if hits else None


def _read_layer(data: bytes, name: str, position: int) -> tuple[DlibLayer, int]:
    if name == "fc_2":  # numbers of outputs and inputs, which the tensor's shape repeats
        for _ in range(2):
            _, position = _integer(data, position)
    values, position = _tensor(data, position)
    settings = []
    if name == "con_4":
        for _ in range(7):
            value, position = _integer(data, position)
            settings.append(value)
    return DlibLayer(name, values, tuple(settings)), position


def _integer(data: bytes, position: int) -> tuple[int, int]:
    """A whole number that is not negative, and the position after it."""
    count = data[position]
    end = position + 1 + count
    if not 1 <= count <= _MAX_INTEGER_BYTES or end > len(data):
        raise ValueError("an integer is negative or cut off")
    return int.from_bytes(data[position + 1 : end], "little"), end


def _tensor(data: bytes, position: int) -> tuple[np.ndarray, int]:
    """The numbers of a tensor, flat, and the position after it."""
    version, position = _integer(data, position)
    shape = []
    for _ in range(4):
        size, position = _integer(data, position)
        shape.append(size)
    if version != _TENSOR_VERSION:
        raise ValueError("a tensor of another version")
    count = shape[0] * shape[1] * shape[2] * shape[3]
    end = position + 4 * count
    if count > _MAX_NUMBERS or end > len(data):
        raise ValueError("a tensor is cut off")
    return np.frombuffer(data, "<f4", count, position).copy(), end
