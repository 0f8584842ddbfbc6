"""What directions change in pictures: their own score, every other one, who it is; beside published ones in one run."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from facelatent.boundaries import (
    Boundary,
    draw_edited,
    edit,
    edit_layers,
    load_boundary,
    published_names,
    shipped_boundaries,
    style_shift,
)
from facelatent.boundaries.measures import IDENTITY, PICTURE, Measure, Measures, measure_faces
from facelatent.boundaries.published import SUFFIXES
from facelatent.editing import edit_strip
from facelatent.errors import InvalidFile
from facelatent.stylegan_ops import Generator

#: Change of a score at which directions are compared; of scores not named here, a standard deviation over the faces.
TARGETS = {"happy": 0.30, "age": 20.0, "yaw": 0.25, "male": 0.30}
#: Scores of attributes by the names that published files give them.
ALIASES = {"pose": "yaw", "smile": "happy", "gender": "male", "Smiling": "happy", "Male": "male"}
#: Strengths at which every direction is tried, in standard deviations.
STRENGTHS = (-3.0, -2.0, -1.0, 1.0, 2.0, 3.0)
#: Seed of the first face; nothing was trained on these.
FIRST_SEED = 4_000_000

_SIDE, _BATCH = 256, 4
_SEARCHES, _NEAR, _STRONGEST = 6, 0.015, 10.0


@dataclass(frozen=True)
class Direction:
    """An edit to be measured.

    Attributes:
        label: what tables call it, e.g. ``smile`` or ``smile (published)``.
        boundary: the edit.
        score: what it is meant to change.
    """

    label: str
    boundary: Boundary
    score: str


@dataclass(frozen=True)
class Matched:
    """An edit at the strength at which it has changed its own score by the target, on average.

    Attributes:
        strength: in standard deviations, negative where the direction is the other way round.
        change: of its own score, mean; the target, or less where that is out of reach.
        changes: mean change of every score.
        drift: mean absolute change of every score, identity (mean distance) and picture (mean absolute difference).
        dependency: attribute dependency (Wu et al., StyleSpace, 2021): mean absolute change of the other scores, each
            in its standard deviations over the unedited faces.
        success: share of the faces whose own score changed by at least half the target.
    """

    strength: float
    change: float
    changes: dict[str, float]
    drift: dict[str, float]
    dependency: float
    success: float


@dataclass(frozen=True)
class DirectionResult:
    """What one direction does.

    Attributes:
        label, attribute, score: of the direction.
        target: change of its own score at which it is compared.
        per_sd: mean change of every score from strength -1 to 1, halved: a row of the re-scoring matrix.
        strengths: those tried, 0 among them.
        curve: mean change of its own score at each.
        identity: mean identity distance at each.
        monotonicity: share of neighbouring strengths, over all faces, between which its own score rose.
        matched: see :class:`Matched`.
    """

    label: str
    attribute: str
    score: str
    target: float
    per_sd: dict[str, float]
    strengths: list[float]
    curve: list[float]
    identity: list[float]
    monotonicity: float
    matched: Matched


def own_direction(name_or_file: str, generator: Generator) -> Direction:
    """A boundary by name or file, judged by the score that it was fitted to; errors as ``load_boundary``."""
    boundary = load_boundary(name_or_file, generator)
    return Direction(boundary.attribute, boundary, _score_of(boundary))


def published_directions(path: Path, generator: Generator, wanted: Sequence[str]) -> list[Direction]:
    """The directions of a file, or of a folder's files, that are meant to change one of the ``wanted`` scores.

    Raises:
        InvalidFile: there are none.
    """
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    names = [name for file in files if file.suffix.lower() in SUFFIXES for name in published_names(file)]
    own = [str(file) for file in files if file.name.endswith(".boundary.safetensors")]
    found = [own_direction(name, generator) for name in (*names, *own)]
    chosen = [replace(one, label=f"{one.label} ({path.stem})") for one in found if one.score in wanted]
    if not chosen:
        raise InvalidFile(
            f"{path} has no direction for {', '.join(wanted)} (it has {', '.join(names + own) or 'none'})"
        )
    return chosen


@torch.no_grad()
def evaluate_directions(
    generator: Generator,
    directions: Sequence[Direction],
    measure: Measure = measure_faces,
    faces: int = 40,
    psi: float = 0.7,
    first_seed: int = FIRST_SEED,
    targets: Mapping[str, float] | None = None,
    progress: bool = False,
) -> list[DirectionResult]:
    """Try directions on the same generated faces; one that changes its score the wrong way round is turned.

    Args:
        generator: draws the faces.
        directions: what to try.
        measure: scores, ``identity`` [n, k] and ``picture`` [n, k] of pictures, as
            :func:`~facelatent.boundaries.measure_faces` gives; by other scorers than the boundaries were fitted to
            where there are some.
        faces: how many.
        psi: their truncation.
        first_seed: of the first.
        targets: change of each score at which directions are compared, beside :data:`TARGETS`.
        progress: show a bar.

    Raises:
        ValueError: a direction's score is not measured.
    """
    codes = [generator.broadcast(generator.sample_w(first_seed + index, psi)) for index in range(faces)]
    trial = _Trial(generator, torch.cat(codes), measure)
    before = trial.at(directions[0], 0.0)
    if missing := {one.score for one in directions} - before.keys():
        raise ValueError(f"not measured: {', '.join(sorted(missing))} (measured: {', '.join(before)})")
    spread = {name: float(np.nanstd(values)) for name, values in before.items() if values.ndim == 1}
    goals = {**spread, **TARGETS, **(targets or {})}
    bar = tqdm(directions, desc="measuring", unit="direction", disable=not progress)
    return [_evaluated(trial, one, before, spread, goals[one.score]) for one in bar]


@dataclass(frozen=True)
class _Trial:
    generator: Generator
    ws: Tensor
    measure: Measure

    def at(self, direction: Direction, alpha: float) -> Measures:
        """Measures of all faces at one strength of a direction."""
        side = min(_SIDE, self.generator.resolution)
        moved = edit(self.ws, direction.boundary, alpha, edit_layers(direction.boundary, self.generator))
        shift = style_shift([(direction.boundary, alpha)]) if alpha else {}
        parts = [self.measure(draw_edited(self.generator, part, shift, side)) for part in torch.split(moved, _BATCH)]
        return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _evaluated(
    trial: _Trial, direction: Direction, before: Measures, spread: dict[str, float], target: float
) -> DirectionResult:
    own = direction.score
    tried = {0.0: before} | {alpha: trial.at(direction, alpha) for alpha in STRENGTHS}
    strengths = sorted(tried)
    if _mean(tried[1.0][own] - tried[-1.0][own]) < 0:
        strengths = strengths[::-1]
    values = np.stack([tried[alpha][own] for alpha in strengths])
    rises = np.diff(values, axis=0)
    curve = [_mean(row - before[own]) for row in values]
    return DirectionResult(
        direction.label,
        direction.boundary.attribute,
        own,
        target,
        {name: _mean(tried[1.0][name] - tried[-1.0][name]) / 2 for name in spread},
        strengths,
        curve,
        [_distance(before, tried[alpha]) for alpha in strengths],
        float(np.mean(rises[np.isfinite(rises)] > 0)),
        _matched(trial, direction, before, spread, target, strengths, curve),
    )


def _matched(
    trial: _Trial,
    direction: Direction,
    before: Measures,
    spread: dict[str, float],
    target: float,
    strengths: list[float],
    curve: list[float],
) -> Matched:
    own = direction.score

    def gain(alpha: float) -> tuple[float, Measures]:
        after = trial.at(direction, alpha)
        return _mean(after[own] - before[own]), after

    strength, change, after = push(gain, target, strengths, curve)
    moved = {name: after[name] - before[name] for name in spread}
    drift = {name: _mean(np.abs(difference)) for name, difference in moved.items()}
    others = [drift[name] / spread[name] for name in spread if name != own and spread[name] > 0]
    known = moved[own][np.isfinite(moved[own])]
    drift |= {IDENTITY: _distance(before, after), PICTURE: float(np.mean(np.abs(after[PICTURE] - before[PICTURE])))}
    return Matched(
        strength,
        change,
        {name: _mean(difference) for name, difference in moved.items()},
        drift,
        float(np.mean(others)) if others else 0.0,
        float(np.mean(known >= target / 2)),
    )


def push(
    gain: Callable[[float], tuple[float, Measures]], target: float, strengths: Sequence[float], curve: Sequence[float]
) -> tuple[float, float, Measures]:
    """The strength at which a mean score has changed by ``target`` (to 1.5 %), that change, what was measured.

    Args:
        gain: change and measures at a strength.
        target: positive.
        strengths: tried before, from the least change to the most, 0 among them.
        curve: the changes at those.

    Where the target is out of reach, the nearest strength up to 10 is returned.
    """
    sign = 1.0 if strengths[-1] > 0 else -1.0
    low, low_gain, high, high_gain = 0.0, 0.0, math.inf, math.inf
    for strength, change in zip(strengths, curve, strict=True):
        size = sign * strength
        if size > low and change < target and high == math.inf:
            low, low_gain = size, change
        elif size > 0 and change >= target and high == math.inf:
            high, high_gain = size, change
    tried = []
    for _ in range(_SEARCHES):
        if high == math.inf:
            size = min(max(low, 0.5) * 1.5, _STRONGEST)
        else:
            share = (target - low_gain) / max(high_gain - low_gain, 1e-9)
            size = low + (high - low) * min(max(share, 0.1), 0.9)
        change, after = gain(sign * size)
        if math.isnan(change):  # no picture has a face any more: far too strong
            high, high_gain = size, 2 * target
            continue
        tried.append((abs(change - target), sign * size, change, after))
        if tried[-1][0] < _NEAR * target or (change < target and size >= _STRONGEST):
            break
        low, low_gain = (size, change) if change < target else (low, low_gain)
        high, high_gain = (size, change) if change >= target else (high, high_gain)
    if not tried:
        change, after = gain(sign * low)
        return sign * low, change, after
    _, strength, change, after = min(tried, key=lambda one: one[0])
    return strength, change, after


def matrix_table(results: Sequence[DirectionResult], scores: Sequence[str] | None = None) -> str:
    """Directions as aligned text: drift at the matched change, its own score's mean change marked with a star.

    ``scores`` says which have a column, all if None; identity has one in any case.
    """
    columns = [*(scores or results[0].per_sd), IDENTITY]
    width = max(len(one.label) for one in results) + 2
    lines = [
        f"{'':<{width}}" + "".join(f"{name[:10]:>11}" for name in ("strength", *columns, "AD", "success", "rises"))
    ]
    for one in results:
        matched = one.matched
        cells = [f"{matched.strength:.2f}"]
        for name in columns:
            cells.append(f"*{matched.change:+.3f}" if name == one.score else f"{matched.drift[name]:.3f}")
        cells += [f"{matched.dependency:.3f}", f"{matched.success:.2f}", f"{one.monotonicity:.2f}"]
        lines.append(f"{one.label:<{width}}" + "".join(f"{cell:>11}" for cell in cells))
    return "\n".join(lines)


def heat_map(results: Sequence[DirectionResult], spread: Mapping[str, float] | None = None) -> Image.Image:
    """The re-scoring matrix at matched change as a picture: rows directions, columns scores; red up, blue down.

    A cell is the mean change of a score relative to the largest in its column, or in its ``spread`` if given.
    """
    columns = list(results[0].per_sd)
    scale = {
        name: (spread or {}).get(name) or max(abs(one.matched.changes[name]) for one in results) for name in columns
    }
    left, top, wide, high = 12 + 7 * max(len(one.label) for one in results), 24, 84, 26
    image = Image.new("RGB", (left + wide * len(columns), top + high * len(results)), "white")
    painter = ImageDraw.Draw(image)
    for column, name in enumerate(columns):
        painter.text((left + wide * column + 4, 6), name[:13], fill="black")
        for row, one in enumerate(results):
            change = one.matched.changes[name]
            x, y = left + wide * column, top + high * row
            painter.rectangle((x, y, x + wide - 2, y + high - 2), fill=_colour(change / (scale[name] or 1.0)))
            painter.text((x + 4, y + 6), f"{change:+.3g}" + ("*" if name == one.score else ""), fill="black")
    for row, one in enumerate(results):
        painter.text((6, top + high * row + 6), one.label, fill="black")
    return image


def strips(
    generator: Generator, boundary: Boundary, people: int = 6, psi: float = 0.7, first_seed: int = FIRST_SEED
) -> Image.Image:
    """A strip of an attribute's strengths for each of some people, one below the other."""
    alphas = (-3.0, -1.5, 0.0, 1.5, 3.0)
    rows = []
    for index in range(people):
        with torch.no_grad():
            ws = generator.broadcast(generator.sample_w(first_seed + index, psi))
        rows.append(edit_strip(generator, ws, boundary, alphas, size=192))
    sheet = Image.new("RGB", (rows[0].width, sum(row.height for row in rows)), "white")
    for index, row in enumerate(rows):
        sheet.paste(row, (0, index * row.height))
    return sheet


def record(value: Any) -> Any:
    """A result as JSON takes it: NaN becomes null."""
    if isinstance(value, dict):
        return {key: record(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [record(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _score_of(boundary: Boundary) -> str:
    if "score" in boundary.report:
        return boundary.score
    shipped = shipped_boundaries()
    name = boundary.attribute
    return ALIASES.get(name) or (load_boundary(name).score if name in shipped else name)


def _mean(values: np.ndarray) -> float:
    """Mean of what is known, NaN if nothing is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else math.nan


def _distance(before: Measures, after: Measures) -> float:
    return _mean(np.linalg.norm(after[IDENTITY] - before[IDENTITY], axis=1))


def _colour(share: float) -> tuple[int, int, int]:
    """White at 0, red at 1, blue at -1."""
    pale = round(255 * (1 - min(abs(share), 1) * 0.75))
    return (255, pale, pale) if share > 0 else (pale, pale, 255)
