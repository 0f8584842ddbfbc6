"""The demo: a real photo inverted, smiling less and more, turned and aged."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from facelatent.assets import asset_path
from facelatent.boundaries import load_boundary, shipped_boundaries
from facelatent.clips import animation_frames
from facelatent.editing import AttributeEdit, draw, edit_strip
from facelatent.files import atomic_path
from facelatent.images import open_image, save_image
from facelatent.inversion import Recipe, aligned_crop
from facelatent.latent import SUFFIX
from facelatent.photo_latents import invert_photo, kept_latent
from facelatent.render import save_animation
from facelatent.stylegan_ops import Generator

#: Strengths of the strips, in standard deviations.
STRENGTHS = (-2.0, -1.0, 0.0, 1.0, 2.0)
#: The attribute of the GIF, and how far it goes either way.
ANIMATED, SWING = "smile", 3.0
_GIF_FRAMES = 48


def run_demo(
    generator: Generator,
    folder: Path,
    recipe: Recipe | None = None,
    report: Callable[[str], None] = lambda line: None,
    progress: bool = False,
) -> dict[str, Any]:
    """Invert the astronaut's portrait and write pictures into ``folder``. A latent of an earlier run there is reused.

    Writes ``aligned.png``, ``reconstruction.png``, ``astronaut.latent.safetensors``, ``strip-ATTRIBUTE.png`` for each
    shipped attribute, ``smile.gif``, and ``demo.json`` with what is returned: metrics, seconds and file names.

    Raises:
        AssetUnavailable: no network and an empty cache.
        UnwritableOutput: ``folder`` cannot be written.
    """
    began = time.perf_counter()
    boundaries = {name: load_boundary(name, generator) for name in shipped_boundaries()}
    photo = asset_path("astronaut", report)
    image = open_image(photo)
    save_image(aligned_crop(image, generator.resolution).image, folder / "aligned.png", note=None)
    inversion_began = time.perf_counter()
    kept = kept_latent(folder / f"astronaut{SUFFIX}", photo, generator, recipe or Recipe())
    latent = kept or invert_photo(photo, generator, recipe, progress=progress)
    inversion_seconds = time.perf_counter() - inversion_began
    latent.save(folder / f"astronaut{SUFFIX}")
    drawing = latent.generator_for(generator)
    save_image(draw(drawing, latent.ws)[0], folder / "reconstruction.png")
    written = ["aligned.png", "reconstruction.png", f"astronaut{SUFFIX}"]
    for attribute, boundary in boundaries.items():
        save_image(edit_strip(drawing, latent.ws, boundary, STRENGTHS), folder / f"strip-{attribute}.png")
        written.append(f"strip-{attribute}.png")
        report(f"wrote {folder / written[-1]}")
    ends = [[AttributeEdit(boundaries[ANIMATED], alpha)] for alpha in (-SWING, SWING)]
    frames = animation_frames(generator, latent, ends[0], ends[1], _GIF_FRAMES, progress=progress)
    save_animation(frames, folder / f"{ANIMATED}.gif")
    written.append(f"{ANIMATED}.gif")
    result = {
        "generator": generator.name,
        "fingerprint": generator.fingerprint,
        "metrics": latent.metrics,
        "inversion": latent.method,
        "inversion_reused": kept is not None,
        "seconds": {
            "inversion": round(inversion_seconds, 1),
            "all": round(time.perf_counter() - began, 1),
        },
        "files": written,
    }
    with atomic_path(folder / "demo.json") as temporary:
        temporary.write_text(json.dumps(result, indent=2) + "\n")
    return result
