"""Make the classifier of glasses that facelatent ships.

    facelatent attributes sample --n 1000 --scorer quality -o codes
    python benchmarks/train_glasses.py --folder codes

Draws the faces of benchmarks/glasses_labels.txt again, fits a logistic regression to the gradients about their eyes,
and writes facelatent/boundaries/scorers/glasses.safetensors. Accuracies by five-fold cross-validation, and on the faces
labelled only to test on, go to results/glasses.json.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import publish
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from tqdm import tqdm

from facelatent.boundaries import locate_faces, read_scores
from facelatent.boundaries.scorers.glasses import WEIGHTS, eye_features
from facelatent.files import save_tensors
from facelatent.images import to_arrays
from facelatent.stylegan_ops import load_generator

LABELS = Path(__file__).parent / "glasses_labels.txt"
STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
CHOSEN = 0.3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="codes of 'facelatent attributes sample --seed 0'")
    folder = parser.parse_args().folder
    labels = read_labels()
    train, test = (sorted(rows) for rows in (labels["looked-at"], labels["test"]))
    wearing = labels["glasses"]
    features = draw_features(folder, train + test)
    fit([row for row in train if row in features], [row for row in test if row in features], wearing, features)


def read_labels() -> dict[str, set[int]]:
    """Rows by what they are: ``looked-at`` to train on, ``test``, and ``glasses`` of both; unsure ones are left out."""
    found: dict[str, set[int]] = {kind: set() for kind in ("looked-at", "test", "glasses", "unsure")}
    for line in LABELS.read_text().splitlines():
        kind, *values = line.split()
        for value in values if kind in found else ():
            first, _, last = value.partition("-")
            found[kind] |= set(range(int(first), int(last or first) + 1))
    return {kind: rows - found["unsure"] for kind, rows in found.items()}


@torch.no_grad()
def draw_features(folder: Path, rows: list[int]) -> dict[int, np.ndarray]:
    """Features [2, k] of each row's face; rows without a face are left out."""
    generator = load_generator()
    ws = torch.from_numpy(read_scores(folder, max(rows) + 1).ws)
    found = {}
    for row in tqdm(rows):
        images = generator.synthesis(generator.broadcast(ws[row : row + 1].to(generator.device)), resolution=256)
        (face,) = locate_faces(images)
        if face is not None:
            found[row] = eye_features(to_arrays(images)[0], face.landmarks)
    return found


def fit(train: list[int], test: list[int], wearing: set[int], features: dict[int, np.ndarray]) -> None:
    """Fit, measure, and write the classifier."""
    (x, y), (x_test, y_test) = (
        (np.stack([features[row] for row in rows]), np.array([row in wearing for row in rows]))
        for rows in (train, test)
    )
    rows: list[dict[str, Any]] = []
    for c in STRENGTHS:
        odds = np.zeros(len(y))
        for kept, left in StratifiedKFold(5, shuffle=True, random_state=0).split(x, y):
            odds[left] = log_odds(*regression(x[kept], y[kept], c), x[left])
        rows.append({"C": str(c), "faces": "cross-validation", **measured(odds, y)})
    weights, bias = regression(x, y, CHOSEN)
    rows.append({"C": str(CHOSEN), "faces": "test", **measured(log_odds(weights, bias, x_test), y_test)})
    publish("glasses", rows, train=len(y), train_wearing=int(y.sum()), test=len(y_test), test_wearing=int(y_test.sum()))
    tensors = {"weights": torch.from_numpy(weights).float(), "bias": torch.tensor(bias)}
    save_tensors(WEIGHTS, tensors, {"kind": "glasses", "train": len(y), "test": rows[-1]})


def regression(x: np.ndarray, y: np.ndarray, c: float) -> tuple[np.ndarray, float]:
    """Weights [k] and bias of a logistic regression on features [n, 2, k], both mirrorings of each face."""
    model = LogisticRegression(C=c, class_weight="balanced", max_iter=3000)
    model.fit(x.reshape(-1, x.shape[2]), np.repeat(y, 2))
    return model.coef_[0], float(model.intercept_[0])


def log_odds(weights: np.ndarray, bias: float, x: np.ndarray) -> np.ndarray:
    odds: np.ndarray = (x @ weights).mean(1) + bias
    return odds


def measured(odds: np.ndarray, y: np.ndarray) -> dict[str, float]:
    return {
        "accuracy": float(((odds > 0) == y).mean()),
        "found": float((odds[y] > 0).mean()),
        "false": float((odds[~y] > 0).mean()),
        "auc": float(roc_auc_score(y, odds)),
    }


if __name__ == "__main__":
    main()
