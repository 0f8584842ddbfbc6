"""Fitting boundaries: a linear SVM between the faces with the most and the least of an attribute."""

from __future__ import annotations

import numpy as np
import torch
from sklearn.svm import LinearSVC

from facelatent.boundaries.boundary import Boundary

#: Inverse regularisation strength of the SVM on standardised codes; see docs/boundaries.md for the measurement.
DEFAULT_C = 1e-3


def fit_boundary(
    ws: np.ndarray,
    scores: np.ndarray,
    ratio: float = 0.02,
    held_out: float = 0.3,
    seed: int = 0,
    attribute: str = "",
    c: float = DEFAULT_C,
) -> Boundary:
    """Fit a hyperplane between the highest- and the lowest-scored codes, as InterFaceGAN does, keeping the intercept.

    Args:
        ws: [n, 512] codes.
        scores: [n] higher means more of the attribute; NaN rows are left out.
        ratio: share of the codes taken from each end.
        held_out: share of those extremes that is kept from training, to test on.
        seed: of the split.
        attribute: name of the result.
        c: inverse regularisation strength.

    Returns:
        A boundary whose ``std`` is that of ``ws`` along the normal and whose ``report`` has ``accuracy_train``,
        ``accuracy_held_out`` (extremes not trained on), ``accuracy_remaining`` (codes between the extremes, labelled by
        the median score) and ``accuracy_all_held_out`` (the last two together), with the counts.

    Raises:
        ValueError: fewer than ten scored codes at each end, or ``ratio`` or ``held_out`` out of range.
    """
    if not 0 < ratio <= 0.5 or not 0 < held_out < 1:
        raise ValueError(f"ratio must be in (0, 0.5] and held_out in (0, 1), got {ratio} and {held_out}")
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(scores[known], kind="stable")]
    count = int(len(order) * ratio)
    if count < 10:
        raise ValueError(f"{len(order)} scored codes give {count} at each end at ratio {ratio}; at least 10 are needed")
    low, between, high = order[:count], order[count:-count], order[-count:]
    random = np.random.default_rng(seed)
    kept = round(count * (1 - held_out))
    low, high = random.permutation(low), random.permutation(high)
    train = np.concatenate([low[:kept], high[:kept]])
    test = np.concatenate([low[kept:], high[kept:]])
    above = scores > np.median(scores[order])

    # One scale for every coordinate keeps the metric of W, and with it the meaning of the normal.
    mean, scale = ws[train].mean(0), float(ws[train].std())
    svm = LinearSVC(C=c, dual="auto", random_state=seed, max_iter=10000)
    svm.fit((ws[train] - mean) / scale, above[train])
    weights = svm.coef_[0].astype(np.float64) / scale
    length = float(np.linalg.norm(weights))
    normal = weights / length
    intercept = float((svm.intercept_[0] - weights @ mean) / length)

    def accuracy(rows: np.ndarray) -> float:
        return float(np.mean((ws[rows] @ normal + intercept > 0) == above[rows])) if len(rows) else float("nan")

    report = {
        "samples": len(order),
        "ratio": ratio,
        "train": len(train),
        "held_out": len(test),
        "remaining": len(between),
        "seed": seed,
        "c": c,
        "accuracy_train": accuracy(train),
        "accuracy_held_out": accuracy(test),
        "accuracy_remaining": accuracy(between),
        "accuracy_all_held_out": accuracy(np.concatenate([test, between])),
    }
    return Boundary(attribute, torch.from_numpy(normal).float(), intercept, float((ws @ normal).std()), report=report)
