"""Load time, peak memory and speed of a full-size pSp / e4e file, and dlib's network in PyTorch against dlib.

    python benchmarks/encoders.py [--folder DIR] [--faces 10]

The encoder (267 M parameters) has random weights, in a file such as the public ones: time and memory do not depend on
them. "beyond disk" is the time of ``load_encoder`` less that of reading the file's bytes. The identity rows embed the
astronaut and generated faces at psi 0.8, by dlib and by the port.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import checkpoint_files as files
from checkpoints import CONFIG_F, in_own_process, peak_gigabytes
from common import publish, seconds_to_read

from facelatent.assets import asset_path
from facelatent.faces import find_faces, identity
from facelatent.images import open_image, to_arrays, to_tensor
from facelatent.inversion import DlibIdentity, aligned_crop, load_encoder
from facelatent.inversion.encoders import PspEncoder
from facelatent.inversion.identity import chip_frame
from facelatent.stylegan_ops import load_generator

REPEATS = 5


def write_bundle(path: Path) -> None:
    value = files.encoder_bundle(CONFIG_F)
    tensors = {key: tensor for key, tensor in value["state_dict"].items() if not key.startswith("encoder.")}
    tensors |= {f"encoder.{key}": tensor for key, tensor in PspEncoder(18).state_dict().items()}
    torch.save({**value, "state_dict": tensors}, path)


def seconds(work: Callable[[], Any]) -> float:
    """Median time of ``work``, after one run to warm up."""
    times = []
    for _ in range(REPEATS + 1):
        begin = time.perf_counter()
        work()
        times.append(time.perf_counter() - begin)
    return sorted(times[1:])[REPEATS // 2]


def measure(path: Path) -> dict[str, float]:
    """Load ``path`` and encode, in this process."""
    imported = peak_gigabytes()
    disk = seconds_to_read(path)
    begin = time.perf_counter()
    encoder = load_encoder(path, device="cpu")
    load = time.perf_counter() - begin
    loaded = peak_gigabytes()
    one, four = torch.zeros(1, 3, 256, 256), torch.zeros(4, 3, 256, 256)
    with torch.no_grad():
        row = {"encode_1_s": seconds(lambda: encoder.encode(one)), "encode_4_s": seconds(lambda: encoder.encode(four))}
        peak = peak_gigabytes()
        encoder.network.to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
        row["encode_1_contiguous_s"] = seconds(lambda: encoder.encode(one))
    return {
        "file_gb": path.stat().st_size / 2**30,
        "disk_s": disk,
        "beyond_disk_s": load - disk,
        "imported_gb": imported,
        "loaded_gb": loaded,
        "peak_gb": peak,
        **row,
    }


def identity_rows(count: int) -> list[dict[str, Any]]:
    """How far the port's embeddings are from dlib's own, and its time."""
    generator = load_generator(device="cpu")
    crop = aligned_crop(open_image(asset_path("astronaut")), 1024).image
    with torch.no_grad():
        faces = {"astronaut": to_tensor(crop)}
        for seed in range(count):
            faces[f"seed {seed}"] = generator.synthesis(generator.broadcast(generator.sample_w(seed, 0.8)))
    return [{"face": name, **_compared(image)} for name, image in faces.items()]


@torch.no_grad()
def _compared(image: Tensor) -> dict[str, float]:
    judge = DlibIdentity()
    row = {}
    for side in (256, 1024):
        # Rounded to 8 bits, as dlib needs it.
        pixels = to_arrays(F.interpolate(image, size=side, mode="area"))
        picture = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        face = find_faces(pixels[0])[0]
        wanted = torch.from_numpy(identity(pixels[0], face)).float()
        exact = judge.embed(picture, chip_frame(face, side, side)[None])[0]
        row[f"distance_{side}"] = float((exact - wanted).norm())
        row[f"average_frame_{side}"] = float((judge.embed(picture)[0] - wanted).norm())
    return row


def identity_speed() -> dict[str, float]:
    judge = DlibIdentity()
    row = {}
    for side in (256, 1024):
        image = torch.randn(1, 3, side, side).requires_grad_()
        with torch.no_grad():
            row[f"identity_{side}_forward_s"] = seconds(lambda image=image: judge.embed(image))
        row[f"identity_{side}_both_s"] = seconds(lambda image=image: judge.embed(image).square().sum().backward())
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write the file (1.2 GB)")
    parser.add_argument("--faces", type=int, default=10)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
        return
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        path = Path(folder) / "psp.pt"
        write_bundle(path)
        bundle = in_own_process("measure", path, __file__)
    rows = identity_rows(arguments.faces)
    means = {f"mean_{key}": float(np.mean([row[key] for row in rows])) for key in rows[0] if key != "face"}
    publish("encoders", rows, **bundle, **means, **identity_speed())


if __name__ == "__main__":
    main()
