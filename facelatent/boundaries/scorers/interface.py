"""What a scorer is: anything that says in numbers what a picture of a face looks like."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
from torch import Tensor

from facelatent.faces import Face, find_faces, steady_landmarks
from facelatent.images import to_arrays

Scores = dict[str, np.ndarray]


class Scorer(Protocol):
    """Anything that measures attributes of faces.

    Beside what is here, a scorer may carry what :func:`facts` reads: ``version`` (raise it when equal pictures get
    other numbers: stored scores of an older version are made again), ``units`` by attribute, and ``source``, one
    line on where its weights come from and what their licence allows.
    """

    name: str
    attributes: tuple[str, ...]

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> Scores:
        """Measure ``images`` [n, 3, H, W], RGB in [-1, 1]; one float array [n] an attribute, NaN where no face is.

        Args:
            images: pictures of one face each.
            faces: what :func:`locate_faces` found in them; found anew if not given.
        """
        ...


class FaceScorer:
    """Base of scorers that look at one located face after another: subclasses give the facts and :meth:`measure`.

    Attributes:
        name: what ``--scorer`` calls it.
        attributes: what it measures.
        version: raise it when equal pictures get other numbers.
        units: by attribute.
        source: where its weights come from, and what their licence allows.
    """

    name = ""
    attributes: tuple[str, ...] = ()
    version = "1"
    units: Mapping[str, str] = {}
    source = ""

    def score(self, images: Tensor, faces: list[Face | None] | None = None) -> Scores:
        """See :class:`Scorer`."""
        found = locate_faces(images) if faces is None else faces
        present = [(index, face) for index, face in enumerate(found) if face is not None]
        rows = np.full((len(images), len(self.attributes)), np.nan)
        if present:
            arrays = to_arrays(images)
            indices, shown = [index for index, _ in present], [face for _, face in present]
            rows[indices] = self.measure([arrays[index] for index in indices], shown)
        return {name: rows[:, column] for column, name in enumerate(self.attributes)}

    def measure(self, pictures: list[np.ndarray], faces: list[Face]) -> np.ndarray:
        """Values [n, len(attributes)] of ``n >= 1`` faces, each in its uint8 RGB picture [H, W, 3]."""
        raise NotImplementedError


def facts(scorer: Scorer) -> tuple[str, Mapping[str, str], str]:
    """A scorer's version, units by attribute, and source; empty where it does not say."""
    units: Mapping[str, str] = getattr(scorer, "units", {})
    return str(getattr(scorer, "version", "1")), units, str(getattr(scorer, "source", ""))


def file_version(*files: str | Path) -> str:
    """A version for scorers that are read from files: 12 hex digits of SHA-256 over their contents."""
    digest = hashlib.sha256()
    for file in files:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:12]


def locate_faces(images: Tensor) -> list[Face | None]:
    """The best face in each of ``images`` [n, 3, H, W]; None where the detector finds none.

    Landmarks are steadied, which makes measures of geometry more repeatable.
    """
    return [_best_face(array) for array in to_arrays(images)]


def _best_face(pixels: np.ndarray) -> Face | None:
    # A drawn face fills its picture: looking at twice the size takes four times as long, and rarely finds more.
    faces = find_faces(pixels, upsample=False) or find_faces(pixels)
    return replace(faces[0], landmarks=steady_landmarks(pixels, faces[0].box)) if faces else None
