"""On which layers an attribute lives: one linear fit to faces whose groups of layers have codes of their own.

A normal in W says what moves a score when all layers move together. In mixed codes the groups are independent of each
other, so that a regression on all of them at once gives each group's own part: for normally distributed codes the
slopes are the mean of the score's gradient over faces (Stein, 1981).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from facelatent.boundaries.boundary import Boundary
from facelatent.boundaries.codes import GROUPS
from facelatent.boundaries.linear import Plane, fit_ridge
from facelatent.stylegan_ops import Generator

#: Inverse strengths of the ridge on standardised codes and scores, of which the best on held-out faces is taken.
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2, 1e-1)


@dataclass(frozen=True)
class Slopes:
    """How a score rises with the codes of each group of layers.

    Attributes:
        slopes: [5, 512] change of the score per unit of w, by group.
        explained: share of the variance that the fit explains on faces that were held out.
        c: the chosen strength.
    """

    slopes: np.ndarray
    explained: float
    c: float


def fit_mixed(ws: np.ndarray, scores: np.ndarray, held_out: float = 0.2, seed: int = 0) -> Slopes:
    """Regress a score on mixed codes.

    Args:
        ws: [n, 5, 512] codes, one for each of :data:`~facelatent.boundaries.codes.GROUPS`.
        scores: [n]; NaN rows are left out.
        held_out: share that the strength of the ridge is chosen on; the result is fitted to all.
        seed: of the split.

    Raises:
        ValueError: the codes are not mixed, or fewer than a hundred are scored.
    """
    if ws.ndim != 3:
        raise ValueError(f"mixed codes have one w for each group of layers, [n, {len(GROUPS)}, 512], got {ws.shape}")
    known = np.flatnonzero(np.isfinite(scores))
    if len(known) < 100:
        raise ValueError(f"{len(known)} scored codes are too few for a fit on {ws[0].size} numbers each")
    x = ws.reshape(len(ws), -1)[known]
    scale = float(x.std(0).mean())
    x = (x - x.mean(0)) / x.dtype.type(scale)
    spread = float(scores[known].std()) or 1.0
    y = (scores[known] - scores[known].mean()) / spread
    order = np.random.default_rng(seed).permutation(len(x))
    test, train = np.split(order, [round(len(x) * held_out)])

    def explained(plane: Plane) -> float:
        return 1 - float(np.mean((y[test] - plane.values(x[test])) ** 2) / y[test].var())

    tried = {c: explained(fit_ridge(x[train], y[train], c)) for c in STRENGTHS}
    c = max(tried, key=lambda one: tried[one])
    slopes = fit_ridge(x, y, c).weights * spread / scale
    return Slopes(slopes.reshape(ws.shape[1:]), tried[c], c)


def mixed_candidates(boundary: Boundary, slopes: np.ndarray, generator: Generator) -> list[Boundary]:
    """The slopes [5, 512] of each group of layers alone, as edits of one standard deviation of w along them."""
    made = []
    for (first, last), slope in zip(GROUPS, slopes, strict=True):
        layers = generator.layers_between(first, last)
        if not layers or not np.any(slope):
            continue
        unit = torch.from_numpy(slope / np.linalg.norm(slope)).float()
        steps = torch.zeros(generator.num_ws, generator.w_dim)
        steps[layers] = generator.std_along(unit) * unit
        sides = generator.layer_resolutions
        made.append(replace(boundary, steps=steps, layer_resolutions=sides, styles={}, resolutions=None))
    return made
