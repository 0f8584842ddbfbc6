"""Cleaner edits than a normal gives: the combination of small edits that changes little but what it should.

In W the normals of different attributes are nearly orthogonal, and still an edit along one changes the others: the
leakage is in the picture. So candidate edits (a normal on some layers only, single channels of style space) are each
drawn on a few faces and measured; then the combination of candidates is found that changes the target by one and, in
the mean of squares over these faces, the held scores, the identity and the picture least: a linear least-squares
problem.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from facelatent.boundaries.boundary import Boundary
from facelatent.boundaries.codes import GROUPS
from facelatent.boundaries.edits import draw_edited, edit, style_shift
from facelatent.boundaries.measures import IDENTITY, PICTURE, Measure, Measures, measure_faces
from facelatent.errors import InvalidFile
from facelatent.files import atomic_path
from facelatent.stylegan_ops import Generator

#: All layers.
EVERYWHERE = (4, 1 << 20)
#: Seed of the first face that candidates are tried on; benchmarks and evaluations use others.
FIRST_SEED = 3_000_000
#: Weight of the sum of squares of the coefficients beside each drift: faces are few, candidates many.
RIDGE = 0.2
#: How much more a change counts that all faces share than one in which they differ: that is what is seen as a leak.
SHARED = 3.0
#: How far candidates are pushed both ways, in their own units, and the truncation of the faces.
STRENGTH, PSI = 1.0, 0.7
_REWEIGHTINGS = 3
#: A score's change below this share of its spread over faces is noise, which nothing should be traded for.
_NEGLIGIBLE = 0.05
_SIDE = 256


@dataclass(frozen=True)
class Probes:
    """What candidate edits change on some faces, per unit of strength.

    Attributes:
        candidates: the edits.
        changes: by measure, [faces, candidates] of a score, [faces, candidates, k] of others; NaN where it failed.
        spread: standard deviation of each score over the unedited faces.
    """

    candidates: Sequence[Boundary]
    changes: dict[str, np.ndarray]
    spread: dict[str, float]

    def faces(self, names: Iterable[str]) -> np.ndarray:
        """The faces on which all of these measures are known at every candidate.

        One that fails at a single candidate says nothing of the others' combination.
        """
        known = [np.isfinite(self.changes[name]).reshape(len(self.changes[name]), -1).all(1) for name in names]
        return np.flatnonzero(np.logical_and.reduce(known))


def layer_candidates(
    boundaries: Sequence[Boundary], generator: Generator, groups: Sequence[tuple[int, int]] = GROUPS
) -> list[Boundary]:
    """Each boundary's normal on each group of layers alone, as boundaries with steps."""
    made = []
    for boundary in boundaries:
        for first, last in groups:
            if layers := generator.layers_between(first, last):
                plain = replace(boundary, steps=None, styles={})
                steps = edit(torch.zeros(1, generator.num_ws, generator.w_dim), plain, 1.0, layers)[0]
                made.append(replace(plain, steps=steps, layer_resolutions=generator.layer_resolutions))
    return made


@torch.no_grad()
def style_candidates(
    boundary: Boundary, generator: Generator, ws: np.ndarray, scores: np.ndarray, count: int = 40, ratio: float = 0.05
) -> list[Boundary]:
    """The channels of style space that differ most between codes of high and of low score, one a candidate.

    As in StyleSpace (Wu et al., 2021), differences are in standard deviations of a channel; what colours the picture
    without shaping it (the last layers of each resolution) is left out.

    Args:
        boundary: what the candidates are called and belong to.
        generator: whose style space it is.
        ws: [n, 512] codes.
        scores: [n] of the codes.
        count: how many channels.
        ratio: share of the codes at each end.
    """
    known = np.flatnonzero(np.isfinite(scores))
    order = known[np.argsort(scores[known], kind="stable")]
    each = max(int(len(order) * ratio), 2)

    def styles(rows: np.ndarray) -> dict[str, Tensor]:
        return generator.styles(generator.broadcast(torch.from_numpy(ws[rows]).to(generator.device)))

    low, high = styles(order[:each]), styles(order[-each:])
    found = []
    for name in generator.style_names:
        if name.endswith(("torgb", "to_img")):
            continue
        spread = torch.cat([low[name], high[name]]).std(0).clamp_min(1e-8)
        difference = (high[name].mean(0) - low[name].mean(0)) / spread
        found += [
            (float(abs(value)), name, index, float(value.sign() * spread[index]))
            for index, value in enumerate(difference)
        ]
    made = []
    for _, name, index, step in sorted(found, reverse=True)[:count]:
        shift = torch.zeros(low[name].shape[1])
        shift[index] = step
        made.append(replace(boundary, steps=None, styles={name: shift}))
    return made


def probe(
    generator: Generator,
    candidates: Sequence[Boundary],
    folder: Path,
    faces: int = 24,
    measure: Measure = measure_faces,
    strength: float = STRENGTH,
    psi: float = PSI,
    progress: bool = False,
) -> Probes:
    """Try every candidate, forwards and backwards, on generated faces; resumable.

    Args:
        generator: draws them.
        candidates: what to try.
        folder: where each face's measures are kept as npz; another run with the same settings goes on from there.
        faces: how many.
        measure: what is measured.
        strength: how far each candidate goes, both ways.
        psi: truncation of the faces.
        progress: show a bar.

    Raises:
        InvalidFile: a file in the folder is damaged or was made with other settings.
    """
    probe_faces(generator, candidates, folder, range(faces), measure, strength, psi, progress)
    changes, spread = {}, {}
    for name, values in _read_probes(folder, faces, _signature(generator, candidates, strength, psi)).items():
        changes[name] = (values[:, 1::2] - values[:, 2::2]) / (2 * strength)
        if values.ndim == 2:
            spread[name] = float(np.std(values[np.isfinite(values[:, 0]), 0]))
    return Probes(candidates, changes, spread)


@torch.no_grad()
def probe_faces(
    generator: Generator,
    candidates: Sequence[Boundary],
    folder: Path,
    indices: Sequence[int],
    measure: Measure = measure_faces,
    strength: float = STRENGTH,
    psi: float = PSI,
    progress: bool = False,
) -> None:
    """Measure the faces of these numbers, and keep them in ``folder`` for :func:`probe`; several processes may share.

    Those that are there already stay. Arguments and errors as of :func:`probe`.
    """
    signature = _signature(generator, candidates, strength, psi)
    for index in tqdm(indices, desc="probing", unit="face", disable=not progress):
        path = _probe_path(folder, index)
        if not path.exists():
            arrays = _probe_face(generator, candidates, FIRST_SEED + index, measure, strength, psi)
            with atomic_path(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, signature=np.array(signature), **arrays)  # type: ignore[arg-type]
        _read_probe(path, signature)


@dataclass(frozen=True)
class Mix:
    """A combination of candidates.

    Attributes:
        coefficients: [candidates] per unit of strength.
        faces: how many were measured at every candidate.
        drift: root mean square of each held measure's change, relative to that of the plain edit at the same change
            of the target, on faces that were not used in finding the combination (each left out in turn).
    """

    coefficients: np.ndarray
    faces: int
    drift: dict[str, float]


def mix(probes: Probes, plain: np.ndarray, target: str, hold: Sequence[str]) -> Mix:
    """The combination of candidates that changes ``target`` as ``plain`` does, and the held measures least.

    The measure that fares worst beside ``plain`` weighs more, so that none is bought with another; what all faces have
    in common of a change weighs more than what they do not.

    Args:
        probes: what the candidates change.
        plain: [candidates] the coefficients of the edit to better.
        target: score to change.
        hold: measures not to change; ``identity`` and ``picture`` are among them always.

    Raises:
        ValueError: ``plain`` does not change the target, a measure is not among the probes, or no face was measured at
            every candidate.
    """
    names = list(dict.fromkeys([*hold, IDENTITY, PICTURE]))
    if missing := [name for name in (target, *names) if name not in probes.changes]:
        raise ValueError(f"not measured: {', '.join(missing)} (measured: {', '.join(probes.changes)})")
    everyone = probes.faces((target, *names))
    if not len(everyone):
        raise ValueError(f"on none of {len(probes.changes[target])} faces could every candidate be measured")
    coefficients = _solve(probes, plain, target, names, everyone)
    squares: dict[str, list[np.ndarray]] = {name: [] for name in names}
    for left_out in everyone if len(everyone) > 2 else []:
        rest = everyone[everyone != left_out]
        other = _solve(probes, plain, target, names, rest)
        for name in names:
            moment = _moment(probes, name, np.array([left_out]))
            squares[name].append(np.array([other @ moment @ other, plain @ moment @ plain]))
    drift = {name: float(np.sqrt(np.divide(*np.sum(pairs, 0)))) for name, pairs in squares.items() if pairs}
    return Mix(coefficients, len(everyone), drift)


def combined(boundary: Boundary, candidates: Sequence[Boundary], coefficients: np.ndarray) -> Boundary:
    """``boundary``, edited by the combination of candidates instead of along its normal."""
    with_steps = [(one, float(c)) for one, c in zip(candidates, coefficients, strict=True) if one.steps is not None]
    steps = sum((c * one.steps for one, c in with_steps if one.steps is not None), torch.zeros(()))
    styles = style_shift((one, float(c)) for one, c in zip(candidates, coefficients, strict=True))
    return replace(
        boundary,
        steps=steps if with_steps else None,
        layer_resolutions=with_steps[0][0].layer_resolutions if with_steps else (),
        styles=styles,
        resolutions=None,
    )


def disentangle(
    boundary: Boundary,
    probes: Probes,
    hold: Sequence[str],
    plain: np.ndarray | None = None,
) -> Boundary:
    """``boundary`` edited by the best combination of the probed candidates; its report tells the expected drift.

    Args:
        boundary: whose score is to change: its ``score`` must be among the measures.
        probes: from :func:`probe`.
        hold: scores not to change.
        plain: [candidates] the edit to better; that of all candidates of the boundary's attribute if None.
    """
    if plain is None:
        plain = np.array([float(one.attribute == boundary.attribute) for one in probes.candidates])
    found = mix(probes, plain, boundary.score, hold)
    report: dict[str, Any] = {
        "hold": list(hold),
        "faces": found.faces,
        "candidates": len(probes.candidates),
        "relative_drift": {name: round(value, 4) for name, value in found.drift.items()},
    }
    made = combined(boundary, probes.candidates, found.coefficients)
    return replace(made, report={**boundary.report, "disentangled": report})


def _solve(probes: Probes, plain: np.ndarray, target: str, names: list[str], faces: np.ndarray) -> np.ndarray:
    """Coefficients that change the target's mean as ``plain`` does and least else.

    Of all c with ``g . c = g . plain`` the one of least ``c' Q c`` is along ``Q^-1 g``.
    """
    gradient = probes.changes[target][faces].mean(0)
    change = float(gradient @ plain)
    if abs(change) < 1e-9:
        raise ValueError(f"the plain edit does not change {target}: there is nothing to keep while others are held")
    moments = {}
    for name in names:
        moment = _moment(probes, name, faces, SHARED)
        least = (_NEGLIGIBLE * probes.spread.get(name, 0.0)) ** 2
        moments[name] = moment / max(float(plain @ moment @ plain), least, 1e-12)
    weights = dict.fromkeys(names, 1 / len(names))
    coefficients = plain
    for _ in range(_REWEIGHTINGS):
        cost = sum(weights[name] * moments[name] for name in names) + RIDGE * np.eye(len(plain)) / (plain @ plain)
        direction = np.linalg.solve(cost, gradient)
        coefficients = direction * change / float(gradient @ direction)
        drifts = {name: float(coefficients @ moments[name] @ coefficients) for name in names}
        weights = {name: weights[name] * max(drifts[name], 1e-6) ** 0.5 for name in names}
        total = sum(weights.values())
        weights = {name: weight / total for name, weight in weights.items()}
    return coefficients


def _moment(probes: Probes, name: str, faces: np.ndarray, shared: float = 0.0) -> np.ndarray:
    """Mean of the products of a measure's changes, [candidates, candidates]; and ``shared`` times that of the means."""
    changes = probes.changes[name][faces]
    changes = changes.reshape(*changes.shape[:2], -1)
    mean = changes.mean(0)
    result: np.ndarray = np.einsum("fck,fdk->cd", changes, changes) / len(faces) + shared * mean @ mean.T
    return result


def _probe_face(
    generator: Generator, candidates: Sequence[Boundary], seed: int, measure: Measure, strength: float, psi: float
) -> Measures:
    """Measures of one face, unedited and then at each candidate, forwards and backwards."""
    ws = generator.broadcast(generator.sample_w(seed, psi))
    side = min(_SIDE, generator.resolution)
    parts = [measure(draw_edited(generator, ws, {}, side))]
    for one in candidates:
        for alpha in (strength, -strength):
            image = draw_edited(generator, edit(ws, one, alpha), style_shift([(one, alpha)]), side)
            parts.append(measure(image))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _read_probes(folder: Path, faces: int, signature: str) -> Measures:
    """What :func:`probe_faces` measured, [faces, 1 + 2 * candidates] of a score."""
    measured = [_read_probe(_probe_path(folder, index), signature) for index in range(faces)]
    return {name: np.stack([face[name] for face in measured]) for name in measured[0]}


def _probe_path(folder: Path, index: int) -> Path:
    return folder / f"probe-{index:04d}.npz"


def _signature(generator: Generator, candidates: Sequence[Boundary], strength: float, psi: float) -> str:
    return f"{generator.fingerprint} psi={psi} strength={strength} candidates={_digest(candidates)}"


def _read_probe(path: Path, signature: str) -> Measures:
    try:
        with np.load(path, allow_pickle=False) as arrays:
            stored = {name: arrays[name] for name in arrays.files}
    except (zipfile.BadZipFile, EOFError, ValueError, OSError) as error:
        raise InvalidFile(f"{path} is damaged ({error}); delete it, and it is made again") from error
    if str(stored.pop("signature", "")) != signature:
        raise InvalidFile(f"{path} was made with other candidates or settings; use another folder")
    return stored


def _digest(candidates: Sequence[Boundary]) -> str:
    digest = hashlib.sha256()
    for one in candidates:
        parts = {"steps": one.steps, **one.styles}
        for name, part in sorted(parts.items()):
            if part is not None:
                digest.update(name.encode())
                digest.update(part.float().numpy().tobytes())
    return digest.hexdigest()[:16]
