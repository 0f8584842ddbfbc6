"""GIFs: how large a clip is and how long it takes, drawn and written, and what its colours lose.

    python benchmarks/animation.py --latent me.latent.safetensors

Clips are 48 frames there and back at 512 px, the default of ``facelatent animate``. In both rows a pixel whose colour
of the palette is as in the frame before is transparent; "as written" also keeps those that hardly differ. Errors are
RMS in 8-bit levels: of single pixels, and of blocks of 8 x 8, in which the dither is gone. "flicker" is how much blocks
change from frame to frame beyond what they do in the frames that were given. The bars are 20 s and 6 MB.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import publish
from PIL import Image

from facelatent.boundaries import load_boundary
from facelatent.clips import Scene, timeline_frames
from facelatent.editing import AttributeEdit
from facelatent.latent import Latent
from facelatent.render import Key, Timeline, animation, save_animation
from facelatent.stylegan_ops import DEFAULT_GENERATOR, load_generator

_BARS = {"seconds": 20, "MB": 6}
_CLIPS = {"smile": 3.0, "yaw": 2.0}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--latent", type=Path, help="a face; a generated one if left out")
    parser.add_argument("--save", type=Path, help="folder to keep the GIFs in")
    parser.add_argument("--clips", nargs="+", default=list(_CLIPS), choices=_CLIPS)
    chosen = parser.parse_args()
    generator = load_generator(DEFAULT_GENERATOR, "cpu")
    if chosen.latent:
        latent = Latent.load(chosen.latent)
    else:
        with torch.no_grad():
            latent = Latent(generator.broadcast(generator.sample_w(1, 0.7)), generator.name, generator.fingerprint)
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in chosen.clips:
            rows += measured(latent, generator, name, chosen.save or Path(folder))
    publish("animation", rows, bars=_BARS)


def measured(latent: Latent, generator: Any, name: str, folder: Path) -> list[dict[str, Any]]:
    edit = AttributeEdit(load_boundary(name, generator), 0.0)
    line = Timeline((Key(0, {name: -_CLIPS[name]}), Key(1, {name: _CLIPS[name]})))
    began, worked = time.perf_counter(), time.process_time()
    frames = timeline_frames(Scene(generator, (latent,), {name: edit}), line, line.places(48, "back"))
    drawn = time.perf_counter() - began, time.process_time() - worked
    rows = []
    for how, kept_within in (("equal pixels kept", -1), ("as written", animation._KEPT_WITHIN)):
        rows.append({"clip": name, "GIF": how, **written(frames, folder / f"{name}-{how}.gif", kept_within, drawn)})
    return rows


def written(
    frames: list[Image.Image], file: Path, kept_within: int, drawn: tuple[float, float]
) -> dict[str, float | bool]:
    kept = animation._KEPT_WITHIN
    animation._KEPT_WITHIN = kept_within
    began, worked = time.perf_counter(), time.process_time()
    clip = save_animation(frames, file)
    seconds = time.perf_counter() - began, time.process_time() - worked
    animation._KEPT_WITHIN = kept
    given = np.stack([np.asarray(frame, np.float32) for frame in frames])
    shown = np.stack(read(file)).astype(np.float32)
    blocks, wanted = (averaged(part) for part in (shown, given))
    return {
        "MB": clip.bytes / 1e6,
        "draw s": drawn[0],
        "write s": seconds[0],
        "CPU s": drawn[1] + seconds[1],
        "error": rms(shown - given),
        "error of blocks": rms(blocks - wanted),
        "flicker": rms(np.diff(blocks, axis=0) - np.diff(wanted, axis=0)),
        "under the bars": clip.bytes <= _BARS["MB"] * 1e6 and drawn[0] + seconds[0] <= _BARS["seconds"],
    }


def read(file: Path) -> list[np.ndarray]:
    frames = []
    with Image.open(file) as gif:
        for index in range(gif.n_frames):
            gif.seek(index)
            frames.append(np.asarray(gif.convert("RGB")))
    return frames


def averaged(pictures: np.ndarray) -> np.ndarray:
    count, height, width, _ = pictures.shape
    return pictures.reshape(count, height // 8, 8, width // 8, 8, 3).mean((2, 4))


def rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.square(values).mean()))


if __name__ == "__main__":
    main()
