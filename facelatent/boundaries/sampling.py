"""Codes with scores: what boundaries are fitted to."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facelatent.boundaries.scorers import SCORERS, Scorer, score_faces
from facelatent.errors import InvalidFile
from facelatent.files import atomic_path
from facelatent.stylegan_ops import Generator

#: Codes in one shard file: what a killed run can lose.
SHARD = 500
#: Side at which pictures are drawn for the scorers.
SCORING_SIDE = 256


@dataclass(frozen=True)
class ScoredCodes:
    """Codes w [n, 512] as drawn (truncated at ``psi``), and scores [n] by attribute, NaN where no face was found."""

    ws: np.ndarray
    scores: dict[str, np.ndarray]


@torch.no_grad()
def sample_scores(
    generator: Generator,
    count: int,
    folder: Path,
    seed: int = 0,
    psi: float = 0.8,
    scorers: tuple[Scorer, ...] = SCORERS,
    batch: int = 4,
    progress: bool = False,
) -> ScoredCodes:
    """Draw ``count`` random faces and score them; resumable.

    Shards of :data:`SHARD` codes are kept in ``folder`` as npz; shard k holds the codes of torch seed
    ``(seed << 20) + k``, so that a longer run starts with what a shorter one made.

    Raises:
        InvalidFile: a shard in the folder is damaged, or belongs to another generator, seed, psi or set of scorers.
    """
    attributes = ",".join(sorted(name for scorer in scorers for name in scorer.attributes))
    signature = f"{generator.fingerprint} seed={seed} psi={psi} side={SCORING_SIDE} shard={SHARD} scores={attributes}"
    shards = []
    for index in tqdm(range(-(-count // SHARD)), desc="scoring faces", unit="shard", disable=not progress):
        path = shard_path(folder, index)
        if not path.exists():
            arrays = _score_shard(generator, (seed << 20) + index, psi, scorers, batch)
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, signature=np.array(signature), **arrays)  # type: ignore[arg-type]
        try:
            shards.append(dict(np.load(path, allow_pickle=False)))
        except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
            raise InvalidFile(f"{path} is damaged ({error}); delete it, and it is made again") from error
        if str(shards[-1].pop("signature", "")) != signature:
            raise InvalidFile(f"{path} was made with other settings than {signature}; use another folder")
    merged = {name: np.concatenate([shard[name] for shard in shards])[:count] for name in shards[0]}
    return ScoredCodes(merged.pop("w"), merged)


def shard_path(folder: Path, index: int) -> Path:
    """Where shard ``index`` is kept."""
    return folder / f"codes-{index:05d}.npz"


def _score_shard(
    generator: Generator, seed: int, psi: float, scorers: tuple[Scorer, ...], batch: int
) -> dict[str, np.ndarray]:
    """Codes ``w`` [SHARD, 512] of one torch seed and their scores."""
    z = torch.randn(SHARD, generator.z_dim, generator=torch.Generator().manual_seed(seed)).to(generator.device)
    ws = generator.truncate(generator.mapping(z), psi)
    parts = []
    for part in torch.split(ws, batch):
        images = generator.synthesis(generator.broadcast(part), resolution=min(SCORING_SIDE, generator.resolution))
        parts.append(score_faces(images, scorers))
    return {"w": ws.cpu().numpy(), **{name: np.concatenate([part[name] for part in parts]) for name in parts[0]}}
