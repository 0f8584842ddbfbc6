"""Load time and peak memory of a 1024 px StyleGAN2 (config-f, 30.37 M parameters) from every layout.

    python benchmarks/checkpoints.py [--folder DIR]

Weights are made by the tests' fill rule; files are written as the public codes write them, with the discriminators,
second generators and encoders that they carry. Each file is opened and drawn from in a process of its own. "beyond
disk" is the time of ``load_generator`` less that of reading the file's bytes. The baseline is what the file costs to
read with ``torch.load(weights_only=True)``, where that can read it at all, without building a generator.
"""

from __future__ import annotations

import argparse
import json
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
import checkpoint_files as files
from common import publish, seconds_to_read

from facelatent.stylegan_ops import StyleGAN2Config, channels_for, load_generator
from facelatent.stylegan_ops.checkpoints import convert

CONFIG_F = StyleGAN2Config(channels_for(1024))
#: Parameters of what the public files carry besides the generator that draws.
ENCODER, DISCRIMINATOR = 267_000_000, 29_012_513
MEMORY_BAR, TIME_BAR = 2.5, 5.0


def zeros(count: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.zeros(count)}


def writers() -> dict[str, Callable[[Path], Any]]:
    """Layout: how to write a file of it."""
    nvidia, average = files.nvidia_state(CONFIG_F), files.average(CONFIG_F)
    rosinality = files.rosinality_state(CONFIG_F)
    trained = {"g": rosinality, "d": zeros(DISCRIMINATOR), "g_ema": rosinality}

    def bundle() -> dict[str, Any]:
        value = files.encoder_bundle(CONFIG_F, namespace=True)
        return {**value, "state_dict": {**value["state_dict"], "encoder.all": torch.zeros(ENCODER)}}

    return {
        "nvidia .pkl (G, D, G_ema)": lambda p: p.write_bytes(files.nvidia_pickle(nvidia, discriminator=DISCRIMINATOR)),
        "nvidia TensorFlow .pkl": lambda p: p.write_bytes(files.tensorflow_pickle(nvidia)),
        "rosinality .pt (zip)": lambda p: torch.save({**trained, "latent_avg": average}, p),
        "rosinality .pt (stream)": lambda p: torch.save(
            {**trained, "latent_avg": average}, p, _use_new_zipfile_serialization=False
        ),
        "rosinality .pt, no latent_avg": lambda p: torch.save(trained, p),
        "pSp / e4e bundle": lambda p: torch.save(bundle(), p),
        "NADA / DIFA .pt": lambda p: torch.save({"g_ema": rosinality, "g_optim": {}}, p),
        "nvidia state dict .pt": lambda p: torch.save(nvidia, p),
        "rosinality state dict .pt": lambda p: torch.save({"G_ema": rosinality}, p),
        "nvidia safetensors": lambda p: _converted(nvidia, p, "nvidia-state"),
        "rosinality safetensors": lambda p: _converted(nvidia, p, "rosinality"),
        "facelatent safetensors": lambda p: _converted(nvidia, p, "facelatent"),
    }


def _converted(state: dict[str, torch.Tensor], path: Path, layout: Any) -> None:
    source = path.with_suffix(".pt")
    torch.save(state, source)
    convert(source, path.with_suffix(".safetensors"), to=layout)
    path.with_suffix(".safetensors").rename(path)
    source.unlink()


def peak_gigabytes() -> float:
    """Peak resident size of this process; getrusage would count what the parent had when it started this one."""
    status = Path("/proc/self/status")
    if not status.exists():
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return int(re.search(r"VmHWM:\s*(\d+) kB", status.read_text())[1]) / 2**20  # type: ignore[index]


def measure(path: Path) -> dict[str, float]:
    """Open ``path`` and draw one picture, in this process."""
    start = peak_gigabytes()
    disk = seconds_to_read(path)
    begin, cpu = time.perf_counter(), time.process_time()
    generator = load_generator(path, device="cpu")
    load, cpu = time.perf_counter() - begin, time.process_time() - cpu
    loaded = peak_gigabytes()
    begin = time.perf_counter()
    with torch.no_grad():
        image = generator.synthesis(generator.broadcast(generator.sample_w(0, 0.7)))
    draw = time.perf_counter() - begin
    assert image.shape == (1, 3, 1024, 1024) and bool(torch.isfinite(image).all())
    return {
        "file_gb": path.stat().st_size / 2**30,
        "disk_s": disk,
        "load_s": load,
        "load_cpu_s": cpu,
        "beyond_disk_s": load - disk,
        "draw_s": draw,
        "imported_gb": start,
        "loaded_gb": loaded,
        "peak_gb": peak_gigabytes(),
    }


def baseline(path: Path) -> dict[str, Any]:
    """``torch.load`` of the same file, in this process."""
    begin = time.perf_counter()
    try:
        torch.load(path, map_location="cpu", weights_only=True)
    except Exception:  # what it cannot read, or only by running its code
        return {"torch_load_s": "refuses", "torch_load_gb": "refuses"}
    return {"torch_load_s": time.perf_counter() - begin, "torch_load_gb": peak_gigabytes()}


def in_own_process(what: str, path: Path, script: str = __file__) -> dict[str, Any]:
    command = [sys.executable, script, f"--{what}", str(path)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def run(folder: Path) -> None:
    rows: list[dict[str, Any]] = []
    for name, write in writers().items():
        path = folder / "checkpoint"
        write(path)
        rows.append({"layout": name} | in_own_process("measure", path) | in_own_process("baseline", path))
        path.unlink()
    publish(
        "checkpoints",
        rows,
        worst_peak_gb=max(row["peak_gb"] for row in rows),
        peak_bar_gb=MEMORY_BAR,
        worst_beyond_disk_s=max(row["beyond_disk_s"] for row in rows),
        beyond_disk_bar_s=TIME_BAR,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, help="where to write the files (1.2 GB at a time)")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--baseline", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        print(json.dumps(measure(arguments.measure)))
    elif arguments.baseline:
        print(json.dumps(baseline(arguments.baseline)))
    else:
        with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
            run(Path(folder))


if __name__ == "__main__":
    main()
