"""What tuning changed in a generator: differences of weights, small enough to travel with a latent."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from facelatent.errors import IncompatibleLatent
from facelatent.stylegan_ops import Generator

#: Units of depthwise kernels and of noise maps; see :func:`unit`.
_DEPTHWISE, _NOISE = 0.1, 0.2
#: Parts of names of what is never tuned: what w is made of, and what is made of w.
_FIXED = ("mapping_network.", "affine.", ".up.", "to_img.", "noise_strength")
#: How the names of the 4 px layers begin: half of all weights, and no detail.
_FIRST = ("conv1.", "synthesis_network.blocks.0.")


def unit(name: str, weight: Tensor) -> Tensor:
    """In what differences of a weight are counted, so that equal numbers mean about equal changes of the picture.

    The weights of one layer may span orders of magnitude: a trained depthwise kernel is large where the pointwise
    column after it is small.

    Args:
        name: of the weight.
        weight: in the generator before tuning.

    Returns:
        A tensor that multiplies one of ``weight``'s shape: the root mean square for each input channel of a dense
        kernel [o, i, k, k], a tenth of that of each depthwise one [c, 1, k, k], that of a bias [c], and a constant for
        noise maps [..., h, w], which most layers of a trained generator hardly use.
    """
    if name.endswith("noise"):
        return torch.tensor(_NOISE).to(weight)
    if weight.ndim == 4 and weight.shape[1] > 1:
        return weight.square().mean((0, 2, 3), keepdim=True).sqrt()
    if weight.ndim == 4:
        return _DEPTHWISE * weight.square().mean((1, 2, 3), keepdim=True).sqrt()
    return weight.square().mean().sqrt()


def tunable(generator: Generator, largest_noise: int | None = None) -> list[str]:
    """Names of the weights that tuning changes: convolutions above 4 px, their biases, their noise maps.

    Args:
        generator: whose.
        largest_noise: side in pixels of the largest noise maps that are tuned; all if None.
    """
    names = []
    for name, weight in generator.state_dict().items():
        fixed = name.startswith(("w_", *_FIRST)) or name.endswith("const") or any(part in name for part in _FIXED)
        too_large = name.endswith("noise") and largest_noise is not None and weight.shape[-1] > largest_noise
        if not fixed and not too_large:
            names.append(name)
    return names


@dataclass(frozen=True)
class GeneratorDelta:
    """Differences of some of a generator's weights.

    Attributes:
        tensors: by the weight's name in ``state_dict()``, its difference in :func:`unit`, float16.
        fingerprint: of the generator that they belong to.
    """

    tensors: dict[str, Tensor]
    fingerprint: str

    @property
    def bytes(self) -> int:
        """Size in a file."""
        return sum(tensor.numel() * tensor.element_size() for tensor in self.tensors.values())

    def check(self, generator: Generator) -> None:
        """Raise IncompatibleLatent unless these differences belong to ``generator``."""
        source = generator.source
        weights = source.state_dict()
        fits = all(name in weights and weights[name].shape == value.shape for name, value in self.tensors.items())
        if not fits or self.fingerprint != source.fingerprint:
            raise IncompatibleLatent(
                f"this tuning belongs to a generator with fingerprint {self.fingerprint}, not to {source.name} "
                f"({source.fingerprint}); pass the generator that it was made with, or invert again"
            )

    def applied(self, generator: Generator) -> Generator:
        """A tuned copy of ``generator``, which stays as it is; weights that are not tuned are shared by both.

        Args:
            generator: the one that was tuned, or one that a style was applied to: the differences add.

        Raises:
            IncompatibleLatent: these differences belong to another generator.
        """
        self.check(generator)
        weights = generator.source.state_dict()

        def difference(name: str) -> Tensor:
            weight = weights[name]
            return unit(name, weight) * self.tensors[name].to(weight)

        return changed(generator, set(self.tensors), difference)


def changed(generator: Generator, names: set[str], difference: Callable[[str], Tensor]) -> Generator:
    """A copy of ``generator`` with differences added to some of its weights; it keeps to ``generator``'s codes.

    Args:
        generator: stays as it is.
        names: of the weights that differ, in ``state_dict()``; all others are shared by both.
        difference: gives what is added to a weight, by its name.
    """
    copied = copy_sharing(generator, names)
    weights = copied.state_dict()
    with torch.no_grad():
        for name in names:
            weights[name].add_(difference(name).to(weights[name]))
    copied.made_from(generator)
    return copied


def copy_sharing(generator: Generator, own: set[str]) -> Generator:
    """A copy of ``generator`` with weights of its own called ``own``; the others are the same tensors."""
    named = [*generator.named_parameters(), *generator.named_buffers()]
    shared: dict[int, nn.Module | Tensor] = {id(tensor): tensor for name, tensor in named if name not in own}
    if generator.source is not generator:
        shared[id(generator.source)] = generator.source
    return copy.deepcopy(generator, shared)
