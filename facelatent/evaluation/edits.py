"""Whether edits still work on an inverted face: what they change, against what they change on generated faces."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from facelatent.boundaries import SCORERS, Boundary, load_boundary, locate_faces
from facelatent.editing import AttributeEdit, draw
from facelatent.evaluation.cases import Source, generated_cases
from facelatent.evaluation.consistency import Inverted
from facelatent.faces import identity
from facelatent.images import to_arrays, to_tensor
from facelatent.stylegan_ops import Generator

#: Attributes whose edits are tried, and the score that each is meant to change.
PROBED = {"smile": "happy", "age": "age", "yaw": "yaw"}
#: Strengths at which they are tried, in standard deviations.
ALPHAS = (-2.0, 2.0)
#: Seed of the first generated face whose edits photos are compared with, and how many there are.
REFERENCE_SEED, REFERENCE_FACES = 1_500_000, 16
#: Side at which edited faces are scored.
SCORING_SIDE = 256


@dataclass(frozen=True)
class Probe:
    """An edit that is tried, and the score of :data:`facelatent.boundaries.SCORERS` by which it is judged."""

    boundary: Boundary
    score: str


@dataclass(frozen=True)
class EditEffect:
    """What one edit did to one face.

    Attributes:
        attribute: which was edited.
        alpha: how strongly.
        change: of its score; None where dlib finds no face before or after.
        identity: distance of the edited face from the source picture, None likewise.
    """

    attribute: str
    alpha: float
    change: float | None
    identity: float | None


@dataclass(frozen=True)
class EditSummary:
    """What one edit does to inverted faces, and to generated ones.

    Attributes:
        edit: e.g. ``smile +2``, or ``smile -2 to +2``, the whole way.
        change: of the score, mean over the inverted faces.
        generated: mean over generated faces: of the codes that drew the pictures, or other faces' for photos.
        ratio: the first by the second; 1 means that inversion cost nothing.
        identity: mean distance of the edited from the source picture; None for the whole way.
        identity_generated: of generated faces, likewise.
        count: inverted faces that were scored.
    """

    edit: str
    change: float
    generated: float
    ratio: float
    identity: float | None
    identity_generated: float | None
    count: int


def load_probes(generator: Generator) -> list[Probe]:
    """The shipped boundaries of :data:`PROBED`.

    Raises:
        IncompatibleLatent: they belong to another W space than the generator's.
    """
    return [Probe(load_boundary(attribute, generator), score) for attribute, score in PROBED.items()]


def probe_edits(probes: Sequence[Probe], alphas: Sequence[float] = ALPHAS) -> list[tuple[Probe, AttributeEdit]]:
    """Every probe at every strength."""
    return [(probe, AttributeEdit(probe.boundary, alpha)) for probe in probes for alpha in alphas]


def edit_effects(
    source: Image.Image, inverted: Inverted, probes: Sequence[Probe]
) -> tuple[list[EditEffect], list[Image.Image]]:
    """What each edit of :func:`probe_edits` does to a face, and its pictures at 256 px.

    Args:
        source: the face as it was, of any size: identity is compared with it.
        inverted: its code.
        probes: what to try.
    """
    edits = probe_edits(probes)
    codes = [inverted.ws, *(edit.apply(inverted.ws, inverted.generator) for _, edit in edits)]
    side = min(SCORING_SIDE, inverted.generator.resolution)
    drawn = draw(inverted.generator, torch.cat(codes), side)
    original = source.resize((side, side), Image.Resampling.BOX)
    scores, people = _looked_at([original, *drawn], {probe.score for probe in probes})
    effects = []
    for index, (probe, edit) in enumerate(edits, 2):
        change = _known(float(scores[probe.score][index] - scores[probe.score][1]))
        distance = _known(float(np.linalg.norm(people[index] - people[0])))
        effects.append(EditEffect(probe.boundary.attribute, edit.alpha, change, distance))
    return effects, drawn[1:]


def generated_effects(
    generator: Generator,
    probes: Sequence[Probe],
    count: int = REFERENCE_FACES,
    psi: float = 0.8,
    progress: bool = False,
) -> list[list[EditEffect]]:
    """:func:`edit_effects` on generated faces that nobody inverted: what photos are compared with."""
    cases = generated_cases(generator, count, REFERENCE_SEED, psi)
    sources = (case.load() for case in tqdm(cases, desc="editing generated faces", unit="face", disable=not progress))
    return [own_effects(source, generator, probes) for source in sources]


def own_effects(source: Source, generator: Generator, probes: Sequence[Probe]) -> list[EditEffect]:
    """What edits do to a generated face by the code that drew it; nothing is known of a photo."""
    if source.ws is None:
        return []
    return edit_effects(source.image, Inverted(source.ws, generator), probes)[0]


def summarise_edits(
    inverted: Sequence[Sequence[EditEffect]], generated: Sequence[Sequence[EditEffect]], paired: bool = False
) -> list[EditSummary]:
    """Means over faces: one row an edit, and one for each attribute from its lowest strength to its highest.

    An edit that could be scored on no inverted or on no generated face has no row.

    Args:
        inverted: effects on each inverted face.
        generated: effects on each generated face.
        paired: they are the same faces in the same order: one that could not be scored in both counts in neither.
    """
    ours, theirs = ([_by_name(face) for face in faces] for faces in (inverted, generated))
    rows = []
    for name in dict.fromkeys(name for face in ours for name in face):
        found, expected = ([face[name] for face in faces if name in face] for faces in (ours, theirs))
        if paired:
            both = [(a, b) for a, b in zip(found, expected, strict=True) if None not in (a.change, b.change)]
            found, expected = [a for a, _ in both], [b for _, b in both]
        changes = [effect.change for effect in found if effect.change is not None]
        wanted = _mean(effect.change for effect in expected)
        if changes and wanted:
            change = statistics.fmean(changes)
            identities = [_mean(effect.identity for effect in effects) for effects in (found, expected)]
            rows.append(EditSummary(name, change, wanted, change / wanted, identities[0], identities[1], len(changes)))
    return rows


def edit_table(rows: Sequence[EditSummary]) -> str:
    """Edits as aligned text."""
    lines = [f"{'':<20}{'change':>10}{'generated':>11}{'ratio':>8}{'identity':>10}{'generated':>11}{'faces':>7}"]
    for row in rows:
        line = f"{row.edit:<20}{row.change:>10.3f}{row.generated:>11.3f}{row.ratio:>8.2f}"
        lines.append(f"{line}{_cell(row.identity):>10}{_cell(row.identity_generated):>11}{row.count:>7}")
    return "\n".join(lines)


def _looked_at(images: list[Image.Image], wanted: set[str]) -> tuple[dict[str, np.ndarray], list[np.ndarray]]:
    """Scores [n] by name, and an identity embedding [128] each; NaN where dlib finds no face."""
    tensors = to_tensor(images)
    faces = locate_faces(tensors)
    scores: dict[str, np.ndarray] = {}
    for scorer in SCORERS:
        if wanted & set(scorer.attributes):
            scores |= scorer.score(tensors, faces)
    arrays = to_arrays(tensors)
    people = [
        np.full(128, np.nan) if face is None else identity(array, face)
        for array, face in zip(arrays, faces, strict=True)
    ]
    return scores, people


def _by_name(face: Sequence[EditEffect]) -> dict[str, EditEffect]:
    """A face's effects by what tables call them, with the whole way of each attribute after its edits."""
    named: dict[str, EditEffect] = {}
    for attribute in dict.fromkeys(effect.attribute for effect in face):
        effects = sorted((effect for effect in face if effect.attribute == attribute), key=lambda one: one.alpha)
        named |= {f"{attribute} {effect.alpha:+g}": effect for effect in effects}
        low, high = effects[0], effects[-1]
        way = None if low.change is None or high.change is None else high.change - low.change
        named[f"{attribute} {low.alpha:+g} to {high.alpha:+g}"] = EditEffect(attribute, high.alpha, way, None)
    return named


def _mean(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return statistics.fmean(known) if known else None


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
