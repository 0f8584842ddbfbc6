"""Linear models of standardised codes that take hundreds of thousands of them: a support vector machine, and ridge.

Both go over the codes in blocks and keep nothing but a [513, 513] matrix and a number a code, in the codes' own
precision; see docs/boundaries.md for the times beside scikit-learn's.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import linalg

_BLOCK = 8192
_MOST_STEPS = 100


@dataclass(frozen=True)
class Plane:
    """The plane ``weights . x + offset = 0``."""

    weights: np.ndarray
    offset: float

    def values(self, x: np.ndarray) -> np.ndarray:
        """[n] the left side, for x [n, d]."""
        result: np.ndarray = x @ self.weights.astype(x.dtype) + x.dtype.type(self.offset)
        return result


def fit_svm(x: np.ndarray, positive: np.ndarray, c: float) -> Plane:
    """Linear support vector machine with squared hinge loss: what scikit-learn's LinearSVC minimises, exactly.

    ``|w, b|^2 / 2 + c sum max(0, 1 - y (w . x + b))^2`` by Newton's method (Keerthi & DeCoste, 2005): between the
    steps only the codes inside the margin count, and for those it is a least-squares problem.

    Args:
        x: [n, d] codes, floating point.
        positive: [n] bool.
        c: inverse regularisation strength.
    """
    sign = np.where(positive, 1, -1).astype(x.dtype)
    weights, values = np.zeros(x.shape[1] + 1), np.zeros(len(x), x.dtype)
    inside = np.zeros(0, bool)
    for _ in range(_MOST_STEPS):
        before, inside = inside, sign * values < 1
        if np.array_equal(before, inside):
            break
        target = _least_squares(x, sign, np.flatnonzero(inside), c)
        change = Plane(target[:-1], target[-1]).values(x) - values
        length = _line_search(sign, values, change, weights, target - weights, c)
        weights, values = weights + length * (target - weights), values + x.dtype.type(length) * change
    return Plane(weights[:-1], float(weights[-1]))


def fit_ridge(x: np.ndarray, y: np.ndarray, c: float) -> Plane:
    """Ridge regression of y [n] on x [n, d]: the least ``|w, b|^2 / 2 + c sum (y - w . x - b)^2``."""
    weights = _least_squares(x, y.astype(x.dtype), np.arange(len(x)), c)
    return Plane(weights[:-1], float(weights[-1]))


def _least_squares(x: np.ndarray, y: np.ndarray, rows: np.ndarray, c: float) -> np.ndarray:
    """Weights and offset [d + 1] of ridge regression on some rows."""
    size = x.shape[1]
    matrix, right = np.eye(size + 1) / (2 * c), np.zeros(size + 1)
    for start in range(0, len(rows), _BLOCK):
        chosen = rows[start : start + _BLOCK]
        block, wanted = x[chosen], y[chosen]
        matrix[:size, :size] += block.T @ block
        matrix[:size, size] += block.sum(0, dtype=np.float64)
        matrix[size, size] += len(chosen)
        right[:size] += wanted @ block
        right[size] += wanted.sum(dtype=np.float64)
    matrix[size, :size] = matrix[:size, size]
    result: np.ndarray = linalg.solve(matrix, right, assume_a="pos")
    return result


def _line_search(
    sign: np.ndarray, values: np.ndarray, change: np.ndarray, weights: np.ndarray, step: np.ndarray, c: float
) -> float:
    """Share of a Newton step at which the loss is least; it is convex along the way."""

    def slope(share: float) -> float:
        missing = np.maximum(1 - sign * (values + values.dtype.type(share) * change), 0)
        return float((weights + share * step) @ step - 2 * c * ((missing * sign).astype(np.float64) @ change))

    low, high = 0.0, 1.0
    if slope(high) <= 0:
        return high
    for _ in range(20):
        middle = (low + high) / 2
        low, high = (middle, high) if slope(middle) < 0 else (low, middle)
    return (low + high) / 2
