"""How much else an edit changes: drift of other attributes at a fixed change of the wanted one.

    python benchmarks/edits.py --published directions.npz

Each attribute's boundary, on its default layers and on all layers, is pushed until it has changed its own score by the
target on average; then the mean absolute change of everything else is measured. Directions published elsewhere
(an npz with arrays [1, 512] or [18, 512] by attribute) are measured in the same run on the same faces.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch
from common import publish
from torch import Tensor

from facelatent.boundaries import SCORERS, edit_layers, load_boundary, locate_faces
from facelatent.faces import identity
from facelatent.images import to_arrays
from facelatent.stylegan_ops import Generator, load_generator

#: Attribute -> score that it is meant to change, the change to reach, and its name among published directions (sign).
TARGETS = {
    "smile": ("happy", 0.30, "smile", 1),
    "age": ("age", 20.0, "age", 1),
    "yaw": ("yaw", 0.25, "pose", -1),
    "gender": ("male", 0.30, "gender", 1),
}
SIDE = 256


@dataclass
class Measured:
    """Pictures [n, 3, 256, 256] of a batch of faces, their scores and identity embeddings (NaN without a face)."""

    images: Tensor
    scores: dict[str, np.ndarray]
    identities: np.ndarray


@torch.no_grad()
def measure(generator: Generator, ws: Tensor) -> Measured:
    images = torch.cat([generator.synthesis(part, resolution=SIDE) for part in torch.split(ws, 4)])
    faces = locate_faces(images)
    scores = {}
    for scorer in SCORERS:
        scores.update(scorer.score(images, faces))
    embeddings = [
        identity(array, face) if face else np.full(128, np.nan)
        for array, face in zip(to_arrays(images), faces, strict=True)
    ]
    return Measured(images, scores, np.stack(embeddings))


def push(
    generator: Generator, ws: Tensor, step: Tensor, layers: list[int], before: Measured, score: str, target: float
) -> tuple[float, float, Measured]:
    """The strength at which the mean score has changed by ``target`` (to 1.5 %), the change, and what is measured there.

    A negative target pushes backwards, and the strength is negative. Where the target is out of reach, the nearest
    strength up to 10 is returned.
    """
    sign, goal = (1.0, target) if target > 0 else (-1.0, -target)
    low, low_gain, high = 0.0, 0.0, float("inf")
    strength, tried = 1.2, []
    for _ in range(9):
        moved = ws.clone()
        moved[:, layers] += sign * strength * step
        after = measure(generator, moved)
        gain = sign * float(np.nanmean(after.scores[score] - before.scores[score]))
        tried.append((abs(gain - goal), strength, gain, after))
        if abs(gain - goal) < 0.015 * goal or (gain < goal and strength >= 10):
            break
        if gain < goal:
            low, low_gain = strength, gain
            # Follow the slope so far, but never more than double, and stay inside the bracket.
            following = min(strength * min(goal / max(gain, 1e-6), 2.0), 10.0)
            strength = following if high == float("inf") else (low + high) / 2
        else:
            high = strength
            strength = low + (high - low) * min(max((goal - low_gain) / (gain - low_gain), 0.15), 0.85)
    _, strength, gain, after = min(tried, key=lambda one: one[0])
    return sign * strength, sign * gain, after


def drift(before: Measured, after: Measured) -> dict[str, float]:
    """Mean absolute change of each score that people would mind, and the mean identity distance."""
    changes = {
        name: float(np.nanmean(np.abs(after.scores[score] - before.scores[score])))
        for name, score in (
            ("age", "age"),
            ("male", "male"),
            ("yaw", "yaw"),
            ("happy", "happy"),
            ("mouth", "mouth_open"),
        )
    }
    return {**changes, "identity": float(np.nanmean(np.linalg.norm(after.identities - before.identities, axis=1)))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", help="npz of directions published for StyleGAN2-FFHQ")
    parser.add_argument("--faces", type=int, default=20)
    parser.add_argument("--first-seed", type=int, default=100_000)
    parser.add_argument("--attributes", nargs="*", default=["smile", "age", "yaw"])
    options = parser.parse_args()
    generator = load_generator()
    seeds = range(options.first_seed, options.first_seed + options.faces)
    with torch.no_grad():
        ws = torch.cat([generator.broadcast(generator.sample_w(seed, 0.7)) for seed in seeds])
    before = measure(generator, ws)
    published = np.load(options.published) if options.published else {}
    rows = []
    for attribute in options.attributes:
        score, target, name, sign = TARGETS[attribute]
        boundary = load_boundary(attribute, generator)
        everything = list(range(generator.num_ws))
        step = boundary.normal * boundary.std
        directions = [
            ("ours, default layers", step, edit_layers(boundary, generator)),
            ("ours, all layers", step, everything),
        ]
        if name in published:
            directions.append(("published, all layers", sign * torch.from_numpy(published[name][0]), everything))
        for label, direction, layers in directions:
            strength, change, after = push(generator, ws, direction, layers, before, score, target)
            row = {"attribute": attribute, "direction": label, "strength": strength, "change": change}
            rows.append({**row, **drift(before, after)})
    publish("edits", rows, faces=f"{options.faces} at psi 0.7, seeds from {options.first_seed}", targets=str(TARGETS))


if __name__ == "__main__":
    main()
