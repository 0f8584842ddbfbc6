"""Generators by name or file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facelatent.assets import asset_path, cache_dir, converted
from facelatent.errors import FacelatentError, UnsupportedCheckpoint, UnwritableOutput
from facelatent.files import save_tensors
from facelatent.memory import keep_freed_memory
from facelatent.stylegan_ops.backend import Backend, chosen
from facelatent.stylegan_ops.checkpoints import build_generator, convert, pack, read_checkpoint
from facelatent.stylegan_ops.generator import Generator
from facelatent.stylegan_ops.mobile import MobileStyleGAN, read_random_face

#: The generator that commands use unless told otherwise.
DEFAULT_GENERATOR = "mobile-ffhq-1024"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def load_generator(
    name_or_path: str | Path = DEFAULT_GENERATOR,
    device: str | torch.device | None = None,
    backend: Backend | None = None,
) -> Generator:
    """Load a generator, ready to draw, its weights frozen.

    Args:
        name_or_path: ``mobile-ffhq-1024`` (fetched and converted on first use), a name that :func:`import_generator`
            gave, or a checkpoint file of any kind that
            :func:`~facelatent.stylegan_ops.checkpoints.read_checkpoint` reads: NVIDIA ``.pkl``, rosinality, pSp, e4e,
            NADA or DIFA ``.pt``, safetensors.
        device: where to put it; a GPU if there is one, else the CPU.
        backend: which implementation draws: ``auto``, ``reference``, ``cpu`` or ``cuda``; see
            :func:`~facelatent.stylegan_ops.backend.chosen`.

    Raises:
        ValueError: an unknown backend.
        KernelsUnavailable: the named backend does not run on the device, or its kernels cannot be had here.
        AssetUnavailable: the named weights cannot be fetched.
        UnsafeCheckpoint: the file would have to run code to be read.
        UnsupportedCheckpoint: neither a known name nor a readable generator file.
        FacelatentError: the device cannot be used.
    """
    target = find_device(device)
    if backend is not None:
        chosen(backend, target)
    generator = _find(name_or_path)
    generator.backend = backend
    if target.type == "cpu":
        keep_freed_memory()
    # channels_last is what the CPU's convolution library works in: a tenth to a half faster.
    return generator.to(target, memory_format=torch.channels_last).eval()  # type: ignore[call-overload, no-any-return]


def find_device(name: str | torch.device | None) -> torch.device:
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


def _find(name_or_path: str | Path) -> Generator:
    name = str(name_or_path)
    if name == DEFAULT_GENERATOR:
        tensors, metadata = converted(DEFAULT_GENERATOR, 1, _convert_default)
        generator = MobileStyleGAN(metadata["name"], tuple(metadata["channels"]))
        generator.load_state_dict(tensors)
        return generator
    path = imported_generators().get(name, Path(name_or_path))
    if not path.is_file():
        known = ", ".join([DEFAULT_GENERATOR, *imported_generators()])
        raise UnsupportedCheckpoint(f"no generator is called {name!r} and no such file exists; known: {known}")
    return build_generator(read_checkpoint(path), path.stem)


def save_generator(generator: Generator, path: str | Path) -> None:
    """Write a generator as one safetensors file that :func:`load_generator` reads.

    Raises:
        UnsupportedCheckpoint: a generator that is neither StyleGAN2 nor MobileStyleGAN.
        UnwritableOutput: the file cannot be written.
    """
    save_tensors(path, *pack(generator))


def imported_generators() -> dict[str, Path]:
    """Files of the generators that the user has imported, by name."""
    return {path.stem: path for path in sorted(_imports().glob("*.safetensors")) if _NAME.fullmatch(path.stem)}


def import_generator(name: str, path: str | Path, overwrite: bool = False) -> Path:
    """Convert a checkpoint file and keep it in the cache under ``name``, for :func:`load_generator`.

    Args:
        name: letters, digits, dots, dashes and underscores.
        path: a checkpoint of any kind.
        overwrite: replace an imported generator of that name.

    Returns:
        The file in the cache.

    Raises:
        UnsafeCheckpoint, UnsupportedCheckpoint: the file cannot be read; see
            :func:`~facelatent.stylegan_ops.checkpoints.read_checkpoint`.
        UnwritableOutput: the name is taken or not a name, or the cache cannot be written.
    """
    if not _NAME.fullmatch(name) or name == DEFAULT_GENERATOR:
        raise UnwritableOutput(
            f"{name[:80]!r} cannot name a generator: use up to 64 letters, digits, '.', '-' and '_', "
            f"and not {DEFAULT_GENERATOR}"
        )
    target = _imports() / f"{name}.safetensors"
    if target.exists() and not overwrite:
        raise UnwritableOutput(
            f"a generator called {name!r} is imported already; choose another name, or pass --overwrite"
        )
    return convert(path, target, overwrite=overwrite, name=name)


def _imports() -> Path:
    return cache_dir() / "generators"


def _convert_default() -> tuple[dict[str, Tensor], dict[str, Any]]:
    return pack(read_random_face(asset_path(DEFAULT_GENERATOR), DEFAULT_GENERATOR))
