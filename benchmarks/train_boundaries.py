"""Make the boundaries that facelatent ships for its default generator.

    python benchmarks/train_boundaries.py --folder codes --count 8000

Draws faces at psi 0.8, scores them (resumable), fits a linear SVM between the top and bottom fifth of each score, and
writes facelatent/boundaries/library/*.boundary.safetensors. Layer ranges come from benchmarks/layer_ranges.py, whose
results are read if they are there. Accuracies go to results/boundaries.json, those for other regularisation
strengths of the SVM to results/boundaries_c.json.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from common import RESULTS, publish

import facelatent.boundaries
from facelatent.boundaries import ScoredCodes, fit_boundary, sample_scores
from facelatent.boundaries.boundary import SUFFIX
from facelatent.stylegan_ops import load_generator

#: Attribute -> score that its boundary is fitted to, and the scorer that gives it.
ATTRIBUTES = {
    "smile": ("happy", "emotion (fer, mini-Xception)"),
    "age": ("age", "age (dlib ONNX)"),
    "gender": ("male", "gender (dlib ONNX)"),
    "yaw": ("yaw", "geometry (dlib 68 landmarks)"),
    "pitch": ("pitch", "geometry (dlib 68 landmarks)"),
    "mouth_open": ("mouth_open", "geometry (dlib 68 landmarks)"),
    "eyes_open": ("eyes_open", "geometry (dlib 68 landmarks)"),
}
RATIO = 0.2
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
PSI = 0.8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, required=True, help="where scored codes are kept")
    parser.add_argument("--count", type=int, default=8000)
    options = parser.parse_args()
    generator = load_generator()
    codes = sample_scores(generator, options.count, options.folder, psi=PSI, progress=True)
    ranges = {}
    if (RESULTS / "layer_ranges.json").exists():
        ranges = json.loads((RESULTS / "layer_ranges.json").read_text())["chosen"]
    library = Path(facelatent.boundaries.__file__).parent / "library"
    rows = []
    for attribute, (score, scorer) in ATTRIBUTES.items():
        fitted = fit_boundary(codes.ws, codes.scores[score], ratio=RATIO, attribute=attribute)
        boundary = replace(
            fitted,
            std=generator.std_along(fitted.normal),
            resolutions=tuple(ranges[attribute]) if attribute in ranges else None,
            generator=generator.name,
            fingerprint=generator.fingerprint,
            w_space=generator.w_space,
            report={"scorer": scorer, "score": score, "space": "w", "psi": PSI, "sample_seed": 0, **fitted.report},
        )
        boundary.save(library / f"{attribute}{SUFFIX}")
        accuracies = {
            name: fitted.report[f"accuracy_{name}"] for name in ("train", "held_out", "remaining", "all_held_out")
        }
        rows.append({"attribute": attribute, "std": boundary.std, "layers": str(boundary.resolutions), **accuracies})
    publish("boundaries", rows, samples=len(codes.ws), ratio=RATIO, psi=PSI)
    publish("boundaries_c", sweep(codes), samples=len(codes.ws), ratio=RATIO, psi=PSI)


def sweep(codes: ScoredCodes) -> list[dict[str, Any]]:
    """Accuracies of every attribute at several regularisation strengths."""
    rows = []
    for attribute, (score, _) in ATTRIBUTES.items():
        for c in STRENGTHS:
            report = fit_boundary(codes.ws, codes.scores[score], ratio=RATIO, c=c).report
            accuracies = {name: report[f"accuracy_{name}"] for name in ("train", "held_out", "all_held_out")}
            rows.append({"attribute": attribute, "C": str(c), **accuracies})
    return rows


if __name__ == "__main__":
    main()
