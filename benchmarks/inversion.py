"""Invert the astronaut and ten generated faces far from the mean; print distances, identity, time, and what edits do.

    python benchmarks/inversion.py                                     # the default method, without a time limit
    python benchmarks/inversion.py --time-limit 60 --name inversion_60 --keep kept/60 --edits
    python benchmarks/inversion.py --method optimize --faces astronaut --set face_weight=0 --name no_face_weight

``spread`` is the root mean square distance of the layers' codes from their mean, in standard deviations of w: edits
work best near 0. ``pieces`` is the mean LPIPS (AlexNet) of nine 256 px pieces of the 1024 px picture around the face.
``mirrored`` is the identity distance of the mirrored pictures, which no loss has seen.

``--edits`` pushes smile, age and yaw from -2 to +2 and compares the change of their scores with that of the same
generated faces at the codes that they were drawn from.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import publish
from PIL import Image
from torch import Tensor

from facelatent.assets import asset_path
from facelatent.boundaries import SCORERS, load_boundary, score_faces
from facelatent.editing import AttributeEdit, draw
from facelatent.images import open_image, save_image, to_tensor
from facelatent.inversion import (
    METHODS,
    OptimizeSettings,
    TuneSettings,
    aligned_crop,
    identity_distance,
    invert,
    load_encoder,
    lpips,
)
from facelatent.latent import Latent
from facelatent.render import grid
from facelatent.stylegan_ops import Generator, load_generator

#: Seeds drawn at psi 1, chosen by looking: beard, glasses, children, hats, scarves, a profile, odd colours.
SEEDS = {
    "bearded": 300_000,
    "child in a cap": 300_003,
    "golden": 300_014,
    "dyed hair": 300_018,
    "turned, glasses": 300_036,
    "headscarf": 300_038,
    "hood": 300_045,
    "profile": 300_049,
    "hat and glasses": 300_053,
    "sunglasses": 300_068,
}
#: Attribute -> the score that it is meant to change.
SCORES = {"smile": "happy", "age": "age", "yaw": "yaw"}
STRENGTH = 2.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--faces", nargs="*", default=["astronaut", *SEEDS], help="astronaut, or names of SEEDS")
    parser.add_argument("--method", choices=METHODS)
    parser.add_argument("--encoder", type=Path)
    parser.add_argument("--time-limit", type=float)
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="of the optimisation")
    parser.add_argument("--set-tune", action="append", default=[], metavar="NAME=VALUE", help="of the tuning")
    parser.add_argument("--name", default="inversion", help="of the result file")
    parser.add_argument("--keep", type=Path, help="folder where latents are kept; those that are there are not redone")
    parser.add_argument("--edits", action="store_true", help="also measure what edits do")
    parser.add_argument("--sheet", type=Path, help="also write originals and reconstructions side by side")
    options = parser.parse_args()
    generator = load_generator()
    recipe: dict[str, Any] = {
        "method": options.method,
        "settings": replace(OptimizeSettings(), **changes)
        if (changes := _changes(OptimizeSettings, options.set))
        else None,
        "tune_settings": replace(TuneSettings(), **_changes(TuneSettings, options.set_tune)),
        "encoder": load_encoder(options.encoder) if options.encoder else None,
        "time_limit": options.time_limit,
    }
    crops = {name: face(name, generator) for name in options.faces}
    latents = {name: found(name, crop, generator, recipe, options.keep) for name, crop in crops.items()}
    rows = [measured(name, crops[name], latents[name], generator) for name in crops]
    pictures = [[crops[name], draw(latent.generator_for(generator), latent.ws)[0]] for name, latent in latents.items()]
    if options.sheet:
        save_image(grid(pictures, [["photo", "found"]] * len(pictures), 512), options.sheet)
    facts = {key: str(value) for key, value in recipe.items()}
    if options.edits:
        facts["edits"] = edited(latents, generator)
    publish(options.name, rows, **facts, resolution="metrics at 256 px; pieces at 1024 px")


def _changes(settings: type, texts: list[str]) -> dict[str, Any]:
    kinds = {field.name: type(getattr(settings(), field.name)) for field in fields(settings)}
    return {name: kinds[name](float(value)) for name, value in (text.split("=") for text in texts)}


def face(name: str, generator: Generator) -> Image.Image:
    """The aligned crop."""
    if name == "astronaut":
        return aligned_crop(open_image(asset_path("astronaut")), generator.resolution).image
    with torch.no_grad():
        return draw(generator, generator.broadcast(generator.sample_w(SEEDS[name])))[0]


def found(name: str, crop: Image.Image, generator: Generator, recipe: dict[str, Any], keep: Path | None) -> Latent:
    """The latent of a crop; the seconds that it took are among its metrics."""
    path = None if keep is None else keep / f"{name.replace(' ', '-')}.latent.safetensors"
    if path is not None and path.exists():
        return Latent.load(path)
    began = time.perf_counter()
    latent = invert(crop, generator, aligned=True, **recipe)
    latent = replace(latent, metrics={**latent.metrics, "seconds": time.perf_counter() - began})
    if path is not None:
        latent.save(path)
    print(name, latent.metrics, flush=True)
    return latent


@torch.no_grad()
def measured(name: str, crop: Image.Image, latent: Latent, generator: Generator) -> dict[str, Any]:
    """One row of the table."""
    drawing = latent.generator_for(generator)
    picture, target = drawing.synthesis(latent.ws).clamp(-1, 1), to_tensor(crop)
    small = [torch.nn.functional.avg_pool2d(images, images.shape[-1] // 256) for images in (target, picture)]
    v = (latent.ws - generator.w_avg) @ generator.w_components.T / generator.w_scales
    metrics = dict(latent.metrics)
    seconds = metrics.pop("seconds", float("nan"))
    return {
        "face": name,
        "psnr": metrics["psnr"],
        "lpips_alex": metrics["lpips_alex"],
        "lpips_vgg": metrics["lpips_vgg"],
        "pieces": float(lpips(pieces(picture), pieces(target)).mean()),
        "identity": metrics.get("identity", float("nan")),
        "mirrored": identity_distance(*(images.flip(3) for images in small)) or float("nan"),
        "spread": float((v - v.mean(1, keepdim=True)).square().mean().sqrt()),
        "MB": 0.0 if latent.delta is None else latent.delta.bytes / 1e6,
        "seconds": seconds,
    }


def pieces(images: Tensor) -> Tensor:
    """Nine 256 px pieces [9, 3, 256, 256] of a picture [1, 3, 1024, 1024], around the face."""
    return torch.cat([images[..., y : y + 256, x : x + 256] for y in (256, 448, 640) for x in (256, 384, 512)])


@torch.no_grad()
def edited(latents: dict[str, Latent], generator: Generator) -> dict[str, Any]:
    """Change of each score from -STRENGTH to STRENGTH, of generated faces: own codes, found ones, these untuned.

    ``share`` is that of the found latents over that of their own codes, of the means over faces where both are known.
    """
    names = [name for name in latents if name in SEEDS]
    found = [latents[name] for name in names]
    cases = {
        "own": [(generator, generator.broadcast(generator.sample_w(SEEDS[name]))) for name in names],
        "untuned": [(generator, latent.ws) for latent in found],
        "found": [(latent.generator_for(generator), latent.ws) for latent in found],
    }
    result: dict[str, Any] = {}
    for attribute, score in SCORES.items():
        boundary = load_boundary(attribute, generator)
        scorers = tuple(scorer for scorer in SCORERS if score in scorer.attributes)
        changes = {}
        for case, faces in cases.items():
            ends = []
            for alpha in (-STRENGTH, STRENGTH):
                codes = [AttributeEdit(boundary, alpha).apply(ws, generator) for _, ws in faces]
                images = [one.synthesis(ws, resolution=256) for (one, _), ws in zip(faces, codes, strict=True)]
                ends.append(score_faces(torch.cat(images), scorers)[score])
            changes[case] = ends[1] - ends[0]
        known = np.isfinite(changes["own"]) & np.isfinite(changes["found"])
        share = float(changes["found"][known].mean() / changes["own"][known].mean())
        result[attribute] = {"share": share, **{case: values.round(3).tolist() for case, values in changes.items()}}
    return result


if __name__ == "__main__":
    main()
