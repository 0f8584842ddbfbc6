"""Which scorers there are: the built-in ones, those that installed packages bring, and those read from files."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from facelatent.boundaries.scorers.celeba import CelebaScorer
from facelatent.boundaries.scorers.colour import ColourScorer
from facelatent.boundaries.scorers.geometry import GeometryScorer
from facelatent.boundaries.scorers.glasses import GlassesScorer
from facelatent.boundaries.scorers.interface import Scorer, Scores, locate_faces
from facelatent.boundaries.scorers.networks import AgeScorer, EmotionScorer, GenderScorer
from facelatent.boundaries.scorers.onnx import OnnxScorer
from facelatent.boundaries.scorers.quality import QualityScorer
from facelatent.errors import ScorerUnavailable
from facelatent.faces import Face

#: Entry-point group in which a package names its scorers: objects, or classes and functions that make one.
GROUP = "facelatent.scorers"

#: Every scorer that comes with facelatent.
SCORERS: tuple[Scorer, ...] = (
    EmotionScorer(),
    AgeScorer(),
    GenderScorer(),
    GeometryScorer(),
    ColourScorer(),
    GlassesScorer(),
    QualityScorer(),
)


@dataclass(frozen=True)
class Catalogue:
    """What is installed.

    Attributes:
        scorers: by name, the built-in ones first.
        packages: the package that each comes from.
        broken: why a plug-in of that name cannot be used.
    """

    scorers: dict[str, Scorer]
    packages: dict[str, str]
    broken: dict[str, str]


def catalogue() -> Catalogue:
    """The scorers that come with facelatent and those of installed packages; a broken plug-in spoils nothing else."""
    found = Catalogue({one.name: one for one in SCORERS}, {one.name: "facelatent" for one in SCORERS}, {})
    for point in sorted(entry_points(group=GROUP), key=lambda point: point.name):
        package = point.dist.name if point.dist else point.value
        try:
            scorer = _loaded(point)
        except Exception as error:  # a plug-in's code may raise anything
            found.broken[point.name] = f"{package}: {type(error).__name__}: {error}"
            continue
        if scorer.name in found.scorers:
            found.broken[point.name] = f"{package}: {found.packages[scorer.name]} has a scorer {scorer.name!r} already"
            continue
        found.scorers[scorer.name], found.packages[scorer.name] = scorer, package
    return found


def find_scorers(wanted: Iterable[str | Path]) -> tuple[Scorer, ...]:
    """Scorers by their names, by attributes that they measure, or from files; each once, in the order asked for.

    Args:
        wanted: ``geometry``, ``yaw``, ``net.onnx`` (its spec beside it, ``net.json``), or a
            classifier of ``facelatent attributes train-classifier``.

    Raises:
        ScorerUnavailable: nothing has that name, a plug-in or a file is broken, or two of them measure one attribute.
        UnsupportedCheckpoint, InvalidFile: a file is not what it should be.
    """
    known = catalogue()
    chosen: dict[str, Scorer] = {}
    for one in wanted:
        scorer = _find(str(one), known)
        chosen[scorer.name] = scorer
    measured: dict[str, str] = {}
    for scorer in chosen.values():
        for attribute in scorer.attributes:
            if attribute in measured:
                raise ScorerUnavailable(
                    f"{measured[attribute]!r} and {scorer.name!r} both measure {attribute!r}; choose one of them"
                )
            measured[attribute] = scorer.name
    return tuple(chosen.values())


def score_faces(images: Tensor, scorers: Sequence[Scorer] = SCORERS, faces: list[Face | None] | None = None) -> Scores:
    """Run several scorers over ``images`` [n, 3, H, W]; detection runs once. One array [n] an attribute.

    Raises:
        ScorerUnavailable: a scorer fails, or does not give one number a picture for each attribute it names.
    """
    found = locate_faces(images) if faces is None else faces
    scores: Scores = {}
    for scorer in scorers:
        measured = scorer.score(images, found)
        for attribute in scorer.attributes:
            values = np.asarray(measured.get(attribute, ()), np.float64)
            if values.shape != (len(images),):
                raise ScorerUnavailable(
                    f"the scorer {scorer.name!r} gave {list(values.shape)} values of {attribute!r} for "
                    f"{len(images)} pictures; it must give one a picture"
                )
            scores[attribute] = values
    return scores


def _find(wanted: str, known: Catalogue) -> Scorer:
    if wanted in known.scorers:
        return known.scorers[wanted]
    for scorer in known.scorers.values():
        if wanted in scorer.attributes:
            return scorer
    if wanted in known.broken:
        raise ScorerUnavailable(f"the scorer {wanted!r} cannot be loaded from {known.broken[wanted]}")
    path = Path(wanted)
    if path.suffix == ".onnx":
        return OnnxScorer.from_files(path)
    if path.suffix == ".safetensors":
        return CelebaScorer.load(path)
    names = [*known.scorers, *(name for scorer in known.scorers.values() for name in scorer.attributes)]
    near = difflib.get_close_matches(wanted, names, n=1, cutoff=0.6)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ScorerUnavailable(
        f"no scorer is called {wanted!r} or measures it{hint} ('facelatent attributes scorers' lists them; "
        "a file ends with .onnx or .safetensors)"
    )


def _loaded(point: EntryPoint) -> Scorer:
    made: Any = point.load()
    if isinstance(made, type) or not hasattr(made, "score"):
        made = made()
    name, attributes = made.name, made.attributes
    if not isinstance(name, str) or not name or isinstance(attributes, str) or not attributes:
        raise TypeError(f"a scorer needs a name and a tuple of attributes, not {name!r} and {attributes!r}")
    if "faces" in inspect.signature(made.score).parameters:
        scorer: Scorer = made
        return scorer
    return _ImagesOnly(made)


class _ImagesOnly:
    """A plug-in whose ``score`` takes pictures alone, as one that takes located faces too."""

    def __init__(self, scorer: Any) -> None:
        self._scorer = scorer

    def __getattr__(self, key: str) -> Any:
        return getattr(self._scorer, key)

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> Scores:
        """See :class:`Scorer`."""
        scores: Scores = self._scorer.score(images)
        return scores
