"""From scored codes to a boundary: the steps of ``facelatent attributes train``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from facelatent.boundaries.boundary import Boundary
from facelatent.boundaries.codes import ScoredCodes
from facelatent.boundaries.disentangle import EVERYWHERE, disentangle, layer_candidates, probe, style_candidates
from facelatent.boundaries.edits import held
from facelatent.boundaries.fitting import Method, fit_boundary
from facelatent.boundaries.loading import load_boundary, shipped_boundaries
from facelatent.boundaries.measures import Measure, measure_faces
from facelatent.boundaries.mixed import fit_mixed, mixed_candidates
from facelatent.errors import IncompatibleLatent, UnknownAttribute
from facelatent.stylegan_ops import Generator

#: Where an edit acts: one normal for all layers, a direction a layer, single channels of style space.
Space = Literal["w", "w+", "s"]
SPACES: tuple[str, ...] = get_args(Space)


@dataclass(frozen=True)
class TrainSettings:
    """How a boundary is made.

    Attributes:
        ratio, held_out, seed, method: as :func:`~facelatent.boundaries.fit_boundary` takes them.
        hold: attributes or scores that an edit should leave alone.
        space: where the edit acts. In "w" what is held is projected out of the normal; in "w+" and "s" candidate edits
            are drawn and measured, which takes minutes, and combined so that they change what is held least.
        faces: how many faces candidates are tried on.
        channels: of "s", how many candidates.
    """

    ratio: float = 0.02
    held_out: float = 0.3
    seed: int = 0
    method: Method = "svm"
    hold: tuple[str, ...] = ()
    space: Space = "w"
    faces: int = 24
    channels: int = 40


def train_boundary(
    attribute: str,
    score: str,
    codes: ScoredCodes,
    generator: Generator,
    settings: TrainSettings | None = None,
    probes: Path | None = None,
    measure: Measure = measure_faces,
    progress: bool = False,
    mixed: ScoredCodes | None = None,
) -> Boundary:
    """Fit a boundary to scored codes, and make its edit leave alone what is to be held.

    Args:
        attribute: name of the result.
        score: of the codes' scores, what it is fitted to.
        codes: of ``generator``.
        generator: draws the faces that candidates are tried on.
        settings: how.
        probes: folder in which measured faces are kept, so that a stopped run goes on; needed but for space "w".
        measure: gives the score and the held ones of pictures.
        progress: show bars.
        mixed: codes of faces whose groups of layers differ: with them, the candidates of space "w+" are what each group
            does to a score, instead of the normals on each group.

    Raises:
        UnknownAttribute: a score is not among the codes', or nothing is known of what is to be held.
        ValueError: too few codes for the ratio, or no ``probes``.
    """
    chosen = settings or TrainSettings()
    known = _known(generator)
    own = plain_boundary(attribute, score, codes, generator, chosen, known)
    others = [
        known[name] if name in known else plain_boundary(name, name, codes, generator, chosen) for name in chosen.hold
    ]
    if chosen.space == "w":
        made = held(own, others)
        # Projection turns the normal: the intercept keeps the plane where it was among the codes.
        shift = float(np.mean(codes.ws @ (own.normal - made.normal).numpy()))
        report = {**own.report, "hold": list(chosen.hold), "space": "w"}
        std = generator.std_along(made.normal)
        return replace(made, intercept=own.intercept + shift, std=std, report=report)
    if probes is None:
        raise ValueError(f"space {chosen.space} needs a folder for probes")
    plain: np.ndarray | None = None
    if chosen.space == "s":
        candidates = style_candidates(own, generator, codes.ws, codes.scores[score], chosen.channels)
    elif mixed is None:
        candidates = layer_candidates([own, *others], generator)
    else:
        candidates = layer_candidates([own], generator, (EVERYWHERE,))
        for one in (own, *others):
            candidates += mixed_candidates(one, fit_mixed(mixed.ws, _scores(one.score, mixed)).slopes, generator)
        plain = np.eye(len(candidates))[0]
    probed = probe(generator, candidates, probes, chosen.faces, measure, progress=progress)
    made = disentangle(own, probed, [other.score for other in others], plain)
    return replace(made, report={**made.report, "space": chosen.space})


def plain_boundary(
    attribute: str,
    score: str,
    codes: ScoredCodes,
    generator: Generator,
    settings: TrainSettings,
    known: dict[str, Boundary] | None = None,
) -> Boundary:
    """Fit a boundary to a score of ``codes``, as one of ``generator``; see :func:`train_boundary` for the arguments.

    Raises:
        UnknownAttribute: the codes have no such score.
        ValueError: too few codes for the ratio.
    """
    fitted = fit_boundary(
        codes.ws,
        _scores(score, codes),
        settings.ratio,
        settings.held_out,
        settings.seed,
        attribute,
        method=settings.method,
        known=known,
    )
    return replace(
        fitted,
        std=generator.std_along(fitted.normal),
        generator=generator.name,
        fingerprint=generator.fingerprint,
        w_space=generator.w_space,
        report={"score": score, **fitted.report},
    )


def _scores(name: str, codes: ScoredCodes) -> np.ndarray:
    if name not in codes.scores:
        raise UnknownAttribute(f"unknown score {name!r} (the codes have: {', '.join(sorted(codes.scores))})")
    return codes.scores[name]


def _known(generator: Generator) -> dict[str, Boundary]:
    """The shipped boundaries that are of this W space."""
    found: dict[str, Boundary] = {}
    for name in shipped_boundaries():
        try:
            found[name] = load_boundary(name, generator)
        except IncompatibleLatent:
            continue
    return found


def score_of(attribute: str, codes: ScoredCodes) -> str:
    """The score that an attribute is named after: a shipped one's, or that of its own name."""
    shipped: Sequence[str] = list(shipped_boundaries())
    return load_boundary(attribute).score if attribute in shipped and attribute not in codes.scores else attribute
