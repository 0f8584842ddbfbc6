"""Ridge regression from descriptions of pictures to codes, in its dual form, and cut to a low rank.

There are more numbers in a description than there are pairs, so that the kernel, [pairs, pairs], is what is solved.
Its inverse also gives, in closed form, what the map would have said about each pair had it not seen it: the error that
the next pass has to learn to correct, without fitting anything twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

#: Rows and columns of descriptions that are turned to float32 at once.
_ROWS, _COLUMNS = 4096, 4096
#: Share of a stage's mean deviation that is added to every deviation, so that silent channels stay quiet.
_FLOOR = 0.1


@dataclass(frozen=True)
class LinearMap:
    """``outputs = up @ (down @ inputs) + bias``.

    Attributes:
        down: [rank, inputs].
        up: [outputs, rank].
        bias: [outputs].
    """

    down: Tensor
    up: Tensor
    bias: Tensor


@dataclass(frozen=True)
class Fit:
    """A map, and how well it does on pairs that it has not seen.

    Attributes:
        map: of low rank.
        left_out: [n, outputs] what it says about each pair without that pair.
    """

    map: LinearMap
    left_out: Tensor


def fit(inputs: Tensor, targets: Tensor, weights: Tensor, ridge: float, rank: int, tick: Callable[[], None]) -> Fit:
    """Fit a low-rank linear map to pairs.

    Args:
        inputs: [n, d] in half precision, perhaps on the CPU; too many to be turned to float32 at once.
        targets: [n, t], where to compute.
        weights: [t] how much each target counts in the choice of the ranks; the regression does not depend on them.
        ridge: added to the kernel's diagonal, which is about one.
        rank: of the map; at most t.
        tick: called after each of :func:`ticks` parts of the work.
    """
    mean, scale = _standards(inputs, targets.device)
    kernel = _kernel(inputs, mean, scale, tick)
    average = targets.mean(0)
    kernel.diagonal().add_(ridge)
    factor = torch.linalg.cholesky(kernel)
    del kernel
    dual = torch.cholesky_solve(targets - average, factor)
    tick()
    # Leave-one-out residuals of ridge regression: dual / diagonal of the inverse kernel.
    left_out = targets - dual / torch.cholesky_inverse(factor).diagonal()[:, None]
    del factor
    tick()
    # Reduced-rank regression: the directions in which predictions vary most (Izenman, 1975).
    moved = (left_out - average) * weights
    directions = torch.linalg.eigh(moved.T @ moved).eigenvectors[:, -rank:].flip(1)  # [t, rank]
    coefficients = (dual * weights) @ directions
    down = torch.empty(rank, inputs.shape[1], device=targets.device)
    for columns in _slices(inputs.shape[1], _COLUMNS):
        part = (inputs[:, columns].to(targets) - mean[columns]) * scale[columns]
        down[:, columns] = (part.T @ coefficients * scale[columns, None]).T
        tick()
    up = directions / weights[:, None]
    left_out = average + moved @ directions @ up.T
    return Fit(LinearMap(down, up, average - up @ (down @ mean)), left_out)


def ticks(inputs: int) -> int:
    """How often :func:`fit` calls ``tick`` for inputs [n, ``inputs``]."""
    return 2 * len(_slices(inputs, _COLUMNS)) + 2


def explained(targets: Tensor, found: Tensor, weights: Tensor) -> float:
    """Share of the variance of targets [n, t] about their mean that ``found`` [n, t] explains; 1 at best."""
    error = ((targets - found) * weights).square().sum()
    return 1 - float(error / ((targets - targets.mean(0)) * weights).square().sum())


def _standards(inputs: Tensor, device: torch.device) -> tuple[Tensor, Tensor]:
    """Mean [d], and the factor [d] that makes each input about as large as the others and a row's square about one."""
    means, deviations = [], []
    for columns in _slices(inputs.shape[1], _COLUMNS):
        part = inputs[:, columns].to(device).float()
        means.append(part.mean(0))
        deviations.append(part.std(0))
    mean, deviation = torch.cat(means), torch.cat(deviations)
    return mean, 1 / ((deviation + _FLOOR * deviation.mean()) * inputs.shape[1] ** 0.5)


def _kernel(inputs: Tensor, mean: Tensor, scale: Tensor, tick: Callable[[], None]) -> Tensor:
    """Inner products [n, n] of the standardised rows; only the lower triangle is computed, then mirrored."""
    kernel = torch.zeros(len(inputs), len(inputs), device=mean.device)
    for columns in _slices(inputs.shape[1], _COLUMNS):
        part = (inputs[:, columns].to(mean) - mean[columns]) * scale[columns]
        for rows in _slices(len(inputs), _ROWS):
            kernel[rows, : rows.stop].addmm_(part[rows], part[: rows.stop].T)
        tick()
    return kernel.tril_() + kernel.tril(-1).T


def _slices(count: int, size: int) -> list[slice]:
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]
