"""Directions that other projects publish, as boundaries: InterFaceGAN, stylegan3-editing, e4e, GANSpace.

    .npy          [1, 512]: InterFaceGAN (float64, StyleGAN1 or PGGAN), stylegan3-editing (float32)
    .npz          one such array, or [num_ws, 512], a key
    .pt           [1, 512] or [1, 18, 512]: e4e; a dict of comp [k, 1, 512], mean, std: GANSpace, component by number

Such a file says nothing of the generator that it is for.
"""

from __future__ import annotations

import logging
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facelatent.boundaries.boundary import Boundary
from facelatent.errors import IncompatibleLatent, InvalidFile
from facelatent.stylegan_ops import Generator

SUFFIXES = (".npy", ".npz", ".pt")
#: The largest file, and the largest array in one: GANSpace's components of 80 directions are 0.2 MB.
MAX_BYTES = 64 << 20

_log = logging.getLogger(__name__)


def is_published(file: str | Path) -> bool:
    """Whether a path names a file of another project, with ``#KEY`` after it or without."""
    return Path(str(file).partition("#")[0]).suffix.lower() in SUFFIXES


def load_published(file: str | Path, generator: Generator | None = None) -> Boundary:
    """Read a direction that another project publishes. A strength of 1 is a standard deviation of w along it.

    Args:
        file: .npy, .npz or .pt; where a file holds several, ``FILE#KEY`` names one: the key of an npz, the number of
            a GANSpace component.
        generator: whose W space it is used in: nothing in such a file could be checked against it. Without one a
            strength of 1 is one unit of w, but for GANSpace, which has standard deviations of its own.

    Raises:
        InvalidFile: the file is missing, too large, or holds something else.
        IncompatibleLatent: its directions are of another size than the generator's w.
    """
    path, _, key = str(file).partition("#")
    if not Path(path).is_file():
        raise InvalidFile(f"{path} does not exist or is not a file")
    name = Path(path).name.partition(".")[0].removesuffix("_boundary")
    stored = _chosen(_read(Path(path)), key, path)
    if isinstance(stored, dict):
        boundary = _component(stored, key, path)
    else:
        _warn_of_stylegan1(stored, path)
        boundary = _direction(torch.from_numpy(np.asarray(stored)).float(), key or name, path)
    return boundary if generator is None else _adopted(boundary, generator)


def published_names(file: str | Path) -> list[str]:
    """What of ``FILE`` can be loaded: itself, ``FILE#KEY`` of each key, or of each GANSpace component.

    Raises:
        InvalidFile: as :func:`load_published`.
    """
    stored = _read(Path(file))
    if isinstance(stored, dict) and "comp" in stored:
        return [f"{file}#{index}" for index in range(len(stored["comp"]))]
    return [f"{file}#{key}" for key in stored] if isinstance(stored, dict) else [str(file)]


def _read(path: Path) -> Any:
    """An array, or a dict of arrays."""
    if path.stat().st_size > MAX_BYTES:
        raise InvalidFile(f"{path} has {path.stat().st_size >> 20} MiB: more than a direction could need")
    try:
        if path.suffix.lower() == ".pt":
            stored = torch.load(path, map_location="cpu", weights_only=True)
            return {key: _array(value) for key, value in stored.items()} if isinstance(stored, dict) else _array(stored)
        if path.suffix.lower() == ".npz":
            with zipfile.ZipFile(path) as archive:
                if sum(member.file_size for member in archive.infolist()) > MAX_BYTES:
                    raise InvalidFile(f"{path} unpacks to more than a direction could need")
            with np.load(path, allow_pickle=False) as arrays:
                return {key: arrays[key] for key in arrays.files}
        return np.load(path, allow_pickle=False)
    except InvalidFile:
        raise
    except Exception as error:  # both libraries raise whatever a damaged file makes them stumble over
        raise InvalidFile(
            f"{path} cannot be read as a published direction ({type(error).__name__}: {error})"
        ) from error


def _array(value: Any) -> np.ndarray:
    array: np.ndarray = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
    return array


def _chosen(stored: Any, key: str, path: str) -> Any:
    if not isinstance(stored, dict) or "comp" in stored:
        return stored
    if key in stored or len(stored) == 1:
        return stored[key or next(iter(stored))]
    raise InvalidFile(f"{path} holds {', '.join(stored)}; name one: {path}#{next(iter(stored), 'KEY')}")


def _warn_of_stylegan1(array: np.ndarray, path: str) -> None:
    """InterFaceGAN's own files are the only ones in double precision."""
    if array.dtype == np.float64 or Path(path).name.startswith(("stylegan_", "pggan_")):
        _log.warning(
            "%s looks like a boundary of InterFaceGAN's own, for StyleGAN1 or PGGAN: their latent spaces are others, "
            "and on a StyleGAN2 it changes something at random",
            path,
        )


def _direction(array: Tensor, name: str, path: str) -> Boundary:
    """A direction [512], [1, 512], [num_ws, 512] or [1, num_ws, 512]."""
    rows = array.reshape(-1, array.shape[-1]) if array.ndim in (1, 2, 3) else array
    lengths = rows.norm(dim=-1) if rows.ndim == 2 else torch.zeros(1)
    if rows.ndim != 2 or not bool(torch.isfinite(rows).all()) or float(lengths.max()) == 0:
        raise InvalidFile(f"{path} holds an array {list(array.shape)}, not a direction [1, 512] or [1, num_ws, 512]")
    normal = rows.mean(0) / rows.mean(0).norm().clamp_min(1e-12)
    report = {"source": Path(path).name}
    if len(rows) == 1:
        return Boundary(name, normal, 0.0, 1.0, report=report)
    sides = _stylegan2_layers(len(rows), path)
    # Per unit of the longest row, as a single direction is per unit of its own.
    return Boundary(name, normal, 0.0, 1.0, report=report, steps=rows / lengths.max(), layer_resolutions=sides)


def _stylegan2_layers(count: int, path: str) -> tuple[int, ...]:
    """Resolutions of the W+ layers of the StyleGAN2 that has so many: 18 for 1024 px."""
    if count % 2 or not 4 <= count <= 24:
        raise InvalidFile(f"{path} has directions for {count} layers; a StyleGAN2 of 1024 px has 18")
    sides = [4 << (index // 2) for index in range(2, count)]
    return (4, *sides, sides[-1])


def _component(stored: dict[str, np.ndarray], key: str, path: str) -> Boundary:
    """A GANSpace component: distances are its coordinates, in its standard deviations."""
    try:
        components, deviations = stored["comp"].reshape(len(stored["comp"]), -1), stored["std"].reshape(-1)
        mean = stored["mean"].reshape(-1)
    except (KeyError, ValueError) as error:
        raise InvalidFile(f"{path} is not a GANSpace file: comp, mean and std belong in it ({error})") from error
    if not key.isdecimal() or int(key) >= len(components):
        raise InvalidFile(f"{path} holds {len(components)} components; name one by its number: {path}#0")
    vector = torch.from_numpy(components[int(key)]).double()
    normal = vector / vector.norm()
    intercept = -float(normal @ torch.from_numpy(mean).double())
    std = float(deviations[int(key)]) * float(vector.norm())
    return Boundary(f"component {key}", normal.float(), intercept, std, report={"source": Path(path).name})


def _adopted(boundary: Boundary, generator: Generator) -> Boundary:
    """The boundary as one of ``generator``'s, in its standard deviations."""
    if len(boundary.normal) != generator.w_dim:
        raise IncompatibleLatent(
            f"the direction {boundary.attribute!r} has {len(boundary.normal)} numbers and a w of {generator.name} "
            f"{generator.w_dim}"
        )
    source = generator.source
    std = generator.std_along(boundary.normal) if boundary.std == 1 else boundary.std
    steps = None if boundary.steps is None else boundary.steps * std
    own = replace(boundary, std=std, steps=steps, generator=source.name, fingerprint=source.fingerprint)
    return own.fitted_to(generator)
