"""Fitting boundaries: a linear SVM between the faces with the most and the least of an attribute, or a regression."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from sklearn.metrics import roc_auc_score

from facelatent.boundaries.boundary import Boundary
from facelatent.boundaries.linear import Plane, fit_ridge, fit_svm

#: Inverse regularisation strength of the SVM on standardised codes; see docs/boundaries.md for the measurement.
DEFAULT_C = 1e-3
#: Most codes of a bootstrap fit: stability is cheap to measure and hardly grows beyond.
BOOTSTRAP_CODES = 20_000

Method = Literal["svm", "ridge"]


@dataclass(frozen=True)
class _Split:
    """Rows of the codes, by what they are for."""

    train: np.ndarray
    test: np.ndarray
    between: np.ndarray
    known: np.ndarray


def fit_boundary(
    ws: np.ndarray,
    scores: np.ndarray,
    ratio: float = 0.02,
    held_out: float = 0.3,
    seed: int = 0,
    attribute: str = "",
    c: float = DEFAULT_C,
    method: Method = "svm",
    known: Mapping[str, Boundary] | None = None,
    bootstrap: int = 3,
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
        method: "svm" tells the extremes apart; "ridge" is a regression of the score on all codes, but for the same
            held-out share of the extremes and of the codes between them.
        known: boundaries whose cosines with the result are reported.
        bootstrap: how many fits to resampled training codes tell how stable the normal is; 0 for none.

    Returns:
        A boundary whose ``std`` is that of ``ws`` along the normal and whose ``report`` has ``accuracy_train``,
        ``accuracy_held_out`` (extremes not trained on), ``accuracy_remaining`` (codes between the extremes that were
        not trained on, labelled by the median score) and ``accuracy_all_held_out`` (the last two together), the areas
        under the ROC curve ``auc_held_out`` and ``auc_all_held_out``, with the counts; ``bootstrap_cosine``, the mean
        cosine of resampled fits with the normal; and ``cosines`` with ``known``.

    Raises:
        ValueError: mixed codes, fewer than ten scored codes at each end, or ``ratio``, ``held_out`` or ``method`` out
            of range.
    """
    if not 0 < ratio <= 0.5 or not 0 < held_out < 1:
        raise ValueError(f"ratio must be in (0, 0.5] and held_out in (0, 1), got {ratio} and {held_out}")
    if method not in ("svm", "ridge"):
        raise ValueError(f"method must be svm or ridge, got {method!r}")
    ws, scores = np.asarray(ws), np.asarray(scores)
    if ws.ndim != 2:
        raise ValueError(f"codes must be [n, 512], one a face, got {list(ws.shape)}; mixed ones only help to edit")
    random = np.random.default_rng(seed)
    split = _split(scores, ratio, held_out, method, random)
    above = scores > np.median(scores[split.known])

    # One scale for every coordinate keeps the metric of W, and with it the meaning of the normal.
    x = ws[split.train]
    mean = x.mean(0, dtype=np.float64).astype(x.dtype)
    x -= mean
    scale = float(x.std())
    x /= x.dtype.type(scale)
    labels = above if method == "svm" else _standardised(scores, split.train)

    def fitted(rows: np.ndarray | slice) -> Plane:
        chosen = labels[split.train][rows]
        return fit_svm(x[rows], chosen, c) if method == "svm" else fit_ridge(x[rows], chosen, c)

    plane = fitted(slice(None))
    stability = _stability(plane, fitted, len(split.train), bootstrap, random)
    weights = plane.weights / scale
    length = float(np.linalg.norm(weights))
    normal, intercept = weights / length, float((plane.offset - weights @ mean) / length)
    along = ws @ normal.astype(ws.dtype)
    report: dict[str, Any] = {
        "samples": len(split.known),
        "ratio": ratio,
        "train": len(split.train),
        "held_out": len(split.test),
        "remaining": len(split.between),
        "seed": seed,
        "c": c,
        "method": method,
        **_accuracies(along + intercept, above, split),
        **stability,
    }
    if known:
        report["cosines"] = {name: float(other.normal.double().numpy() @ normal) for name, other in known.items()}
    return Boundary(attribute, torch.from_numpy(normal).float(), intercept, float(along.std()), report=report)


def _split(scores: np.ndarray, ratio: float, held_out: float, method: Method, random: np.random.Generator) -> _Split:
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(scores[known], kind="stable")]
    count = int(len(order) * ratio)
    if count < 10:
        raise ValueError(f"{len(order)} scored codes give {count} at each end at ratio {ratio}; at least 10 are needed")
    low, between, high = order[:count], order[count:-count], order[-count:]
    kept = round(count * (1 - held_out))
    low, high = random.permutation(low), random.permutation(high)
    train, test = np.concatenate([low[:kept], high[:kept]]), np.concatenate([low[kept:], high[kept:]])
    if method == "ridge":
        between = random.permutation(between)
        middle = round(len(between) * (1 - held_out))
        train, between = np.concatenate([train, between[:middle]]), between[middle:]
    return _Split(train, test, between, order)


def _standardised(scores: np.ndarray, rows: np.ndarray) -> np.ndarray:
    deviation = scores[rows].std()
    standardised: np.ndarray = (scores - scores[rows].mean()) / (deviation or 1.0)
    return standardised


def _accuracies(distances: np.ndarray, above: np.ndarray, split: _Split) -> dict[str, float]:
    everything = np.concatenate([split.test, split.between])

    def accuracy(rows: np.ndarray) -> float:
        return float(np.mean((distances[rows] > 0) == above[rows])) if len(rows) else float("nan")

    def area(rows: np.ndarray) -> float:
        both = len(rows) and above[rows].any() and not above[rows].all()
        return float(roc_auc_score(above[rows], distances[rows])) if both else float("nan")

    return {
        "accuracy_train": accuracy(split.train),
        "accuracy_held_out": accuracy(split.test),
        "accuracy_remaining": accuracy(split.between),
        "accuracy_all_held_out": accuracy(everything),
        "auc_held_out": area(split.test),
        "auc_all_held_out": area(everything),
    }


def _stability(plane: Plane, fitted: Any, count: int, fits: int, random: np.random.Generator) -> dict[str, float]:
    """Mean cosine of the normal with those of fits to codes drawn with replacement."""
    if not fits:
        return {}
    size = min(count, BOOTSTRAP_CODES)
    others = [fitted(random.integers(0, count, size)).weights for _ in range(fits)]
    cosines = [other @ plane.weights / np.linalg.norm(other) / np.linalg.norm(plane.weights) for other in others]
    return {"bootstrap_fits": fits, "bootstrap_codes": size, "bootstrap_cosine": float(np.mean(cosines))}
