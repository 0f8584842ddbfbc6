"""A fixed pool of the source generator's people, which every step of an adaptation compares with."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from facelatent.assets import converted
from facelatent.domain_adapt.parts import SIDE as PARTS_SIDE
from facelatent.domain_adapt.parts import portrait_parts
from facelatent.errors import AssetUnavailable
from facelatent.faces import find_faces
from facelatent.images import to_arrays
from facelatent.stylegan_ops import Generator

#: Raise it when a pool would come out otherwise.
_VERSION = 1
#: Side in pixels at which faces are looked for.
_LOOKED_AT = 256


@dataclass(frozen=True)
class SourcePool:
    """People of the source generator.

    Attributes:
        ws: [count, num_ws, 512] their codes.
        images: uint8 [count, 3, H, H] their pictures.
        parts: [count, 4, 64, 64] masks; see :func:`~facelatent.domain_adapt.parts.portrait_parts`.
    """

    ws: Tensor
    images: Tensor
    parts: Tensor

    def __len__(self) -> int:
        return len(self.ws)


def source_pool(generator: Generator, count: int, psi: float, seed: int, progress: bool = False) -> SourcePool:
    """Draw ``count`` people, or read them from the cache, where a pool is kept for each generator and seed.

    Args:
        generator: the source generator.
        count: people.
        psi: truncation.
        seed: of the first; the next ones follow it.
        progress: show a bar while they are drawn.
    """
    name = f"pool-{generator.fingerprint}-{count}-{round(1000 * psi)}-{seed}"

    def build() -> tuple[dict[str, Tensor], dict[str, Any]]:
        return _drawn(generator, count, psi, seed, progress), {"generator": generator.name}

    tensors, _ = converted(name, _VERSION, build)
    device = generator.device
    return SourcePool(tensors["ws"].to(device), tensors["images"], tensors["parts"].to(device))


@torch.no_grad()
def _drawn(generator: Generator, count: int, psi: float, seed: int, progress: bool) -> dict[str, Tensor]:
    ws, images, parts = [], [], []
    for number in tqdm(range(seed, seed + count), desc="people of the source", unit="face", disable=not progress):
        label = class_of(generator, number)
        code = generator.broadcast(generator.sample_w(number, psi, label)).contiguous()
        image = to_arrays(generator.synthesis(code))[0]
        ws.append(code)
        images.append(torch.from_numpy(image).permute(2, 0, 1))
        parts.append(_parts(image))
    return {"ws": torch.cat(ws), "images": torch.stack(images), "parts": torch.stack(parts)}


def class_of(generator: Generator, number: int) -> Tensor | None:
    """A label [1, label_dim] for the ``number``-th person, the classes in turn; None where there are none."""
    if not generator.label_dim:
        return None
    return torch.eye(generator.label_dim, device=generator.device)[number % generator.label_dim][None]


def _parts(image: np.ndarray) -> Tensor:
    """The parts of a drawn picture uint8 [H, H, 3]; without landmarks where there is no face, or nothing to find it."""
    factor = max(len(image) // _LOOKED_AT, 1)
    small = image[: len(image) // factor * factor, : len(image) // factor * factor]
    small = small.reshape(len(small) // factor, factor, -1, factor, 3).mean((1, 3)).round().astype(np.uint8)
    if len(small) < PARTS_SIDE:
        return portrait_parts(np.kron(small, np.ones((PARTS_SIDE // len(small),) * 2 + (1,), np.uint8)), None)
    try:
        faces = find_faces(small, upsample=False) if len(small) >= _LOOKED_AT else []
    except AssetUnavailable:
        faces = []
    return portrait_parts(small, faces[0].landmarks if faces else None)
