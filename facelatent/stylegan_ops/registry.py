"""Generators by name or file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facelatent.assets import asset_path, converted
from facelatent.errors import FacelatentError, UnsupportedCheckpoint
from facelatent.files import load_tensors, save_tensors
from facelatent.stylegan_ops.generator import Generator
from facelatent.stylegan_ops.memory import keep_freed_memory
from facelatent.stylegan_ops.mobile import MobileStyleGAN, read_random_face

#: The generator that commands use unless told otherwise.
DEFAULT_GENERATOR = "mobile-ffhq-1024"


def load_generator(name_or_path: str | Path = DEFAULT_GENERATOR, device: str | torch.device | None = None) -> Generator:
    """Load a generator, ready to draw, its weights frozen.

    Args:
        name_or_path: ``mobile-ffhq-1024`` (fetched and converted on first use), or a file that
            :func:`save_generator` wrote.
        device: where to put it; a GPU if there is one, else the CPU.

    Raises:
        AssetUnavailable: the named weights cannot be fetched.
        UnsupportedCheckpoint: neither a known name nor a generator file.
        InvalidFile: the file is not safetensors.
        FacelatentError: the device cannot be used.
    """
    if str(name_or_path) == DEFAULT_GENERATOR:
        tensors, metadata = converted(DEFAULT_GENERATOR, 1, _convert_default)
    elif Path(name_or_path).is_file():
        tensors, metadata = load_tensors(name_or_path)
    else:
        raise UnsupportedCheckpoint(
            f"no generator is called {str(name_or_path)!r} and no such file exists; known: {DEFAULT_GENERATOR}"
        )
    if metadata.get("kind") != "mobile":
        raise UnsupportedCheckpoint(
            f"{name_or_path} is not a generator file of facelatent (kind {metadata.get('kind')!r})"
        )
    target = _device(device)
    channels = metadata.get("channels")
    if (
        not isinstance(metadata.get("name"), str)
        or not isinstance(channels, list)
        or len(channels) < 2
        or not all(type(count) is int and 0 < count <= 4096 for count in channels)
    ):
        raise UnsupportedCheckpoint(f"{name_or_path} does not say what generator it holds (channels {channels!r})")
    generator = MobileStyleGAN(metadata["name"], tuple(channels))
    _load(generator, tensors, str(name_or_path))
    if target.type == "cpu":
        keep_freed_memory()
    # channels_last is what the CPU's convolution library works in: a tenth to a half faster.
    return generator.to(target, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def _device(name: str | torch.device | None) -> torch.device:
    """The device to use; a GPU if there is one and none is named.

    Raises:
        FacelatentError: torch does not know the device, or this machine does not have it.
    """
    try:
        target = torch.device(name or ("cuda" if torch.cuda.is_available() else "cpu"))
        torch.zeros(1, device=target).cpu()  # naming a device costs nothing: only using it tells
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise FacelatentError(f"the device {str(name)!r} cannot be used ({reason}); try cpu, cuda or cuda:1") from error
    return target


def save_generator(generator: MobileStyleGAN, path: str | Path) -> None:
    """Write a generator as one safetensors file that :func:`load_generator` reads."""
    save_tensors(path, *_pack(generator))


def _pack(generator: MobileStyleGAN) -> tuple[dict[str, Tensor], dict[str, Any]]:
    return generator.state_dict(), {"kind": "mobile", "name": generator.name, "channels": generator.channels}


def _convert_default() -> tuple[dict[str, Tensor], dict[str, Any]]:
    return _pack(read_random_face(asset_path(DEFAULT_GENERATOR), DEFAULT_GENERATOR))


def _load(generator: Generator, tensors: dict[str, Tensor], source: str) -> None:
    expected = generator.state_dict()
    wrong = [key for key in expected.keys() & tensors.keys() if expected[key].shape != tensors[key].shape]
    wrong += sorted(expected.keys() ^ tensors.keys())
    if wrong:
        raise UnsupportedCheckpoint(f"{source}: tensors missing, unknown or of another shape: {', '.join(wrong[:5])}")
    generator.load_state_dict(tensors)
