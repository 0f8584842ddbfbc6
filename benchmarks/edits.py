"""How much else an edit changes, and which way of making one changes least.

    python benchmarks/edits.py --published directions.npz

On the same faces, none of them trained on, in one run: the direction published elsewhere (an npz with arrays [1, 512]
or [18, 512] by attribute), the plain normal on all layers, on the range of layers that served it best, with other
normals projected out, and the shipped combination. Each is pushed until it has changed its own score by the target on
average; then the mean absolute change of everything else is measured.

    python benchmarks/edits.py --published directions.npz --per-face

Smiles by strengths of each face's own, as 'edit --to' finds them: a face that smiles already is left as it is.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import publish
from tqdm import tqdm
from train_boundaries import ATTRIBUTES

from facelatent.boundaries import Boundary, Goal, edit, load_boundary, reach
from facelatent.boundaries.edits import held
from facelatent.boundaries.measures import IDENTITY, measure_faces
from facelatent.evaluation.directions import (
    TARGETS,
    Direction,
    evaluate_directions,
    own_direction,
    published_directions,
)
from facelatent.stylegan_ops import Generator, load_generator

#: Layers that kept most else as it was, of eight ranges on eight faces, for the plain normal.
RANGES = {"smile": (8, 32), "age": (16, 128), "yaw": (4, 64)}
#: Of the first face. These 40 smile less (mean P(happy) .60) than those of 'evaluate edits' (.69), of which +.30 would
#: need every single one to laugh.
FIRST_SEED = 100_000
#: P(happy) of faces that are taken to smile; bringing the others there changes the mean by about 0.3.
SMILING = 0.85
COLUMNS = ("age", "male", "yaw", "happy", "mouth_open", IDENTITY)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--published", type=Path, help="npz of directions published for StyleGAN2-FFHQ")
    parser.add_argument("--also", action="append", default=[], help="one more boundary file, several times")
    parser.add_argument("--faces", type=int, default=40)
    parser.add_argument("--attributes", nargs="*", default=["smile", "age", "yaw"])
    parser.add_argument("--name", default="edits", help="of the results")
    parser.add_argument("--per-face", action="store_true", help="smiles by strengths of each face's own")
    options = parser.parse_args()
    generator = load_generator()
    if options.per_face:
        per_face(generator, options.published, options.faces)
        return
    directions, cosines = [], {}
    for name in options.attributes:
        directions += [Direction(f"{name}: {label}", made, made.score) for label, made in variants(name, generator)]
        if options.published:
            found = published_directions(options.published, generator, [ATTRIBUTES[name].score])
            directions += [replace(one, label=f"{name}: published, {options.published.stem}") for one in found]
            own = load_boundary(name, generator).normal
            cosines[name] = [round(float(own @ one.boundary.normal), 3) for one in found]
    for file in options.also:
        one = own_direction(file, generator)
        directions.append(replace(one, label=f"{one.label}: {Path(file).name.split('.')[0]}"))
    results = evaluate_directions(
        generator, directions, measure_faces, options.faces, first_seed=FIRST_SEED, progress=True
    )
    rows: list[dict[str, Any]] = []
    for result in results:
        moved = result.matched
        row = {"direction": result.label, "strength": moved.strength, "change": moved.change}
        drift = {name: moved.drift[name] for name in COLUMNS}
        rows.append({**row, **drift, "AD": moved.dependency, "success": moved.success, "rises": result.monotonicity})
    facts = {"cosines of the normals with the published": cosines}
    publish(options.name, rows, **facts, faces=f"{options.faces} at psi 0.7, seeds from {FIRST_SEED}", targets=TARGETS)


@torch.no_grad()
def per_face(generator: Generator, published: Path, faces: int) -> None:
    """Every face to the same P(happy), by each direction; the shipped one also holding others by counter-edits."""
    smile = load_boundary("smile", generator)
    (other,) = published_directions(published, generator, ["happy"])
    other_smile = replace(other.boundary, report={"score": "happy"})
    holds = [Goal(load_boundary(name, generator)) for name in ("age", "yaw")]
    ways: dict[str, tuple[Boundary, list[Goal]]] = {
        f"published, {published.stem}": (other_smile, []),
        "shipped combination": (smile, []),
        "shipped combination, holding age and yaw": (smile, holds),
    }
    rows: list[dict[str, Any]] = []
    for label, (boundary, held_too) in ways.items():
        before, after = [], []
        for index in tqdm(range(faces), desc=label):
            ws = generator.broadcast(generator.sample_w(FIRST_SEED + index, 0.7))
            before.append(measure_faces(generator.synthesis(ws, resolution=256)))
            after.append(before[-1])
            if before[-1]["happy"][0] < SMILING:
                goals = [Goal(boundary, SMILING), *held_too]
                for goal, alpha in zip(goals, reach(generator, ws, goals, measure_faces).alphas, strict=True):
                    ws = edit(ws, goal.boundary, alpha)
                after[-1] = measure_faces(generator.synthesis(ws, resolution=256))
        change = {
            name: np.concatenate([b[name] - a[name] for a, b in zip(before, after, strict=True)]) for name in COLUMNS
        }
        drift = {name: float(np.abs(values).mean()) for name, values in change.items() if values.ndim == 1}
        identity = float(np.linalg.norm(change[IDENTITY], axis=1).mean())
        rows.append({"edit": label, "change": float(change["happy"].mean()), **drift, IDENTITY: identity})
    publish("edits_per_face", rows, faces=f"{faces} at psi 0.7, seeds from {FIRST_SEED}", target=f"P(happy) {SMILING}")


def variants(name: str, generator: Generator) -> Iterator[tuple[str, Boundary]]:
    """Ways to edit an attribute, by what they are called."""
    shipped = load_boundary(name, generator)
    plain = replace(shipped, steps=None, layer_resolutions=(), styles={})
    yield "plain normal, all layers", plain
    yield f"plain normal, {RANGES[name][0]}-{RANGES[name][1]} px", replace(plain, resolutions=RANGES[name])
    others = [load_boundary(other, generator) for other in ("age", "gender", "yaw", "smile") if other != name]
    projected = held(plain, others)
    yield "others projected out", replace(projected, std=generator.std_along(projected.normal))
    yield "shipped combination", shipped


if __name__ == "__main__":
    main()
