"""Codes with scores: what boundaries are fitted to."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from facelatent.boundaries.codes import FACTS, GROUPS, ScoredCodes, read_shard, signature_of
from facelatent.boundaries.scorers import SCORERS, Scorer, facts, score_faces
from facelatent.errors import InvalidFile
from facelatent.files import atomic_path
from facelatent.processes import ALONE, Share
from facelatent.stylegan_ops import Generator

#: Codes in one shard file: what a killed run can lose.
SHARD = 500
#: Side at which pictures are drawn for the scorers.
SCORING_SIDE = 256


def sample_scores(
    generator: Generator,
    count: int,
    folder: Path,
    seed: int = 0,
    psi: float = 0.8,
    scorers: Sequence[Scorer] = SCORERS,
    batch: int = 4,
    progress: bool = False,
    shard: int | None = None,
) -> ScoredCodes:
    """Draw ``count`` random faces and score them; resumable. See :func:`make_shards` for the arguments and errors."""
    make_shards(generator, count, folder, seed, psi, scorers, batch, progress, shard=shard)
    wanted = {attribute for scorer in scorers for attribute in scorer.attributes}
    codes = read_scores(folder, count)
    return ScoredCodes(codes.ws, {name: values for name, values in codes.scores.items() if name in wanted})


def make_shards(
    generator: Generator,
    count: int,
    folder: Path,
    seed: int = 0,
    psi: float = 0.8,
    scorers: Sequence[Scorer] = SCORERS,
    batch: int = 4,
    progress: bool = False,
    share: Share = ALONE,
    mixed: bool = False,
    shard: int | None = None,
) -> int:
    """Draw random faces, score them, and keep codes and scores in ``folder`` as npz, :data:`SHARD` to a file.

    Shard k holds the codes of torch seed ``(seed << 20) + k``, so that a longer run starts with what a shorter one
    made, and processes that share the work need not speak to each other. A shard that lacks scores, or has them from
    another version of a scorer, is drawn again from its codes, and only those scores are made.

    Args:
        generator: what draws.
        count: faces in all; whole shards are made.
        folder: where shards are kept.
        seed: of the codes, below 2**42.
        psi: truncation.
        scorers: what measures.
        batch: faces drawn at once.
        progress: show a bar.
        share: which of the shards are this process's.
        mixed: draw faces whose :data:`~facelatent.boundaries.codes.GROUPS` of layers have codes of their own. They tell
            on which layers an attribute lives, see :func:`~facelatent.boundaries.mixed.fit_mixed`.
        shard: faces to a file, :data:`SHARD` if None; a folder that was begun with another number cannot go on.

    Returns:
        How many faces were scored now.

    Raises:
        InvalidFile: a shard in the folder is damaged, or belongs to another generator, seed or psi.
    """
    size = shard or SHARD
    signature = f"{generator.fingerprint} seed={seed} psi={psi} side={SCORING_SIDE} shard={size}" + mixed * " mixed"
    mine = range(share.rank, -(-count // size), share.world)
    made = 0
    with tqdm(total=len(mine) * size, desc="scoring faces", unit="face", disable=not progress) as bar:
        for index in mine:
            path = shard_path(folder, index)
            stored = read_shard(path) if path.exists() else {}
            if stored and signature_of(stored) != signature:
                raise InvalidFile(f"{path} was made with other settings than {signature}; use another folder")
            lacking = [scorer for scorer in scorers if not _complete(stored, scorer)]
            if not lacking:
                bar.update(size)
                continue
            ws = torch.from_numpy(stored["w"]) if stored else _codes(generator, (seed << 20) + index, psi, mixed, size)
            parts = []
            for scores in _scores(generator, ws, lacking, batch):
                parts.append(scores)
                bar.update(len(next(iter(scores.values()))))
            fresh = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
            versions = _versions(stored) | {name: _identity(one) for one in lacking for name in one.attributes}
            kept = {name: values for name, values in stored.items() if name not in FACTS}
            _write(path, signature, versions, {"w": ws.numpy(), **kept, **fresh})
            made += size
    return made


def read_scores(folder: Path, count: int | None = None) -> ScoredCodes:
    """The first ``count`` codes in a folder that :func:`make_shards` filled, or all, with the scores that all have.

    Raises:
        InvalidFile: there are fewer, a shard is damaged, or shards belong to different runs.
    """
    shards: list[dict[str, np.ndarray]] = []
    held = 0
    while (path := shard_path(folder, len(shards))).exists() and (not count or held < count):
        shards.append(read_shard(path))
        held += len(shards[-1]["w"])
        if signature_of(shards[-1]) != signature_of(shards[0]):
            first = shard_path(folder, 0)
            raise InvalidFile(f"{path} and {first} belong to different runs; keep them in different folders")
    if not shards or held < (count or 0):
        raise InvalidFile(
            f"{folder} holds {held} scored codes without a gap, {count or 'at least one'} wanted; "
            "run 'facelatent attributes sample' to make the rest"
        )
    common = [name for name in shards[0] if name not in FACTS and all(name in shard for shard in shards)]
    rows = slice(count)
    ws = np.concatenate([shard["w"] for shard in shards])[rows]
    return ScoredCodes(ws, {name: np.concatenate([shard[name] for shard in shards])[rows] for name in common})


def shard_path(folder: Path, index: int) -> Path:
    """Where shard ``index`` is kept."""
    return folder / f"codes-{index:05d}.npz"


def expanded(generator: Generator, ws: torch.Tensor) -> torch.Tensor:
    """W+ codes [n, num_ws, 512] of ``ws``, [n, 512] or mixed [n, 5, 512]."""
    if ws.ndim == 2:
        return generator.broadcast(ws)
    whole = ws.new_zeros(len(ws), generator.num_ws, ws.shape[2])
    for index, (first, last) in enumerate(GROUPS):
        whole[:, generator.layers_between(first, last)] = ws[:, index, None]
    return whole


def _codes(generator: Generator, seed: int, psi: float, mixed: bool, size: int) -> torch.Tensor:
    """Codes [size, 512] or, mixed, [size, 5, 512] of one torch seed, on the CPU."""
    count = size * (len(GROUPS) if mixed else 1)
    z = torch.randn(count, generator.z_dim, generator=torch.Generator().manual_seed(seed)).to(generator.device)
    with torch.no_grad():
        ws = generator.truncate(generator.mapping(z), psi).cpu()
    return ws.reshape(size, len(GROUPS), -1) if mixed else ws


@torch.no_grad()
def _scores(
    generator: Generator, ws: torch.Tensor, scorers: Sequence[Scorer], batch: int
) -> Iterator[dict[str, np.ndarray]]:
    """Scores of codes [n, 512] or [n, 5, 512], a batch at a time."""
    for part in torch.split(ws, batch):
        codes = expanded(generator, part.to(generator.device))
        images = generator.synthesis(codes, resolution=min(SCORING_SIDE, generator.resolution))
        yield score_faces(images, scorers)


def _identity(scorer: Scorer) -> str:
    return f"{scorer.name} {facts(scorer)[0]}"


def _complete(shard: dict[str, np.ndarray], scorer: Scorer) -> bool:
    """Whether a shard has all the scores of this version of a scorer."""
    versions = _versions(shard)
    return all(name in shard and versions.get(name) == _identity(scorer) for name in scorer.attributes)


def _versions(shard: dict[str, np.ndarray]) -> dict[str, str]:
    """What measured each attribute; nothing is known of shards of facelatent 0.1, which are therefore scored anew."""
    with suppress(KeyError, ValueError):
        return dict(json.loads(str(shard["scorers"])))
    return {}


def _write(path: Path, signature: str, versions: dict[str, str], arrays: dict[str, np.ndarray]) -> None:
    stored = {"signature": np.array(signature), "scorers": np.array(json.dumps(versions, sort_keys=True)), **arrays}
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, **stored)  # type: ignore[arg-type]
