"""Drawn faces with known codes: what an encoder is fitted to. Kept in shards on disk, so that a run can be resumed."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from facelatent.errors import InvalidFile
from facelatent.files import load_tensors, save_tensors
from facelatent.inversion.encoders.compact import describe, draw_small
from facelatent.inversion.training.augment import damage
from facelatent.stylegan_ops import Generator

#: Pairs in a file: what a killed run can lose.
SHARD = 256
#: Pictures that are described at once.
_BATCH = 32
#: Codes are truncated at a psi between these: faces near the mean and far from it.
_PSI = (0.5, 1.0)
#: At most so many faces are mixed into one code.
_PARTS = 4


def training_ws(generator: Generator, count: int, seed: int) -> Tensor:
    """Codes [count, num_ws, 512]: half of them one w for all layers, half style-mixed, at a random psi each.

    The same for a seed on every machine and device.
    """
    random = torch.Generator().manual_seed(seed)
    z = torch.randn(count * _PARTS, generator.z_dim, generator=random)
    psi = torch.rand(count, 1, 1, generator=random) * (_PSI[1] - _PSI[0]) + _PSI[0]
    cuts = torch.rand(count, _PARTS - 1, generator=random)
    mixed = torch.rand(count, generator=random) < 0.5
    with torch.no_grad():
        w = generator.mapping(z.to(generator.device)).view(count, _PARTS, -1)
    w = generator.w_avg + psi.to(w) * (w - generator.w_avg)
    places = (torch.arange(generator.num_ws) + 0.5) / generator.num_ws
    part = (places[None, :, None] > cuts[:, None, :]).sum(2) * mixed[:, None]  # [count, num_ws]
    chosen: Tensor = w.gather(1, part.to(w.device)[:, :, None].expand(-1, -1, generator.w_dim))
    return chosen


class Pairs:
    """Shards of codes, and the descriptions of their pictures.

    Args:
        generator: draws.
        folder: where shards are kept.
        count: pairs; rounded up to whole shards.
        damaged: share of the pictures that are damaged.
        seed: shard k has the codes of the seed ``(seed << 24) + k + 1``; evaluation draws other ones.
    """

    def __init__(self, generator: Generator, folder: Path, count: int, damaged: float, seed: int) -> None:
        self.generator = generator
        self.fingerprint = generator.fingerprint
        self.folder = folder
        self.shards = -(-count // SHARD)
        self.damaged = damaged
        self.seed = seed

    def __len__(self) -> int:
        return self.shards * SHARD

    def ws(self, shard: int) -> Tensor:
        """Codes [SHARD, num_ws, 512] of a shard."""
        return training_ws(self.generator, SHARD, self._seed(shard))

    def descriptions(self, shard: int) -> Tensor:
        """Descriptions [SHARD, DESCRIPTION] in half precision of the pictures of a shard, damaged or not.

        Raises:
            InvalidFile: the shard's file is damaged, or was made with other settings.
        """
        path = self.folder / f"pairs-{shard:05d}.safetensors"
        record = {
            "generator": self.fingerprint,
            "seed": self.seed,
            "shard": SHARD,
            "damaged": self.damaged,
        }
        if not path.exists():
            save_tensors(path, {"descriptions": self._described(shard)}, record)
        try:
            tensors, found = load_tensors(path)
        except InvalidFile as error:
            raise InvalidFile(f"{error}; delete it, and it is made again") from error
        if found != record:
            raise InvalidFile(f"{path} was made with other settings; use another --work folder, or delete this one")
        return tensors["descriptions"]

    def images(self, shard: int, count: int = SHARD) -> Tensor:
        """The first ``count`` undamaged pictures [count, 3, H, H] of a shard, at most 256 px, in [-1, 1]."""
        return draw(self.generator, self.ws(shard)[:count])

    @torch.no_grad()
    def _described(self, shard: int) -> Tensor:
        random = torch.Generator().manual_seed(self._seed(shard))
        parts = []
        for ws in torch.split(self.ws(shard), _BATCH):
            images = self._damaged(draw(self.generator, ws), random)
            parts.append(describe(images).half().cpu())
        return torch.cat(parts)

    def _damaged(self, images: Tensor, random: torch.Generator) -> Tensor:
        chosen = torch.rand(len(images), 1, 1, 1, generator=random) < self.damaged
        return torch.where(chosen.to(images.device), damage(images, random), images)

    def _seed(self, shard: int) -> int:
        return (self.seed << 24) + shard + 1


@torch.no_grad()
def draw(generator: Generator, ws: Tensor) -> Tensor:
    """Pictures [n, 3, H, H] of codes [n, num_ws, 512], at most 256 px, in [-1, 1]."""
    return draw_small(generator, ws).clamp(-1, 1)
