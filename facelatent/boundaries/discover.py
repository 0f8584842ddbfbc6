"""Directions that nobody labelled: GANSpace and SeFa."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from facelatent.boundaries.boundary import Boundary
from facelatent.stylegan_ops import Generator


def ganspace(generator: Generator, count: int) -> list[Boundary]:
    """The first principal components of w (Härkönen et al., GANSpace, 2020), by falling variance.

    A boundary's ``distance`` is the component's coordinate, in standard deviations.
    """
    found = []
    for index in range(min(count, generator.w_dim)):
        normal = generator.w_components[index].cpu()
        intercept = -float(normal @ generator.w_avg.cpu())
        found.append(_named(generator, f"ganspace-{index:02d}", normal, intercept, "GANSpace", {"component": index}))
    return found


@torch.no_grad()
def sefa(generator: Generator, count: int, resolutions: tuple[int, int] | None = None) -> list[Boundary]:
    """The directions of w that the layers' affines stretch most (Shen & Zhou, SeFa, 2021): eigenvectors of A'A.

    Args:
        generator: whose affines A, one unit row a channel of style space.
        count: how many directions.
        resolutions: first and last of the layers that are looked at, and that the result edits; None for all.
    """
    first, last = resolutions or (0, generator.resolution)
    rows = _affine_rows(generator, generator.layers_between(first, last)).double()
    rows = rows / rows.norm(dim=1, keepdim=True).clamp_min(1e-12)
    values, vectors = torch.linalg.eigh(rows.T @ rows)
    found = []
    for index in range(min(count, generator.w_dim)):
        normal = vectors[:, -1 - index]
        normal = (normal * normal[normal.abs().argmax()].sign()).float()  # an eigenvector's sign is arbitrary
        facts = {"eigenvalue": float(values[-1 - index]), "resolutions": resolutions}
        intercept = -float(normal @ generator.w_avg.cpu())
        found.append(_named(generator, f"sefa-{index:02d}", normal, intercept, "SeFa", facts, resolutions))
    return found


def _affine_rows(generator: Generator, layers: Sequence[int]) -> Tensor:
    """[channels, w_dim] the affine weights of every channel of style space that reads one of some W+ layers.

    Styles are affine in w: the weights are what unit vectors change.
    """
    size = generator.w_dim
    ws = torch.zeros(size, generator.num_ws, size, device=generator.device)
    origin = generator.styles(ws[:1])
    ws[:, list(layers)] = torch.eye(size, device=generator.device)[:, None]
    changes = [(style - origin[name]).T.cpu() for name, style in generator.styles(ws).items()]
    return torch.cat([change for change in changes if bool(change.any())])


def _named(
    generator: Generator,
    name: str,
    normal: Tensor,
    intercept: float,
    method: str,
    facts: Mapping[str, object],
    resolutions: tuple[int, int] | None = None,
) -> Boundary:
    return Boundary(
        name,
        normal,
        intercept,
        generator.std_along(normal),
        resolutions,
        generator.name,
        generator.fingerprint,
        generator.w_space,
        {"method": method, **facts},
    )
