"""Codes with scores, as npz files hold them: what boundaries are fitted to."""

from __future__ import annotations

import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facelatent.errors import InvalidFile

#: Below this score of dlib's detector a face is doubtful: turned far away, covered, or torn.
LEAST_DETECTION = 0.3
#: First and last resolutions of layers that go together in W+: what is coarse differs from what is fine, 64 px and
#: above hardly.
GROUPS = ((4, 4), (8, 8), (16, 16), (32, 32), (64, 1 << 20))
#: Arrays of a file that are no scores: what it was made with, what measured each score, and the codes.
FACTS = ("signature", "scorers", "w")


@dataclass(frozen=True)
class ScoredCodes:
    """Codes as drawn (truncated at ``psi``), and scores [n] by attribute, NaN where no face was found.

    Attributes:
        ws: [n, 512], one code a face; or mixed ones [n, 5, 512], one for the layers of each of :data:`GROUPS`.
        scores: [n] by attribute.
    """

    ws: np.ndarray
    scores: dict[str, np.ndarray]

    def doubtful(self, least: float = LEAST_DETECTION) -> np.ndarray:
        """Which [n] pictures show no face, or one that the detector is less sure of than ``least``.

        Raises:
            InvalidFile: the faces were not scored by ``quality``.
        """
        if "detection" not in self.scores:
            raise InvalidFile("these codes carry no score 'detection'; sample them again with the scorer 'quality'")
        return ~(self.scores["detection"] >= least)

    def reliable(self, least: float = LEAST_DETECTION) -> ScoredCodes:
        """The codes that are not :meth:`doubtful`; errors likewise."""
        rows = ~self.doubtful(least)
        return ScoredCodes(self.ws[rows], {name: values[rows] for name, values in self.scores.items()})


def read_codes(folder: Path, limit: int | None = None) -> ScoredCodes:
    """The codes of all npz files in a folder, by name: arrays ``w`` [n, 512] or mixed [n, 5, 512], and one [n] a score.

    Args:
        folder: as :func:`~facelatent.boundaries.sampling.make_shards` fills it, or anybody else; a ``signature``, if
            files have one, must be the same in all.
        limit: only the first so many.

    Raises:
        InvalidFile: there are none, one is damaged, or they do not belong together.
    """
    shards: list[dict[str, np.ndarray]] = []
    for path in sorted(folder.glob("*.npz")):
        if limit is not None and sum(len(shard["w"]) for shard in shards) >= limit:
            break
        shards.append(read_shard(path))
        first, last = (set(shard) for shard in (shards[0], shards[-1]))
        if first != last or signature_of(shards[0]) != signature_of(shards[-1]):
            raise InvalidFile(f"{path} was made with other settings than the files before it; use another folder")
    if not shards:
        raise InvalidFile(f"{folder} has no .npz of scored codes; 'facelatent attributes sample' makes them")
    ws = np.concatenate([shard["w"] for shard in shards])[:limit]
    names = [name for name in shards[0] if name not in FACTS]
    return ScoredCodes(ws, {name: np.concatenate([shard[name] for shard in shards])[:limit] for name in names})


def read_shard(path: Path) -> dict[str, np.ndarray]:
    """The arrays of one file: :data:`FACTS`, of which only ``w`` has to be there, and scores [n].

    Raises:
        InvalidFile: it is damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            shard = {name: file[name] for name in file.files}
    except (zipfile.BadZipFile, zlib.error, EOFError, ValueError, OSError, AttributeError) as error:
        raise InvalidFile(f"{path} is damaged ({error}); delete it, and it is made again") from error
    scores = [values for name, values in shard.items() if name not in FACTS]
    codes = shard.get("w", np.empty(0))
    if codes.ndim not in (2, 3) or any(values.shape != codes.shape[:1] for values in scores):
        raise InvalidFile(f"{path} holds no scored codes; use another folder")
    return shard


def signature_of(shard: dict[str, np.ndarray]) -> str:
    """What a file's codes were made with; empty if it does not say."""
    return str(shard.get("signature", "")).split(" scores=")[0]  # facelatent 0.1 named the attributes too
