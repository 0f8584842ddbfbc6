"""From a checkpoint to a generator that draws, and back to a file of any layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from facelatent.errors import UnsupportedCheckpoint, UnwritableOutput
from facelatent.files import atomic_path, save_tensors, sha256_of
from facelatent.stylegan_ops.checkpoints.checkpoint import Checkpoint, parameter_count, read_checkpoint
from facelatent.stylegan_ops.checkpoints.layouts import from_facelatent, rows, to_facelatent
from facelatent.stylegan_ops.generator import Generator
from facelatent.stylegan_ops.mobile import MobileStyleGAN
from facelatent.stylegan_ops.stylegan2 import StyleGAN2

Target = Literal["facelatent", "rosinality", "nvidia-state"]

#: Samples of the mean of w where a file has none, as many as is usual: its error is 1/64 of w's spread.
_AVERAGE_SAMPLES = 4096
_NOISE_SEED = 0


def build_generator(checkpoint: Checkpoint, name: str) -> Generator:
    """The network of ``checkpoint``, on the CPU; it uses the checkpoint's tensors, not copies.

    What the file lacks (:attr:`Checkpoint.missing`) is estimated or drawn with a fixed seed. Files of ours carry a
    name, which counts instead of ``name``.
    """
    if checkpoint.config is None or checkpoint.layout is None:
        mobile = MobileStyleGAN(checkpoint.settings["name"], tuple(checkpoint.settings["channels"]))
        mobile.load_state_dict(checkpoint.state)
        return mobile.eval()
    config = checkpoint.config
    state = to_facelatent(checkpoint.state, config, checkpoint.layout)
    random = torch.Generator().manual_seed(_NOISE_SEED)
    for row in rows(config):
        if row.facelatent not in state:
            state[row.facelatent] = torch.randn(row.shape, generator=random)
    dim = config.w_dim
    unknown = {"w_std": torch.ones(dim), "w_components": torch.eye(dim), "w_scales": torch.ones(dim)}
    known = {key: checkpoint.state[key] for key in unknown if key in checkpoint.state}
    average = torch.zeros(dim) if checkpoint.w_avg is None else checkpoint.w_avg
    # Filling a network with zeros and copying over them would take most of the loading time.
    with torch.device("meta"):
        generator = StyleGAN2(str(checkpoint.settings.get("name", name)), config)
    generator.measured = True  # or assigning the statistics would ask for them first
    generator.load_state_dict({**state, **unknown, **known, "w_avg": average}, assign=True)
    generator.measured = len(known) == len(unknown)
    if checkpoint.w_avg is None:
        generator.w_avg.copy_(generator.typical_ws(_AVERAGE_SAMPLES).mean(0))
    return generator.eval()


def pack(generator: Generator) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Tensors and metadata of a generator as our files hold them.

    Raises:
        UnsupportedCheckpoint: a generator that is neither StyleGAN2 nor MobileStyleGAN.
    """
    if isinstance(generator, MobileStyleGAN):
        return generator.state_dict(), {"kind": "mobile", "name": generator.name, "channels": generator.channels}
    if isinstance(generator, StyleGAN2):
        if not generator.measured:
            generator.measure_w()
        config = generator.config
        settings = {"conv_clamp": config.conv_clamp, "half_blocks": config.half_blocks}
        return generator.state_dict(), {"kind": "stylegan2", "name": generator.name, **settings}
    raise UnsupportedCheckpoint(f"a {type(generator).__name__} has no file format")


def convert(
    source: str | Path,
    target: str | Path,
    to: Target = "facelatent",
    overwrite: bool = False,
    name: str | None = None,
) -> Path:
    """Read a checkpoint of any kind and write its generator in one layout; weights keep every bit.

    Args:
        source: what :func:`~facelatent.stylegan_ops.checkpoints.read_checkpoint` reads.
        target: ``.safetensors``; for the foreign layouts also ``.pt``, which their own code loads.
        to: ``facelatent``; ``rosinality``: ``g_ema`` and ``latent_avg``; ``nvidia-state``: the state dict of NVIDIA's
            PyTorch generator.
        overwrite: replace an existing ``target``.
        name: the generator's name in a file of ours; by default the name it had, or the source file's.

    Raises:
        UnsafeCheckpoint, UnsupportedCheckpoint: as read_checkpoint, or the layout cannot hold this generator.
        UnwritableOutput: ``target`` exists, has another suffix, or cannot be written.
        ValueError: an unknown layout.
    """
    target = Path(target)
    if to not in get_args(Target):
        raise ValueError(f"unknown layout {to!r}; known: {', '.join(get_args(Target))}")
    suffixes = (".safetensors",) if to == "facelatent" else (".safetensors", ".pt")
    if target.suffix not in suffixes:
        raise UnwritableOutput(f"{target} must end with {' or '.join(suffixes)} for {to}")
    if target.exists() and not overwrite:
        raise UnwritableOutput(f"{target} exists; choose another name, or pass --overwrite")
    checkpoint = read_checkpoint(source)
    generator = build_generator(checkpoint, Path(source).stem)
    if to == "facelatent":
        generator.name = name or generator.name
        tensors, metadata = pack(generator)
        origin = {"kind": checkpoint.kind, "sha256": sha256_of(source)}
        save_tensors(target, tensors, {**metadata, "source": origin})
    else:
        _save_foreign(generator, target, to)
    return target


def _save_foreign(generator: Generator, target: Path, to: Target) -> None:
    if not isinstance(generator, StyleGAN2):
        raise UnsupportedCheckpoint(f"{generator.name} is a {type(generator).__name__}; {to} holds StyleGAN2 only")
    state, average = generator.state_dict(), generator.w_avg.clone()
    if to == "rosinality":
        tensors = from_facelatent(state, generator.config, "rosinality")
        bundle: dict[str, Any] = {"g_ema": tensors, "latent_avg": average}
        flat = {**tensors, "latent_avg": average}
    else:
        bundle = flat = {**from_facelatent(state, generator.config, "nvidia"), "mapping.w_avg": average}
    if target.suffix == ".safetensors":
        save_tensors(target, flat, {})
        return
    with atomic_path(target) as temporary:
        torch.save(bundle, temporary)


@dataclass(frozen=True)
class Inspection:
    """What a checkpoint file is.

    Attributes:
        kind: see :class:`Checkpoint`; likewise ``description``, ``container``, ``layout``, ``missing``, ``settings``.
        resolution: side of the picture in pixels.
        num_ws: W+ layers.
        layers: (name, channels of style space) of each layer that takes a style, in drawing order.
        parameters: trained numbers; noise maps, filters and statistics are not counted.
        classes: 0 for an unconditional generator.
        fingerprint: of the generator; the same in every layout.
        w_space: of its mapping network.
    """

    kind: str
    description: str
    container: str
    layout: str
    resolution: int
    num_ws: int
    layers: tuple[tuple[str, int], ...]
    parameters: int
    classes: int
    fingerprint: str
    w_space: str
    missing: tuple[str, ...]
    settings: dict[str, Any]


def inspect_checkpoint(path: str | Path) -> Inspection:
    """Say what a file is; errors as :func:`~facelatent.stylegan_ops.checkpoints.read_checkpoint`."""
    checkpoint = read_checkpoint(path)
    generator = build_generator(checkpoint, Path(path).stem)
    layers: list[tuple[str, int]] = []
    if isinstance(generator, StyleGAN2):
        network = generator.synthesis_network
        layers = [(name, len(layer.affine.bias)) for name, _, layer in network.named_layers()]
    elif isinstance(generator, MobileStyleGAN):
        layers = [(f"{4 << index} px", count) for index, count in enumerate(generator.channels)]
    return Inspection(
        kind=checkpoint.kind,
        description=checkpoint.description,
        container=checkpoint.container,
        layout=checkpoint.layout or "mobile",
        resolution=generator.resolution,
        num_ws=generator.num_ws,
        layers=tuple(layers),
        parameters=parameter_count(generator.state_dict()),
        classes=generator.label_dim,
        fingerprint=generator.fingerprint,
        w_space=generator.w_space,
        missing=checkpoint.missing,
        settings=checkpoint.settings,
    )
