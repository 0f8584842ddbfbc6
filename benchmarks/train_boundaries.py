"""Make the boundaries that facelatent ships for its default generator.

    facelatent attributes sample --n 24000 -o codes                       # draw and score; resumable
    facelatent attributes sample --n 14000 --mixed -o mixed               # the same, groups of layers differing
    python benchmarks/train_boundaries.py --codes codes --mixed mixed --probes probes

A linear SVM is fitted between the top and bottom fifth of each score. What each group of layers does to each score, and
to a few more, is fitted to the mixed codes; these slopes are candidate edits, drawn and measured on the same faces
(resumable; with RANK and WORLD_SIZE set, a process measures its share of the faces). Each attribute then gets the
combination that changes its score as its plain normal does and what is held least, at such a length that a strength of
1 changes the score by 0.8 of its standard deviations over faces (gender by 0.5: at more, faces fall apart). Writes
facelatent/boundaries/library/*.boundary.safetensors; accuracies go to results/boundaries.json, those for other
regularisation strengths of the SVM to results/boundaries_c.json, what is to be expected of the combinations to
results/boundaries_drift.json.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from common import publish
from torch import Tensor

import facelatent.boundaries
from facelatent.boundaries import Boundary, ScoredCodes, fit_boundary
from facelatent.boundaries.boundary import SUFFIX
from facelatent.boundaries.codes import read_codes
from facelatent.boundaries.disentangle import (
    EVERYWHERE,
    Probes,
    disentangle,
    layer_candidates,
    probe,
    probe_faces,
)
from facelatent.boundaries.measures import Measures, measure_faces
from facelatent.boundaries.mixed import fit_mixed, mixed_candidates
from facelatent.boundaries.training import TrainSettings, plain_boundary
from facelatent.processes import Share
from facelatent.stylegan_ops import Generator, load_generator


@dataclass(frozen=True)
class Recipe:
    """What a boundary is fitted to, and what its edit should leave alone."""

    score: str
    scorer: str
    plus: str
    hold: tuple[str, ...]
    measured: str = ""  # instead of the score, what the combination changes
    unit: float = 0.8  # of the score's standard deviations over faces, what a strength of 1 changes


EMOTION, LANDMARKS = "emotion (fer, mini-Xception)", "geometry (dlib 68 landmarks)"
COLOUR = "colour (patches by landmarks)"
PERSON = ("age", "male", "glasses", "skin_lightness")
POSE = ("yaw", "pitch")
EXPRESSION = ("smile_curve", "mouth_width", "mouth_open", "eyes_open")
ATTRIBUTES = {
    "smile": Recipe("happy", EMOTION, "smiles", (*PERSON, *POSE)),
    "mouth_open": Recipe("mouth_open", LANDMARKS, "opens the mouth", (*PERSON, *POSE, "happy")),
    "surprise": Recipe("surprise", EMOTION, "looks surprised", (*PERSON, *POSE), "log_surprise"),
    "anger": Recipe("angry", EMOTION, "looks angry", (*PERSON, *POSE), "log_angry"),
    "sadness": Recipe("sad", EMOTION, "looks sad", (*PERSON, *POSE, "angry"), "log_sad"),
    "eyes_open": Recipe("eyes_open", LANDMARKS, "opens the eyes", (*PERSON, *POSE, "happy")),
    "age": Recipe("age", "age (dlib ONNX)", "looks older", ("male", "glasses", "skin_lightness", *POSE, "happy")),
    "gender": Recipe(
        "male",
        "gender (dlib ONNX)",
        "looks more masculine",
        ("age", "glasses", "skin_lightness", *POSE, "happy"),
        unit=0.5,
    ),
    "yaw": Recipe("yaw", LANDMARKS, "turns to the picture's right", (*PERSON, "pitch", "happy")),
    "pitch": Recipe("pitch", LANDMARKS, "looks down", (*PERSON, "yaw", "happy")),
    "hair_brightness": Recipe(
        "blondness", COLOUR, "lightens the hair, towards blond", (*PERSON, *POSE, "happy", "background_lightness")
    ),
    "skin_tone": Recipe(
        "skin_lightness",
        COLOUR,
        "lightens the skin",
        ("age", "male", "glasses", *POSE, "happy", "background_lightness"),
    ),
    "face_width": Recipe("face_width", LANDMARKS, "widens the face", (*PERSON, *POSE, "happy", *EXPRESSION)),
    "glasses": Recipe(
        "glasses",
        "glasses (our own)",
        "puts on glasses",
        ("age", "male", "skin_lightness", *POSE, "happy", "eyes_open"),
    ),
    "lighting": Recipe("light_from_right", COLOUR, "lights from the picture's right", (*PERSON, *POSE, "happy")),
}
#: Scores whose slopes are candidates, too: what they change, others leak.
HELPERS = ("mouth_width", "smile_curve", "lips", "brow_height", "exposure", "background_lightness")
RATIO = 0.2
STRENGTHS = (1e-4, 1e-3, 1e-2, 1e-1)
PSI = 0.8
#: How far a candidate is pushed: a landmark's noise is a tenth of what most then change.
PROBED = 1.5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--codes", type=Path, required=True, help="scored codes")
    parser.add_argument("--mixed", type=Path, required=True, help="scored codes of 'sample --mixed'")
    parser.add_argument("--probes", type=Path, required=True, help="where measured faces are kept")
    parser.add_argument("--faces", type=int, default=100, help="on which candidates are tried")
    options = parser.parse_args()
    generator = load_generator()
    codes = read_codes(options.codes).reliable()
    settings = TrainSettings(ratio=RATIO)
    fitted = {
        name: plain_boundary(name, recipe.score, codes, generator, settings) for name, recipe in ATTRIBUTES.items()
    }
    candidates = layer_candidates(list(fitted.values()), generator, (EVERYWHERE,))
    slopes, explained = sloping(read_codes(options.mixed).reliable(), fitted["smile"], generator)
    candidates += slopes
    share, folder = Share.from_environment(), options.probes
    mine = range(share.rank, options.faces, share.world)
    probe_faces(generator, candidates, folder, mine, measure, PROBED, progress=True)
    if share.world > 1:
        return
    probes = probe(generator, candidates, folder, options.faces, measure, PROBED)
    library = Path(facelatent.boundaries.__file__).parent / "library"
    accuracies, drifts = [], []
    for index, (name, recipe) in enumerate(ATTRIBUTES.items()):
        target = recipe.measured or recipe.score
        plain = np.array([float(one is candidates[index]) for one in candidates])
        own = replace(fitted[name], report={**fitted[name].report, "score": target})
        made = disentangle(own, probes, recipe.hold, plain)
        made = in_units(made, probes, index, recipe.unit)
        report = {"scorer": recipe.scorer, "plus": recipe.plus, "space": "w+", "psi": PSI, "sample_seed": 0}
        report |= {**made.report, "score": recipe.score}
        replace(made, report=report).save(library / f"{name}{SUFFIX}")
        accuracies.append({"attribute": name, "std": made.std, **accuracy(made.report), **at_two_percent(name, codes)})
        found = report["disentangled"]
        row = {"attribute": name, "explained, mixed": explained[recipe.score], "faces": found["faces"]}
        drifts.append({**row, "relative drift": str(found["relative_drift"])})
    publish("boundaries", accuracies, samples=len(codes.ws), ratio=RATIO, psi=PSI)
    publish("boundaries_c", sweep(codes), samples=len(codes.ws), ratio=RATIO, psi=PSI)
    publish("boundaries_drift", drifts, candidates=len(candidates), probed=f"{PROBED} sd both ways")


def measure(images: Tensor) -> Measures:
    """All measures, and of rare expressions the logarithm too: most faces have next to nothing of them."""
    values = measure_faces(images)
    return values | {f"log_{name}": np.log(values[name] + 1e-4) for name in ("surprise", "angry", "sad")}


def in_units(made: Boundary, probes: Probes, index: int, unit: float) -> Boundary:
    """The combination, which changes its score as candidate ``index`` does, so long that it changes it by ``unit``."""
    changes = probes.changes[made.score][:, index]
    scale = unit * probes.spread[made.score] / float(changes[np.isfinite(changes)].mean())
    assert made.steps is not None
    return replace(made, steps=scale * made.steps)


def sloping(mixed: ScoredCodes, like: Boundary, generator: Generator) -> tuple[list[Boundary], dict[str, float]]:
    """What each group of layers does to each score, as candidates; the share of each score's variance explained."""
    candidates, explained = [], {}
    for score in (*(recipe.score for recipe in ATTRIBUTES.values()), *HELPERS):
        found = fit_mixed(mixed.ws, mixed.scores[score])
        candidates += mixed_candidates(replace(like, attribute=score), found.slopes, generator)
        explained[score] = found.explained
    return candidates, explained


def accuracy(report: dict[str, Any]) -> dict[str, float]:
    """Its accuracies: on what was trained on, on held-out extremes, between them, and the last two together."""
    return {name: report[f"accuracy_{name}"] for name in ("train", "held_out", "remaining", "all_held_out")}


def at_two_percent(name: str, codes: ScoredCodes) -> dict[str, float]:
    """Accuracies of a fit to the extreme 2 %, InterFaceGAN's share: on those held out, and between."""
    report = fit_boundary(codes.ws, codes.scores[ATTRIBUTES[name].score], ratio=0.02, bootstrap=0).report
    return {"2 % held_out": report["accuracy_held_out"], "2 % remaining": report["accuracy_remaining"]}


def sweep(codes: ScoredCodes) -> list[dict[str, Any]]:
    """Accuracies of every attribute at several regularisation strengths."""
    rows = []
    for attribute, recipe in ATTRIBUTES.items():
        for c in STRENGTHS:
            report = fit_boundary(codes.ws, codes.scores[recipe.score], ratio=RATIO, c=c, bootstrap=0).report
            rows.append({"attribute": attribute, "C": str(c), **accuracy(report)})
    return rows


if __name__ == "__main__":
    main()
