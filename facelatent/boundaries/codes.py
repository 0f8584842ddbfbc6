"""Reading scored codes from npz files, whoever made them."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path

import numpy as np

from facelatent.boundaries.sampling import ScoredCodes
from facelatent.errors import InvalidFile


def read_codes(folder: Path, limit: int | None = None) -> ScoredCodes:
    """The codes of all npz files in a folder, by name: arrays ``w`` [n, 512] and one [n] a score.

    Args:
        folder: as :func:`~facelatent.boundaries.sampling.sample_scores` fills it; a ``signature``, if files have one,
            must be the same in all.
        limit: only the first so many.

    Raises:
        InvalidFile: there are none, one is damaged, or they do not belong together.
    """
    shards: list[dict[str, np.ndarray]] = []
    for path in sorted(folder.glob("*.npz")):
        if limit is not None and sum(len(shard["w"]) for shard in shards) >= limit:
            break
        shards.append(_read_shard(path))
        first, last = (set(shard) for shard in (shards[0], shards[-1]))
        if first != last or str(shards[0].get("signature")) != str(shards[-1].get("signature")):
            raise InvalidFile(f"{path} was made with other settings than the files before it; use another folder")
    if not shards:
        raise InvalidFile(f"{folder} has no .npz of scored codes")
    names = [name for name in shards[0] if name != "signature"]
    merged = {name: np.concatenate([shard[name] for shard in shards])[:limit] for name in names}
    return ScoredCodes(merged.pop("w"), merged)


def _read_shard(path: Path) -> dict[str, np.ndarray]:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            shard = {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError) as error:
        raise InvalidFile(f"{path} is damaged ({error})") from error
    count = len(shard["w"]) if shard.get("w", np.empty(0)).ndim == 2 else -1
    if any(name != "signature" and array.shape[:1] != (count,) for name, array in shard.items()):
        raise InvalidFile(f"{path} has no codes w [n, 512] with a score each")
    return shard
