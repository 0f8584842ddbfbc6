"""A copy of a generator of which an adaptation may change some weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from facelatent.delta import copy_sharing, tunable
from facelatent.stylegan_ops import Generator
from facelatent.stylegan_ops.mobile_network import MobileNetwork

#: ``convolutions``: above 4 px, and their biases; ``published``: as DIFA, also the constant, the 4 px layer,
#: modulations and noise strengths, but not what makes colours.
Scope = Literal["convolutions", "published"]

#: Side in pixels from which layers draw details.
FINE = 256

_COLOURS = ("to_img_", "to_rgb.")


@dataclass(frozen=True)
class Rates:
    """Learning rates by the kind of weight.

    Attributes:
        convolutions: of most weights.
        colours: of what turns features into colours; 0 freezes it.
        fine: what the rate of convolutions is multiplied by at :data:`FINE` px and more.
    """

    convolutions: float
    colours: float
    fine: float = 1.0


class Adapted:
    """A generator that descends.

    Args:
        generator: the source, which stays as it is.
        scope: which weights may change.
        rates: how fast.

    Attributes:
        generator: the copy; it shares the weights that stay.
    """

    def __init__(self, generator: Generator, scope: Scope, rates: Rates) -> None:
        names = [name for name in _names(generator, scope) if rates.colours or not _is_colour(name)]
        self.generator = copy_sharing(generator, set(names))
        named = dict(self.generator.named_parameters())
        self.weights = {name: named[name].requires_grad_(True) for name in names}
        self._start = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._rates = rates

    @torch.no_grad()
    def begin(self, weights: Mapping[str, Tensor]) -> None:
        """Set weights by name; what may not change stays, whatever is asked."""
        for name in weights.keys() & self.weights.keys():
            self.weights[name].copy_(weights[name])

    def groups(self) -> list[dict[str, object]]:
        """A parameter group for each weight, for an optimizer."""
        found = []
        for name, weight in self.weights.items():
            rate = self._rates.colours if _is_colour(name) else self._rates.convolutions
            if not _is_colour(name) and _side(self.generator, name) >= FINE:
                rate *= self._rates.fine
            found.append({"params": [weight], "lr": rate * _folded(self.generator, name, weight)})
        return found

    def deltas(self, weights: dict[str, Tensor] | None = None) -> dict[str, Tensor]:
        """What changed, by the weight's name; of ``weights`` if given, else of the current ones."""
        now = self.weights if weights is None else weights
        return {name: (now[name].detach() - start).cpu() for name, start in self._start.items()}

    @torch.no_grad()
    def load(self, weights: dict[str, Tensor]) -> None:
        """Set the weights."""
        for name, weight in self.weights.items():
            weight.copy_(weights[name])


def _side(generator: Generator, name: str) -> int:
    """Side in pixels of the maps that a weight makes: blocks of both generators are numbered by it."""
    numbered = re.search(r"blocks\.(\d+)\.", name)
    if numbered is None:
        return 4
    return (8 if isinstance(generator, MobileNetwork) else 4) << int(numbered.group(1))


def _folded(generator: Generator, name: str, weight: Tensor) -> float:
    """The factor of the equalised learning rate that a weight carries; 1 where it is applied in drawing.

    MobileStyleGAN's weights hold it, StyleGAN2's do not: so one rate means the same for both.
    """
    if not isinstance(generator, MobileNetwork) or weight.ndim < 2 or name.endswith(("depthwise", "const")):
        return 1.0
    fan_in = weight[0].numel()
    separable = weight.ndim == 4 and weight.shape[-1] == 1 and not _is_colour(name)
    return float((fan_in * (9 if separable else 1)) ** -0.5)


def _is_colour(name: str) -> bool:
    return any(part in name for part in _COLOURS)


def _names(generator: Generator, scope: Scope) -> list[str]:
    parameters = [name for name, _ in generator.named_parameters()]
    if scope == "convolutions":
        allowed = set(tunable(generator))
        return [name for name in parameters if name in allowed]
    fixed = ("mapping_network.", *_COLOURS, "to_img.")
    return [name for name in parameters if not any(part in name for part in fixed)]
