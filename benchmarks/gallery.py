"""Draw the pictures of docs/attributes.md: a strip of every shipped attribute on two people, and a clip of them all.

    python benchmarks/gallery.py

Seeds are fixed; no training saw these faces.
"""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw, ImageFont
from tqdm import tqdm

from facelatent.boundaries import load_boundary, shipped_boundaries
from facelatent.clips import animation_frames
from facelatent.editing import AttributeEdit, draw, shift_of
from facelatent.latent import Latent
from facelatent.note import GENERATED
from facelatent.render import grid, save_animation
from facelatent.stylegan_ops import Generator, load_generator

FOLDER = Path(__file__).parent.parent / "docs" / "images" / "attributes"
SEEDS = (4_000_001, 4_000_003)
STRENGTHS = (-3.0, -1.5, 0.0, 1.5, 3.0)
SIDE = 160
#: The clip: who shows which attribute, chosen by eye (no hat where hair changes), and how far it goes.
PEOPLE = {
    "age": 3003,
    "anger": 3012,
    "eyes_open": 3007,
    "face_width": 3031,
    "gender": 3029,
    "glasses": 3016,
    "hair_brightness": 3000,
    "lighting": 3025,
    "mouth_open": 3026,
    "pitch": 3017,
    "sadness": 3015,
    "skin_tone": 3028,
    "smile": 3022,
    "surprise": 3020,
    "yaw": 3006,
}
SWING = 2.0
COLUMNS, CELL, LINE = 5, 144, 20
FRAMES, FPS = 20, 10


def write_strip(generator: Generator, name: str) -> None:
    """Two people at five strengths."""
    boundary = load_boundary(name, generator)
    rows = []
    for seed in SEEDS:
        edits = [AttributeEdit(boundary, alpha) for alpha in STRENGTHS]
        ws = Latent.sample(generator, seed).ws
        rows.append([draw(generator, one.apply(ws, generator), SIDE, shift_of([one]))[0] for one in edits])
    labels = [[""] * len(STRENGTHS), [f"{name} {alpha:+g}" if alpha else "unedited" for alpha in STRENGTHS]]
    sheet = grid(rows, labels, SIDE)
    sheet.save(FOLDER / f"{name}.jpg", quality=82)


def swinging(generator: Generator, name: str, seed: int) -> list[Image.Image]:
    """One person whose attribute goes there and back, with its name underneath."""
    boundary = load_boundary(name, generator)
    ends = [[AttributeEdit(boundary, alpha)] for alpha in (-SWING, SWING)]
    cells = []
    latent = Latent.sample(generator, seed)
    for frame in animation_frames(generator, latent, ends[0], ends[1], FRAMES, CELL):
        cell = Image.new("RGB", (CELL, CELL + LINE), "white")
        cell.paste(frame, (0, 0))
        middle = (CELL // 2, CELL + LINE // 2)
        ImageDraw.Draw(cell).text(middle, name, "#202020", ImageFont.load_default(13), anchor="mm")
        cells.append(cell)
    return cells


def write_clip(generator: Generator) -> None:
    """All attributes at once, each on a person of its own."""
    people = [swinging(generator, name, seed) for name, seed in tqdm(PEOPLE.items(), unit="person")]
    rows = -(-len(people) // COLUMNS)
    frames = []
    for cells in zip(*people, strict=True):
        frame = Image.new("RGB", (COLUMNS * CELL, rows * (CELL + LINE)), "white")
        for number, cell in enumerate(cells):
            frame.paste(cell, (number % COLUMNS * CELL, number // COLUMNS * (CELL + LINE)))
        frames.append(frame)
    save_animation(frames, FOLDER / "all.gif", FPS, note=GENERATED)


def main() -> None:
    generator = load_generator()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in tqdm(shipped_boundaries(), unit="attribute"):
        write_strip(generator, name)
    write_clip(generator)


if __name__ == "__main__":
    main()
