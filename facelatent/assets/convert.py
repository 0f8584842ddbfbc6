"""Keep what was converted from fetched files, so that conversion happens once."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from filelock import FileLock

from facelatent.assets.cache import cache_dir
from facelatent.errors import InvalidFile, UnwritableOutput
from facelatent.files import load_tensors, save_tensors

if TYPE_CHECKING:
    import torch

Tensors = dict[str, "torch.Tensor"]

_log = logging.getLogger(__name__)


def converted(
    name: str, version: int, build: Callable[[], tuple[Tensors, dict[str, Any]]]
) -> tuple[Tensors, dict[str, Any]]:
    """Tensors and metadata that ``build`` makes, from the cache if an earlier call stored them as safetensors.

    Args:
        name: what is converted; part of the cached file's name.
        version: raise it when the conversion changes.
        build: makes the tensors from the fetched files. A cache that cannot be written costs only time.
    """
    path = cache_dir() / "converted" / f"{name}-v{version}.safetensors"
    with suppress(InvalidFile):
        return load_tensors(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(path.with_suffix(".lock")):
            with suppress(InvalidFile):  # another process may have made it while this one waited
                return load_tensors(path)
            tensors, metadata = build()
            try:
                save_tensors(path, tensors, metadata)
            except UnwritableOutput as error:
                _log.warning("cannot keep the converted %s: %s", name, error)
            return tensors, metadata
    except OSError as error:
        _log.warning("cannot keep the converted %s in %s (%s)", name, path.parent, error)
        return build()
