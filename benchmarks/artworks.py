"""Artworks of known origin, drawn from people that the default generator made up.

    python benchmarks/artworks.py art/        # art/woodblock.png, pastel and charcoal

Classical image processing, so that anybody may use and show them: a print of flat inks with dark key lines, dabs of
pastel laid along the forms on blue paper, charcoal and white chalk on brown paper. None is a
picture of anybody. `facelatent adapt` is tried on them where a museum's painting would need its permission.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFilter

from facelatent.images import save_image, to_images
from facelatent.stylegan_ops import DEFAULT_GENERATOR, Generator, load_generator

#: Side in pixels of the artworks.
SIDE = 512
#: Who sits: seeds at psi 0.7.
PRINT_SITTER, PASTEL_SITTER = 3008, 3024
CHARCOAL_SITTER = 3017
#: Inks of the print, from dark to light: indigo, brick, teal, ochre, skin, paper.
INKS = ((38, 44, 84), (150, 60, 48), (74, 128, 132), (206, 150, 82), (236, 196, 152), (246, 232, 204))
KEY, PAPER = (24, 26, 44), (74, 96, 138)
#: Pastel from coarse to fine: dabs, their length and width in pixels, least misfit that is painted over.
LAYERS = ((8000, 40, 14, 0), (12000, 22, 7, 8), (40000, 12, 3, 11))


def sitter(generator: Generator, seed: int) -> Image.Image:
    """A person who does not exist, at twice the artworks' side."""
    with torch.no_grad():
        code = generator.broadcast(generator.sample_w(seed, 0.7)).contiguous()
        return to_images(generator.synthesis(code))[0].resize((2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS)


def woodblock(image: Image.Image) -> Image.Image:
    """Six flat inks by tone and hue, and key lines where a difference of Gaussians is dark."""
    smooth = image.filter(ImageFilter.GaussianBlur(3))
    for _ in range(3):
        smooth = smooth.filter(ImageFilter.MedianFilter(9))
    colours = np.asarray(smooth, np.float32)
    inks = np.asarray(INKS, np.float32)
    light = colours.mean(2, keepdims=True)
    apart = np.stack([_unlikeness(colours, light, ink) for ink in inks])
    flat = Image.fromarray(inks[apart.argmin(0)].astype(np.uint8)).filter(ImageFilter.ModeFilter(13))
    grey = image.convert("L")
    fine, coarse = (np.asarray(grey.filter(ImageFilter.GaussianBlur(sigma)), np.float32) for sigma in (3, 5))
    lines = np.clip((coarse - fine - 4) / 3, 0, 1)[..., None]
    printed = np.asarray(flat, np.float32) * (1 - lines) + np.asarray(KEY, np.float32) * lines
    return Image.fromarray(printed.astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _unlikeness(colours: np.ndarray, light: np.ndarray, ink: np.ndarray) -> np.ndarray:
    """How badly an ink [3] stands for colours [h, w, 3]: by lightness [h, w, 1], and less by hue."""
    hue = (colours - light) - (ink - ink.mean())
    found: np.ndarray = np.abs(light[..., 0] - ink.mean()) + 0.5 * np.linalg.norm(hue, axis=2)
    return found


def pastel(image: Image.Image, seed: int = 0) -> Image.Image:
    """Dabs along the forms, coarse ones first; finer ones only where the picture is not yet met."""
    random = np.random.default_rng(seed)
    wanted = _chalk(np.asarray(image.filter(ImageFilter.GaussianBlur(2)), np.float32))
    angles = _along(np.asarray(image.convert("L").filter(ImageFilter.GaussianBlur(4)), np.float32))
    canvas = Image.new("RGB", image.size, PAPER)
    for count, length, width, misfit in LAYERS:
        painted = np.asarray(canvas, np.float32)
        pen = ImageDraw.Draw(canvas)
        for x, y in random.integers(0, image.width, (count, 2)):
            if np.abs(painted[y, x] - wanted[y, x]).mean() < misfit:
                continue
            angle = angles[y, x] + random.normal(0, 0.15)
            across, down = 0.5 * length * np.cos(angle), 0.5 * length * np.sin(angle)
            colour = tuple(int(value) for value in np.clip(wanted[y, x] + random.normal(0, 14, 3), 0, 255))
            pen.line((x - across, y - down, x + across, y + down), fill=colour, width=width)
    return canvas.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def _chalk(colours: np.ndarray) -> np.ndarray:
    """Colours as sticks of chalk have them: stronger, shadows towards violet, lights towards cream."""
    light = colours.mean(2, keepdims=True)
    strong = light + 2.0 * (colours - light)
    share = np.clip(light / 255, 0, 1)
    violet, cream = np.asarray((70, 40, 120), np.float32), np.asarray((255, 236, 190), np.float32)
    tinted = strong * 0.75 + 0.25 * (violet * (1 - share) + cream * share)
    return np.clip(tinted * 0.9 + 22, 0, 255)


def _along(grey: np.ndarray) -> np.ndarray:
    """The direction of forms [h, w], in radians: across the mean gradient around each place."""
    down, across = np.gradient(grey)
    products = [across * across - down * down, 2 * across * down]
    mean = [np.asarray(Image.fromarray(one).resize((64, 64), Image.Resampling.BOX)) for one in products]
    wide = [np.asarray(Image.fromarray(one).resize(grey.shape[::-1], Image.Resampling.BILINEAR)) for one in mean]
    found: np.ndarray = 0.5 * np.arctan2(wide[1], wide[0]) + np.pi / 2
    return found


def charcoal(image: Image.Image, seed: int = 0) -> Image.Image:
    """Smudged charcoal for the shadows and white chalk for the lights, on brown paper with a grain."""
    grey = _stretched(image.filter(ImageFilter.GaussianBlur(3)))
    fine, coarse = (_stretched(image.filter(ImageFilter.GaussianBlur(sigma))) for sigma in (2, 7))
    grain = _mottling(image.width, (1, 3), seed)
    paper = np.asarray((176, 148, 112), np.float32) * (1 + 0.08 * grain[..., None])
    dark = np.clip((0.5 - grey) * 2.4 + 6 * np.clip(coarse - fine, 0, 1) + 0.12 * grain, 0, 0.96)[..., None]
    light = np.clip((grey - 0.68) * 2.6 + 0.15 * grain, 0, 0.9)[..., None]
    drawn = paper * (1 - dark) + np.asarray((32, 28, 28), np.float32) * dark
    return _finished(drawn * (1 - light) + np.asarray((246, 240, 226), np.float32) * light)


def _stretched(image: Image.Image) -> np.ndarray:
    """Lightness [h, w] from 0 to 1, the darkest and the lightest hundredth cut."""
    grey = np.asarray(image.convert("L"), np.float32)
    low, high = np.percentile(grey, (1, 99))
    stretched: np.ndarray = np.clip((grey - low) / max(high - low, 1), 0, 1)
    return stretched


def _mottling(side: int, sizes: tuple[int, ...], seed: int) -> np.ndarray:
    """Smooth noise [side, side] of deviation 1: a sum of blurred noises of these sizes in pixels."""
    random = np.random.default_rng(seed)
    total = np.zeros((side, side), np.float32)
    for size in sizes:
        small = random.normal(size=(side // size + 2,) * 2).astype(np.float32)
        total += np.asarray(Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC))
    mottled: np.ndarray = (total - total.mean()) / total.std()
    return mottled


def _finished(colours: np.ndarray) -> Image.Image:
    """Colours [h, w, 3] as a picture of :data:`SIDE` px."""
    whole = Image.fromarray(np.clip(colours, 0, 255).astype(np.uint8))
    return whole.resize((SIDE, SIDE), Image.Resampling.LANCZOS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    options = parser.parse_args()
    generator = load_generator(DEFAULT_GENERATOR)
    options.folder.mkdir(parents=True, exist_ok=True)
    made = {
        "woodblock": woodblock(sitter(generator, PRINT_SITTER)),
        "pastel": pastel(sitter(generator, PASTEL_SITTER)),
        "charcoal": charcoal(sitter(generator, CHARCOAL_SITTER)),
    }
    for name, picture in made.items():
        save_image(picture, options.folder / f"{name}.png")


if __name__ == "__main__":
    main()
