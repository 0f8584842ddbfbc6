"""Find, for each shipped boundary, the layers on which an edit leaves the rest of the picture most alone.

    python benchmarks/layer_ranges.py

Each candidate range of resolutions is pushed to the same change of the attribute's own score; then the drift of the
other scores, of identity, and of the background (mean absolute pixel difference outside the head) is measured, each
relative to the edit on all layers. The range with the least mean wins.
"""

from __future__ import annotations

import argparse

import torch
from common import publish
from edits import SIDE, Measured, drift, measure, push
from torch import Tensor
from train_boundaries import ATTRIBUTES

from facelatent.boundaries import load_boundary
from facelatent.stylegan_ops import Generator, load_generator

#: Change of the attribute's own score at which ranges are compared.
TARGETS = {
    "smile": 0.25,
    "age": 12.0,
    "gender": 0.3,
    "yaw": 0.15,
    "pitch": 0.06,
    "mouth_open": 0.06,
    "eyes_open": 0.05,
}
RANGES = ((4, 1024), (4, 128), (4, 64), (4, 32), (4, 16), (8, 64), (8, 32), (8, 16), (16, 32), (16, 64))
#: A change of an attribute's own score that counts as its own, not as drift.
OWN = {
    "smile": {"happy", "mouth"},
    "age": {"age"},
    "gender": {"male"},
    "yaw": {"yaw"},
    "mouth_open": {"mouth", "happy"},
}


@torch.no_grad()
def background_change(generator: Generator, before: Tensor, after: Tensor) -> float:
    """Mean absolute difference, in 8-bit levels, in the upper corners and sides: no part of a usual head is there."""
    a, b = (
        torch.cat([generator.synthesis(part, resolution=SIDE) for part in torch.split(ws, 4)]) for ws in (before, after)
    )
    difference = (a.clamp(-1, 1) - b.clamp(-1, 1)).abs().mean((0, 1)) * 127.5
    edge, top = SIDE // 10, SIDE // 2
    return float(torch.cat([difference[:top, :edge].flatten(), difference[:top, -edge:].flatten()]).mean())


def cost(row: dict[str, float], whole: dict[str, float], own: set[str]) -> float:
    """Mean of the drifts relative to those of the edit on all layers."""
    names = [name for name in whole if name not in own]
    return sum(row[name] / max(whole[name], 1e-6) for name in names) / len(names)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", type=int, default=12)
    parser.add_argument("--attributes", nargs="*", default=list(ATTRIBUTES))
    options = parser.parse_args()
    generator = load_generator()
    with torch.no_grad():
        seeds = range(200_000, 200_000 + options.faces)
        ws = torch.cat([generator.broadcast(generator.sample_w(seed, 0.7)) for seed in seeds])
    before: Measured = measure(generator, ws)
    rows, chosen = [], {}
    for attribute in options.attributes:
        boundary = load_boundary(attribute, generator)
        step = boundary.normal * boundary.std
        drifts: dict[tuple[int, int], dict[str, float]] = {}
        for first, last in RANGES:
            layers = generator.layers_between(first, last)
            score = ATTRIBUTES[attribute][0]
            strength, change, after = push(generator, ws, step, layers, before, score, TARGETS[attribute])
            reached = change > 0.9 * TARGETS[attribute]
            moved = ws.clone()
            moved[:, layers] += strength * step
            drifts[first, last] = {**drift(before, after), "background": background_change(generator, ws, moved)}
            total = cost(drifts[first, last], drifts[RANGES[0]], OWN.get(attribute, set())) if reached else float("inf")
            row = {"attribute": attribute, "layers": f"{first}-{last}", "strength": strength, "change": change}
            rows.append({**row, **drifts[first, last], "cost": total})
            print(rows[-1], flush=True)
        best = min((row for row in rows if row["attribute"] == attribute), key=lambda row: row["cost"])
        chosen[attribute] = [int(side) for side in best["layers"].split("-")]
    publish("layer_ranges", rows, faces=f"{options.faces} at psi 0.7", chosen=chosen)


if __name__ == "__main__":
    main()
