"""Moving codes along boundaries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from facelatent.boundaries.boundary import Boundary
from facelatent.stylegan_ops import Generator, Styles

#: What the numbers of :func:`walk` mean.
Meaning = Literal["distance", "offset"]


def edit_layers(boundary: Boundary, generator: Generator) -> list[int]:
    """W+ layers of ``generator`` that the boundary's default resolutions cover."""
    return generator.layers_between(*(boundary.resolutions or (0, generator.resolution)))


def edit(ws: Tensor, boundary: Boundary, alpha: float, layers: Iterable[int] | None = None) -> Tensor:
    """Move codes along a boundary: by ``alpha * std * normal`` on the given layers, or by its own steps.

    Args:
        ws: [n, num_ws, 512] W+ codes.
        boundary: what to change. What it changes in style space is not in W+ codes: see :func:`draw_edited`.
        alpha: strength in standard deviations of w along the normal; negative for less of the attribute.
        layers: W+ layers to move; all if None. :func:`edit_layers` gives the boundary's default ones.

    >>> smile = Boundary("smile", torch.eye(512)[0], intercept=0.0, std=0.5)
    >>> edit(torch.zeros(1, 16, 512), smile, 2.0, layers=[3, 4])[0, :6, 0].tolist()
    [0.0, 0.0, 0.0, 1.0, 1.0, 0.0]

    Raises:
        IncompatibleLatent: the boundary has steps for another number of layers.
    """
    mask = torch.ones(ws.shape[1]) if layers is None else torch.zeros(ws.shape[1])
    if layers is not None:
        mask[list(layers)] = 1
    return ws + alpha * mask.to(ws)[:, None] * boundary.step(ws.shape[1]).to(ws)


def style_shift(edits: Iterable[tuple[Boundary, float]]) -> Styles:
    """What edits add to style space, [channels] by layer name: of each boundary with its strength."""
    total: Styles = {}
    for boundary, alpha in edits:
        for name, shift in boundary.styles.items():
            total[name] = total[name] + alpha * shift if name in total else alpha * shift
    return total


def draw_edited(generator: Generator, ws: Tensor, shift: Styles, resolution: int | None = None) -> Tensor:
    """Draw W+ codes [n, num_ws, 512] with ``shift`` added to their styles: images [n, 3, H, W]."""
    if not shift:
        return generator.synthesis(ws, resolution=resolution)
    styles = generator.styles(ws)
    for name, added in shift.items():
        styles[name] = styles[name] + added.to(styles[name])
    return generator.draw_styles(styles, resolution=resolution)


def project(primal: Any, conditions: Any) -> Any:
    """The part of a direction that is orthogonal to all ``conditions``, as a unit vector [1, 512].

    Moving along it leaves the distances to the conditions' hyperplanes as they are (InterFaceGAN's conditional
    manipulation, for any number of conditions, also where they depend on each other).

    Args:
        primal: [1, 512] or [512], a tensor or an array: what to change.
        conditions: directions of that shape, or one [m, 512]: what to leave alone; they need not be orthogonal.

    >>> project(np.array([3.0, 4.0]), [np.array([1.0, 0.0])])
    array([[0., 1.]])

    Returns:
        What ``primal`` is, a tensor or an array, of its type of number.

    Raises:
        ValueError: nothing is left: the conditions span the direction.
    """
    rows = [_rows(condition) for condition in _several(conditions)]
    direction = _rows(primal)[0]
    rest = direction
    if rows:
        basis = torch.cat(rows)
        # Conditions in single precision that depend on each other do so to some 1e-7.
        shares = torch.linalg.lstsq(basis.T, direction[:, None], rcond=1e-6, driver="gelsd").solution[:, 0]
        rest = direction - shares @ basis
    length = rest.norm()
    if length < 1e-6 * direction.norm():
        raise ValueError("the conditions span the direction: nothing of it is left")
    return _like((rest / length)[None], primal)


def walk(
    code: Any, boundary: Any, start: float = -3.0, end: float = 3.0, steps: int = 10, meaning: Meaning | None = None
) -> Any:
    """Codes on a line across a boundary, at ``steps`` equal distances (InterFaceGAN's linear interpolation).

    Args:
        code: [1, 512], or W+ [1, num_ws, 512]; a tensor or an array.
        boundary: a Boundary, whose standard deviations ``start`` and ``end`` are in; or a unit normal [1, 512] of a
            plane through the origin, in whose units they then are.
        start: where the line begins.
        end: where it ends.
        steps: how many codes.
        meaning: "distance": signed distances from the boundary, wherever the code lies; "offset": from the code.
            As InterFaceGAN has it if None: distances for w, offsets for W+, whose layers' distances may differ.

    Returns:
        [steps, 512] or [steps, num_ws, 512], a tensor or an array as ``code`` is.
    """
    if not isinstance(boundary, Boundary):
        boundary = Boundary("", _rows(boundary)[0], 0.0, 1.0)
    ws = torch.as_tensor(code).double()
    meaning = meaning or ("distance" if ws.ndim == 2 else "offset")
    places = torch.linspace(start, end, steps, dtype=torch.float64).reshape(-1, *[1] * (ws.ndim - 1))
    if meaning == "distance":
        places = places - boundary.distance(ws)[..., None]
    step = boundary.step(ws.shape[1] if ws.ndim == 3 else 1).double()
    return _like(ws + places * (step if ws.ndim == 3 else step[0]), code)


def held(boundary: Boundary, others: Sequence[Boundary]) -> Boundary:
    """The boundary with its normal and its steps made orthogonal to other boundaries' by :func:`project`."""
    if not others:
        return boundary
    normals = torch.stack([other.normal for other in others])
    steps = boundary.steps
    if steps is not None:
        moved = [project(row, normals)[0] * row.norm() if float(row.norm()) else row for row in steps]
        steps = torch.stack(moved)
    return replace(boundary, normal=project(boundary.normal, normals)[0], steps=steps)


def _several(conditions: Any) -> list[Any]:
    """Conditions as a list: of one tensor or array [m, 512] its rows."""
    if isinstance(conditions, (Tensor, np.ndarray)):
        return list(_rows(conditions)) if len(conditions) else []
    return list(conditions)


def _rows(directions: Any) -> Tensor:
    tensor = torch.as_tensor(directions).double()
    return tensor.reshape(-1, tensor.shape[-1])


def _like(result: Tensor, given: Any) -> Any:
    """``result`` in the kind and the type of numbers of ``given``."""
    if isinstance(given, np.ndarray):
        return result.numpy().astype(given.dtype)
    return result.to(given)
