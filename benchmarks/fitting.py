"""Fitting a boundary: how long, how well, and beside scikit-learn's solvers and InterFaceGAN's in the same run.

    python benchmarks/fitting.py                                    # synthetic codes
    python benchmarks/fitting.py --codes codes --score happy age    # and scored ones
    python benchmarks/fitting.py --large 500000                     # one boundary of so many codes: time and memory

InterFaceGAN's is ``SVC(kernel="linear")`` on codes as they are, whose time grows with the square of their number; it is
left out above ``--largest-svc`` training codes.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from common import publish
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import SGDClassifier
from sklearn.svm import SVC, LinearSVC

from facelatent.boundaries import fit_boundary
from facelatent.boundaries.codes import read_codes
from facelatent.boundaries.fitting import DEFAULT_C
from facelatent.boundaries.linear import fit_svm

Decide = Callable[[np.ndarray], np.ndarray]


def synthetic(count: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Codes [count, 512] with variances as uneven as those of w, and scores that one direction explains in part."""
    random = np.random.default_rng(seed)
    deviations = np.geomspace(2, 0.05, 512).astype(np.float32)
    ws = random.standard_normal((count, 512), dtype=np.float32) * deviations
    direction = random.standard_normal(512).astype(np.float32)
    along = ws @ (direction / np.linalg.norm(direction))
    return ws, along / along.std() + 0.8 * random.standard_normal(count)


def ours(x: np.ndarray, y: np.ndarray) -> Decide:
    plane = fit_svm(x, y, DEFAULT_C)
    return lambda other: plane.values(other) > 0


def scikit(make: Callable[[int], Any]) -> Callable[[np.ndarray, np.ndarray], Decide]:
    def fit(x: np.ndarray, y: np.ndarray) -> Decide:
        model = make(len(x)).fit(x, y)
        return lambda other: np.asarray(model.predict(other))

    return fit


SOLVERS = {
    "ours (Newton)": (ours, True),
    "LinearSVC primal": (scikit(lambda n: LinearSVC(C=DEFAULT_C, dual=False)), True),
    "LinearSVC dual": (scikit(lambda n: LinearSVC(C=DEFAULT_C, dual=True, random_state=0)), True),
    "SGD": (scikit(lambda n: SGDClassifier(alpha=1 / (DEFAULT_C * n), average=True, random_state=0)), True),
    "SVC linear, C 0.001": (scikit(lambda n: SVC(kernel="linear", C=DEFAULT_C)), True),
    "SVC linear (InterFaceGAN)": (scikit(lambda n: SVC(kernel="linear")), False),
}


def extremes(scores: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Rows to train on, ``count`` of them, and to test on, 30 % of the extremes; and which scores are high."""
    order = np.argsort(scores, kind="stable")
    each = round(count / 2 / 0.7)
    random = np.random.default_rng(0)
    low, high = random.permutation(order[:each]), random.permutation(order[-each:])
    kept = count // 2
    return (
        np.concatenate([low[:kept], high[:kept]]),
        np.concatenate([low[kept:], high[kept:]]),
        scores > np.median(scores),
    )


def compare(data: str, ws: np.ndarray, scores: np.ndarray, count: int, largest_svc: int) -> list[dict[str, Any]]:
    """Every solver on ``count`` training codes of the extremes."""
    train, test, above = extremes(scores, count)
    rows = []
    for name, (fit, standardise) in SOLVERS.items():
        if name.startswith("SVC") and count > largest_svc:
            continue
        began = time.perf_counter()
        mean = ws[train].mean(0) if standardise else np.zeros(ws.shape[1], ws.dtype)
        scale = (ws[train] - mean).std() if standardise else 1.0
        decide = fit((ws[train] - mean) / scale, above[train])
        seconds = time.perf_counter() - began
        accuracy = {
            part: float(np.mean(decide((ws[at] - mean) / scale) == above[at]))
            for part, at in (("train", train), ("held out", test))
        }
        rows.append({"codes": data, "trained on": count, "solver": name, "seconds": seconds, **accuracy})
        print(rows[-1], flush=True)
    reference = next((row["seconds"] for row in rows if "InterFaceGAN" in row["solver"]), float("nan"))
    return [{**row, "times as fast as InterFaceGAN's": reference / row["seconds"]} for row in rows]


def large(count: int) -> list[dict[str, Any]]:
    """One boundary by :func:`fit_boundary`: of the extremes, and of every code."""
    ws, scores = synthetic(count)
    rows = []
    for ratio in (0.02, 0.5):
        began = time.perf_counter()
        report = fit_boundary(ws, scores, ratio=ratio, bootstrap=0).report
        seconds = time.perf_counter() - began
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        rows.append(
            {"codes": count, "ratio": ratio, "trained on": report["train"], "seconds": seconds, "peak GB": memory}
            | {"held out": report["accuracy_held_out"], "all held out": report["accuracy_all_held_out"]}
        )
        print(rows[-1], flush=True)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="*", default=[2000, 8000, 32000])
    parser.add_argument("--largest-svc", type=int, default=8000)
    parser.add_argument("--codes", type=Path, help="folder of scored codes")
    parser.add_argument("--score", nargs="*", default=["happy", "age"])
    parser.add_argument("--large", type=int)
    options = parser.parse_args()
    if options.large:
        publish("fitting_large", large(options.large))
        return
    warnings.simplefilter("ignore", ConvergenceWarning)
    rows = []
    for size in options.sizes:
        ws, scores = synthetic(round(size / 0.7 / 0.4))
        rows += compare("synthetic", ws, scores, size, options.largest_svc)
    if options.codes:
        codes = read_codes(options.codes)
        for name in options.score:
            known = np.isfinite(codes.scores[name])
            ws, scores = codes.ws[known], codes.scores[name][known]
            for share in (0.4, 1.0):  # the extreme fifths, and every code
                size = int(len(ws) * share * 0.7) // 2 * 2
                rows += compare(name, ws, scores, size, options.largest_svc)
    publish("fitting", rows)


if __name__ == "__main__":
    main()
