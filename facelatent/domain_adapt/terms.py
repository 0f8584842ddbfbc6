"""What a set of terms is, and what both sets are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from facelatent.stylegan_ops import Generator
from facelatent.stylegan_ops.generator import Noise


@dataclass(frozen=True)
class Batch:
    """What one step draws.

    Attributes:
        ws: [n, num_ws, 512] codes.
        numbers: of the people in the pool, where they come from it.
    """

    ws: Tensor
    numbers: tuple[int, ...] = ()


class Terms(Protocol):
    """A set of losses that guide an adaptation.

    Attributes:
        noise: with which noise the adapted generator draws.
    """

    noise: Noise

    def beginning(self, source: Generator) -> dict[str, Tensor]:
        """Weights, by name, from which to descend instead of the source's."""
        ...

    def batch(self, step: int) -> Batch:
        """The codes of a step: the same in every run."""
        ...

    def losses(self, batch: Batch, images: Tensor, step: int) -> dict[str, Tensor]:
        """Weighted losses by name of the adapted generator's pictures [n, 3, H, H] of a batch; their sum descends."""
        ...

    def state(self) -> dict[str, Tensor]:
        """What :meth:`restore` needs to go on."""
        ...

    def restore(self, state: dict[str, Tensor]) -> None:
        """Go on from a :meth:`state`."""
        ...

    def described(self) -> dict[str, Any]:
        """Facts for the report."""
        ...
