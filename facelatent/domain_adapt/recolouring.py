"""The reference's palette in one step: a linear map of colours, laid into the layers that make them.

What turns features into colours is linear in both generators, so that a map of all colours is a change of its weights,
exactly. A descent that begins there has its steps for what is not a matter of palette.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from facelatent.stylegan_ops import Generator
from facelatent.stylegan_ops.mobile_network import MobileNetwork

#: Variance, in [-1, 1] squared, that every direction of colour is taken to have: grey pictures divide by none.
_LEAST_VARIANCE = 1e-4


def colour_map(source: Tensor, wanted: Tensor, share: float = 1.0) -> tuple[Tensor, Tensor]:
    """The linear map of colours that gives ``source`` the mean and covariance of ``wanted``, moving them least.

    The Monge-Kantorovitch map between Gaussians; Pitie and Kokaram, "The Linear Monge-Kantorovitch Linear Colour
    Mapping for Example-Based Colour Transfer", 2007.

    Args:
        source: colours [n, 3].
        wanted: colours [m, 3].
        share: how far to go; 0 is nowhere.

    Returns:
        ``matrix [3, 3]`` and ``offset [3]``: a colour becomes ``matrix @ colour + offset``.
    """
    least = _LEAST_VARIANCE * torch.eye(3, dtype=torch.float64)
    means = [colours.double().mean(0) for colours in (source, wanted)]
    spreads = [torch.cov(colours.double().T) + least for colours in (source, wanted)]
    root = _root(spreads[0])
    inverse = torch.linalg.inv(root)
    whole = inverse @ _root(root @ spreads[1] @ root) @ inverse
    matrix = torch.lerp(torch.eye(3, dtype=torch.float64), whole, share)
    offset = share * (means[1] - whole @ means[0])
    return matrix.float(), offset.float()


def _root(positive: Tensor) -> Tensor:
    """The symmetric square root of a symmetric positive matrix."""
    values, vectors = torch.linalg.eigh(positive)
    root: Tensor = (vectors * values.clamp_min(0).sqrt()) @ vectors.T
    return root


def recoloured(generator: Generator, matrix: Tensor, offset: Tensor) -> dict[str, Tensor]:
    """The weights, by name, with which ``generator`` draws what it draws, mapped by :func:`colour_map`."""
    named: Mapping[str, Tensor] = dict(generator.named_parameters())
    if isinstance(generator, MobileNetwork):
        # Wavelets: a low band of three colours, twice the mean of 2 x 2 pixels; then three high bands of each colour.
        weight, bias = named["to_img_weight"], named["to_img_bias"]
        high = torch.kron(matrix, torch.eye(3))
        bands: Tensor = torch.block_diag(matrix, high).to(weight)  # type: ignore[no-untyped-call]
        lifted = torch.cat([2 * offset.to(bias), bias.new_zeros(9)])
        return {
            "to_img_weight": (bands @ weight.detach().flatten(1)).reshape(weight.shape),
            "to_img_bias": bands @ bias.detach() + lifted,
        }
    colours = {
        name: value.detach() for name, value in named.items() if name.endswith((".to_rgb.weight", ".to_rgb.bias"))
    }
    last = max((name for name in colours if name.endswith("bias")), key=lambda name: int(name.split(".")[-3]))
    mapped = {
        name: (matrix.to(value) @ value.flatten(1 if value.ndim > 1 else 0)).reshape(value.shape)
        for name, value in colours.items()
    }
    mapped[last] += offset.to(mapped[last])
    return mapped
