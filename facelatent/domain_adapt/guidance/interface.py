"""What guides an adaptation: something that describes a picture as a whole and place by place."""

from __future__ import annotations

from typing import NamedTuple, Protocol

from torch import Tensor


class Described(NamedTuple):
    """A description of n pictures.

    Attributes:
        embedding: [n, d] of unit length.
        tokens: [n, places, width] of the guidance's layer, not normalised.
    """

    embedding: Tensor
    tokens: Tensor


class Guidance(Protocol):
    """An image encoder, frozen, with gradients to its pictures.

    Attributes:
        name: what it is.
        version: changes when its weights or its settings do.
    """

    name: str
    version: str

    def __call__(self, images: Tensor) -> Described:
        """Describe pictures [n, 3, H, W], RGB in [-1, 1], of any size."""
        ...
