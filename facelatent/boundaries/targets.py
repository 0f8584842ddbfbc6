"""Strengths at which scores are what is asked for: ``age = 40``, and the others as they were."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from facelatent.boundaries.boundary import Boundary
from facelatent.boundaries.edits import draw_edited, edit, edit_layers, style_shift
from facelatent.boundaries.measures import Measures
from facelatent.errors import NoFaceFound
from facelatent.stylegan_ops import Generator

#: How near a score must come: years, CIE L* and the like; most scores lie within about 0 to 1.
TOLERANCES = {"age": 0.5, "glasses": 0.3, "blondness": 2.0, "skin_lightness": 1.0, "light_from_right": 1.0}
TOLERANCE = 0.02
#: Strengths beyond which faces fall apart, and how far a held attribute may be pushed against its drift.
LIMIT, HELD_LIMIT = 6.0, 2.0
_EVALUATIONS = 10
_SIDE = 256


@dataclass(frozen=True)
class Goal:
    """An attribute whose score is to become something.

    Attributes:
        boundary: what to move along.
        value: the score to reach; None for what it is before the edit.
        layers: W+ layers to move; None for the boundary's own.
    """

    boundary: Boundary
    value: float | None = None
    layers: Sequence[int] | None = None


@dataclass(frozen=True)
class Reached:
    """What was found for each goal, in their order.

    Attributes:
        alphas: strengths.
        scores: that they give.
        wanted: scores that were to be reached.
        missed: whether no strength within the limits comes near.
    """

    alphas: list[float]
    scores: list[float]
    wanted: list[float]
    missed: list[bool]


@torch.no_grad()
def reach(
    generator: Generator,
    ws: Tensor,
    goals: Sequence[Goal],
    measure: Callable[[Tensor], Measures],
    drawing: Generator | None = None,
    fixed: Sequence[tuple[Boundary, float, Sequence[int]]] = (),
    sweeps: int = 2,
) -> Reached:
    """Find strengths at which every goal's score has its value, one after the other by bisection, ``sweeps`` times.

    Args:
        generator: what the boundaries belong to.
        ws: [1, num_ws, 512] one face.
        goals: attributes to bring to a score, and to hold.
        measure: gives the goals' scores of pictures, e.g. :func:`~facelatent.boundaries.score_faces`.
        drawing: draws the face, if not ``generator``: one that was tuned to it.
        fixed: edits that are made in any case: boundary, strength and layers of each.
        sweeps: how often each goal's strength is sought, the others' being what they were found last.

    Raises:
        NoFaceFound: the unedited face cannot be scored.
        KeyError: a goal's score is not among what ``measure`` gives.
    """
    side = min(_SIDE, generator.resolution)
    layers = [edit_layers(goal.boundary, generator) if goal.layers is None else list(goal.layers) for goal in goals]

    def scores_of(edits: Sequence[tuple[Boundary, float, Sequence[int]]]) -> Mapping[str, float]:
        moved = ws.to(generator.device)
        for boundary, alpha, own in edits:
            moved = edit(moved, boundary, alpha, own)
        pairs = [(boundary, alpha) for boundary, alpha, _ in edits]
        measured = measure(draw_edited(drawing or generator, moved, style_shift(pairs), side))
        return {goal.boundary.score: float(measured[goal.boundary.score][0]) for goal in goals}

    def scores_at(alphas: Sequence[float]) -> Mapping[str, float]:
        own = [(goal.boundary, alpha, part) for goal, alpha, part in zip(goals, alphas, layers, strict=True)]
        return scores_of([*fixed, *own])

    alphas = [0.0] * len(goals)
    before = scores_of(())
    if not np.isfinite(list(before.values())).all():
        raise NoFaceFound(
            "no face was found in the unedited picture: its scores cannot be brought to a value; give strengths instead"
        )
    wanted = [before[goal.boundary.score] if goal.value is None else goal.value for goal in goals]
    for _ in range(sweeps if len(goals) > 1 else 1):
        for index, goal in enumerate(goals):

            def score(alpha: float, index: int = index, name: str = goal.boundary.score) -> float:
                return scores_at([alpha if place == index else own for place, own in enumerate(alphas)])[name]

            limit = LIMIT if goal.value is not None else HELD_LIMIT
            alphas[index] = _bisected(score, wanted[index], alphas[index], limit, _tolerance(goal.boundary.score))
    after = scores_at(alphas)
    names = [goal.boundary.score for goal in goals]
    missed = [not abs(after[name] - value) <= 3 * _tolerance(name) for name, value in zip(names, wanted, strict=True)]
    return Reached(alphas, [after[name] for name in names], wanted, missed)


def _tolerance(score: str) -> float:
    return TOLERANCES.get(score, TOLERANCE)


def _bisected(score: Callable[[float], float], wanted: float, start: float, limit: float, tolerance: float) -> float:
    """The strength within ``limit`` whose score is nearest ``wanted``: steps that double, then halves between two.

    Where a picture has no face any more, the strength counts as too far.
    """
    value = score(start)
    tried = [(abs(value - wanted), start)]
    if tried[0][0] <= tolerance:
        return start
    upwards = value < wanted
    near, far, step = start, None, 0.5 if upwards else -0.5
    for _ in range(_EVALUATIONS):
        alpha = float(np.clip(near + step, -limit, limit)) if far is None else (near + far) / 2
        value = score(alpha)
        beyond = not np.isfinite(value) or (value > wanted) == upwards
        if np.isfinite(value):
            tried.append((abs(value - wanted), alpha))
        if tried[-1][0] <= tolerance or (far is None and not beyond and abs(alpha) == limit):
            break
        if beyond:
            far = alpha
        else:
            near, step = alpha, 2 * step
    return min(tried)[1]
