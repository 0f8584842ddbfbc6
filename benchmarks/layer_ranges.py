"""Find, for each shipped boundary, the layers on which an edit leaves the rest of the picture most alone.

    python benchmarks/layer_ranges.py

Each candidate range of resolutions is pushed up and down to the same change of the attribute's own score; then the
drift of the other scores, of identity, of the pixels beside the head and around the eyes (where glasses come and go),
and of the picture as a whole (LPIPS) is measured, each relative to the edit on all layers. The range with the least
mean wins.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from common import publish
from edits import SIDE, Measured, drift, measure, push
from torch import Tensor
from train_boundaries import ATTRIBUTES

from facelatent.boundaries import load_boundary
from facelatent.inversion import lpips
from facelatent.stylegan_ops import load_generator

#: Change of the attribute's own score, up and down, at which ranges are compared. Most faces smile already.
TARGETS = {
    "smile": (0.25, -0.4),
    "age": (12.0, -8.0),
    "gender": (0.3, -0.3),
    "yaw": (0.15, -0.15),
    "pitch": (0.06, -0.06),
    "mouth_open": (0.06, -0.05),
    "eyes_open": (0.05, -0.05),
}
RANGES = ((4, 1024), (4, 64), (4, 16), (8, 64), (8, 32), (16, 32), (16, 64), (16, 128))
#: Changes that are the attribute's own, not drift.
OWN = {
    "smile": {"happy", "mouth"},
    "age": {"age"},
    "gender": {"male"},
    "yaw": {"yaw", "eyes"},
    "pitch": {"eyes"},
    "mouth_open": {"mouth", "happy"},
    "eyes_open": {"eyes"},
}
#: What moves the whole head needs the coarsest layers: without them edits of 3 standard deviations tear faces, which no
#: score here notices (seen in strips).
WHOLE_HEAD = {"gender", "yaw", "pitch"}
#: Where an FFHQ-aligned head is not, and where its eyes are: rows and columns as shares of the side.
BESIDE = ((0.0, 0.5, 0.0, 0.1), (0.0, 0.5, 0.9, 1.0))
EYES = ((0.38, 0.56, 0.22, 0.78),)


@torch.no_grad()
def picture_change(before: Tensor, after: Tensor) -> dict[str, float]:
    """LPIPS of the whole, and the mean absolute difference in 8-bit levels beside the head and around the eyes."""
    difference = (before.clamp(-1, 1) - after.clamp(-1, 1)).abs().mean((0, 1)) * 127.5

    def mean(boxes: tuple[tuple[float, float, float, float], ...]) -> float:
        parts = [
            difference[round(a * SIDE) : round(b * SIDE), round(c * SIDE) : round(d * SIDE)] for a, b, c, d in boxes
        ]
        return float(torch.cat([part.flatten() for part in parts]).mean())

    return {"beside": mean(BESIDE), "eyes": mean(EYES), "lpips": float(lpips(before, after, "alex").mean())}


def choose(rows: list[dict[str, Any]]) -> dict[str, list[int]]:
    """For each attribute, the admitted range of least cost."""
    chosen = {}
    for attribute in dict.fromkeys(row["attribute"] for row in rows):
        own = [row for row in rows if row["attribute"] == attribute]
        admitted = [row for row in own if attribute not in WHOLE_HEAD or row["layers"].startswith("4-")]
        best = min(admitted, key=lambda row: row["cost"])
        chosen[attribute] = [int(side) for side in best["layers"].split("-")]
    return chosen


def cost(row: dict[str, float], whole: dict[str, float], own: set[str]) -> float:
    """Mean of the drifts relative to those of the edit on all layers."""
    names = [name for name in whole if name not in own]
    return sum(row[name] / max(whole[name], 1e-6) for name in names) / len(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=8)
    parser.add_argument("--attributes", nargs="*", default=list(ATTRIBUTES))
    options = parser.parse_args()
    generator = load_generator()
    with torch.no_grad():
        seeds = range(200_000, 200_000 + options.faces)
        ws = torch.cat([generator.broadcast(generator.sample_w(seed, 0.7)) for seed in seeds])
    before: Measured = measure(generator, ws)
    rows: list[dict[str, Any]] = []
    for attribute in options.attributes:
        boundary = load_boundary(attribute, generator)
        step = boundary.normal * boundary.std
        drifts: dict[tuple[int, int], dict[str, float]] = {}
        for first, last in RANGES:
            layers = generator.layers_between(first, last)
            score = ATTRIBUTES[attribute][0]
            both, strengths, reached = [], [], True
            for target in TARGETS[attribute]:
                strength, change, after = push(generator, ws, step, layers, before, score, target)
                both.append({**drift(before, after), **picture_change(before.images, after.images)})
                strengths.append(round(strength, 2))
                reached = reached and change / target > 0.9
            drifts[first, last] = {name: (both[0][name] + both[1][name]) / 2 for name in both[0]}
            total = cost(drifts[first, last], drifts[RANGES[0]], OWN[attribute]) if reached else float("inf")
            row = {"attribute": attribute, "layers": f"{first}-{last}", "strengths": str(strengths)}
            rows.append({**row, **drifts[first, last], "cost": total})
            print(rows[-1]["attribute"], rows[-1]["layers"], round(total, 3), flush=True)
    publish("layer_ranges", rows, faces=f"{options.faces} at psi 0.7", chosen=choose(rows))


if __name__ == "__main__":
    main()
